"""1, 2 and 4 rollout workers sample the same tokens: real Ray, real vLLM, the quickstart in float32.

Where two engines differ, the difference is traced: vLLM adds noise to each token's logit and takes the largest sum. The noise is
a function of the sample's seed, the position and the token, so it is drawn again here. Only a tie of two sums may fall either way.
"""

import pytest
import torch
from tiny import load_tiny_model, tiny_config

from r1.faults import FaultLog
from r1.preflight import prepare
from r1.runtime.cluster import Resources, connected
from r1.runtime.rollout_pool import RolloutPool
from r1.seeds import sample_seed
from r1.shm_weights import ShmPublisher, new_buffer_path
from r1.types import Progress

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.beside, pytest.mark.timeout(1500)]

NUM_STEPS = 3
MARGIN = 1e-4
"""Log-probabilities of engine and transformers differ by 1e-6; sums that are nearer than this are a tie."""


def sampled_by(num_workers):
    """(step, group_id, sample_id) -> (prompt's tokens, completion's tokens), of NUM_STEPS batches of 16 x 16."""
    config = tiny_config(f"rollout.num_workers={num_workers}")
    stream, faults = prepare(config).problems.train, FaultLog()
    publisher = ShmPublisher(new_buffer_path(), torch.float32)
    found = {}
    with connected(num_workers):
        pool = RolloutPool(config, Resources(num_cpus=1, count=num_workers), faults)
        pool.wait_until_ready()
        pool.load_weights(publisher.publish(0, load_tiny_model().named_parameters()))
        for step in range(NUM_STEPS):
            progress = Progress(step=step, num_prompts_drawn=16 * step)
            batch = stream.batch(progress, num_prompts=16, group_size=16)
            pool.submit(batch)
            for group in pool.collect(batch):
                for completion in group.completions:
                    key = (batch.step, group.prompt.group_id, completion.sample_id)
                    assert key not in found
                    found[key] = (group.prompt.token_ids, completion.token_ids)
    publisher.close()
    assert faults.faults == []
    return found


def noise_seeds(key, length):
    """What seeds the noise of each position: the next number of the request's own generator, as in vLLM's sampler."""
    step, group_id, sample_id = key
    generator = torch.Generator().manual_seed(sample_seed(tiny_config().seed, step, group_id, sample_id))
    return torch.cat([torch.randint(0, 2**31, (1,), generator=generator) for _ in range(length)])


@torch.no_grad()
def logits_of(model, prompt_ids, completion_ids):
    return model(torch.tensor([prompt_ids + completion_ids])).logits[0, len(prompt_ids) - 1 : -1].float()


def chosen(logits_LV, seeds_L):
    return torch.ops._C.fused_gumbel_argmax(logits_LV.contiguous(), seeds_L)


def are_tied(logits_V, seed, tokens):
    """Whether MARGIN on its logit lets each of the tokens win."""
    raised = logits_V.repeat(len(tokens), 1)
    raised[torch.arange(len(tokens)), tokens] += MARGIN
    return chosen(raised, seed.repeat(len(tokens))).tolist() == list(tokens)


def untraced(model, sampled, key_of=lambda key: key):
    """Positions whose token is neither what the noise chooses nor tied with it."""
    found = []
    for key, (prompt_ids, completion_ids) in sampled.items():
        logits_LV, seeds_L = logits_of(model, prompt_ids, completion_ids), noise_seeds(key_of(key), len(completion_ids))
        for position in (chosen(logits_LV, seeds_L) != torch.tensor(completion_ids)).nonzero()[:, 0].tolist():
            tokens = [completion_ids[position], chosen(logits_LV, seeds_L)[position].item()]
            if not are_tied(logits_LV[position], seeds_L[position], tokens):
                found.append((key, position))
    return found


def test_the_number_of_workers_does_not_change_what_is_sampled():
    sampled = {num_workers: sampled_by(num_workers) for num_workers in (1, 2, 4)}
    import vllm._custom_ops  # noqa: F401  registers the sampler's kernel

    model = load_tiny_model()
    one = sampled[1]
    assert len(one) == NUM_STEPS * 256
    # Every token of one worker is the one that its seed chooses. With another sample's seeds two of each completion are not:
    # the model is sure of most of its tokens.
    assert untraced(model, one) == []
    some = dict(list(one.items())[:20])
    assert len(untraced(model, some, lambda key: (*key[:2], key[2] + 1))) > 20

    for num_workers in (2, 4):
        other = sampled[num_workers]
        assert other.keys() == one.keys()
        assert all(other[key][0] == one[key][0] for key in one)
        different = [key for key in one if other[key][1] != one[key][1]]
        print(f"{num_workers} workers: {len(different)} of {len(one)} completions differ: {different}")
        assert len(different) <= len(one) / 1000
        for key in different:
            prompt_ids, ours, theirs = *one[key], other[key][1]
            position = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
            logits_LV, seeds_L = logits_of(model, prompt_ids, ours), noise_seeds(key, len(ours))
            assert are_tied(logits_LV[position], seeds_L[position], [ours[position], theirs[position]]), key
        # What follows a tie is again what its seed chooses.
        assert untraced(model, {key: other[key] for key in different}) == []
