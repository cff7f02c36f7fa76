from random import Random

import torch

from r1.batching import make_train_batch, padding_share
from r1.types import Completion, Prompt, ScoredGroup
from tasks.arithmetic import addition


def group(prompt_ids, completions, advantages, group_id=0, finish_reasons=None):
    prompt = Prompt(group_id=group_id, task="t", problem=addition(1, 1), text="", prefill="", token_ids=tuple(prompt_ids))
    made = tuple(
        Completion(
            group_id=group_id,
            sample_id=i,
            token_ids=tuple(ids),
            rollout_logprobs=tuple(-float(token) for token in ids),
            text="",
            finish_reason=finish_reasons[i] if finish_reasons else "stop",
            policy_version=0,
        )
        for i, ids in enumerate(completions)
    )
    return ScoredGroup(prompt=prompt, completions=made, scores=(), advantages=tuple(advantages))


def batch_of(groups, **options):
    defaults = {
        "step": 1,
        "policy_version": 0,
        "num_minibatches": 1,
        "max_tokens_per_microbatch": 1000,
        "max_completion_tokens": 8,
    }
    return make_train_batch(groups, **{**defaults, **options})


def test_rows_are_shifted_padded_and_masked():
    # Prompt 5 6, completions 7 8 9 and 7: inputs without the last token, labels one ahead.
    [minibatch] = batch_of([group([5, 6], [[7], [7, 8, 9]], [-0.5, 0.5])]).minibatches
    [[micro]] = minibatch.microbatches
    # The longer row comes first.
    assert micro.token_ids_BT.tolist() == [[5, 6, 7, 8], [5, 6, 0, 0]]
    assert micro.labels_BT.tolist() == [[6, 7, 8, 9], [6, 7, 0, 0]]
    assert micro.attention_mask_BT.tolist() == [[True] * 4, [True, True, False, False]]
    # The last prompt token predicts the first completion token.
    assert micro.loss_mask_BT.tolist() == [[False, True, True, True], [False, True, False, False]]
    assert micro.rollout_logprobs_BT.tolist() == [[0.0, -7.0, -8.0, -9.0], [0.0, -7.0, 0.0, 0.0]]
    assert micro.advantages_BT.tolist() == [[0.0, 0.5, 0.5, 0.5], [0.0, -0.5, 0.0, 0.0]]


def test_counts_are_those_of_the_whole_minibatch():
    [minibatch] = batch_of([group([5], [[7], [7, 8, 9]], [0, 0])], max_tokens_per_microbatch=1).minibatches
    assert len(minibatch.microbatches[0]) == 2
    assert (minibatch.counts.num_sequences, minibatch.counts.num_loss_tokens, minibatch.counts.max_completion_tokens) == (2, 4, 8)


def test_no_microbatch_exceeds_its_budget_and_no_row_is_lost():
    groups = [group([5] * (1 + g), [[7] * (1 + (g * s) % 5) for s in range(4)], [0.0] * 4, g) for g in range(6)]
    [minibatch] = batch_of(groups, max_tokens_per_microbatch=24).minibatches
    shapes = [micro.token_ids_BT.shape for micro in minibatch.microbatches[0]]
    assert sum(rows for rows, _ in shapes) == 24
    assert all(rows * columns <= 24 for rows, columns in shapes)
    assert sum(int(micro.loss_mask_BT.sum()) for micro in minibatch.microbatches[0]) == minibatch.counts.num_loss_tokens


def test_minibatches_share_the_groups_evenly():
    batch = batch_of([group([5], [[7], [8]], [1.0, -1.0], g) for g in range(6)], num_minibatches=3)
    assert [minibatch.counts.num_sequences for minibatch in batch.minibatches] == [4, 4, 4]


def realistic_groups(num_groups, seed=0):
    """Completion lengths as they come: log-normal, median 300, some ten times longer; prompts of 40 to 120 tokens."""
    random = Random(seed)
    lengths = [[min(4000, max(5, int(random.lognormvariate(5.7, 0.8)))) for _ in range(8)] for _ in range(num_groups)]
    return [
        group([5] * random.randint(40, 120), [[7] * length for length in of_group], [0.0] * 8, g) for g, of_group in enumerate(lengths)
    ]


def num_tokens(microbatches):
    return sum(int(micro.attention_mask_BT.sum()) for micro in microbatches)


def test_little_is_padding_for_realistic_lengths():
    for seed in range(5):
        [minibatch] = batch_of(realistic_groups(16, seed), max_tokens_per_microbatch=8192).minibatches
        assert padding_share(minibatch) <= 0.10


def test_ranks_get_about_as_many_tokens_and_exactly_as_many_microbatches():
    for num_ranks in (2, 3, 4):
        [minibatch] = batch_of(realistic_groups(16), num_ranks=num_ranks, max_tokens_per_microbatch=8192).minibatches
        loads = [num_tokens(of_rank) for of_rank in minibatch.microbatches]
        assert len(loads) == num_ranks
        assert max(loads) <= 1.05 * sum(loads) / num_ranks
        assert len({len(of_rank) for of_rank in minibatch.microbatches}) == 1
        # Nothing is lost or counted twice, and the counts are those of the whole batch whatever the ranks.
        counted = sum(int(micro.loss_mask_BT.sum()) for of_rank in minibatch.microbatches for micro in of_rank)
        assert counted == minibatch.counts.num_loss_tokens


def test_every_row_says_whose_it_is():
    groups = realistic_groups(16)
    tokens = {(c.group_id, c.sample_id): g.prompt.token_ids + c.token_ids for g in groups for c in g.completions}
    for num_ranks in (1, 3):
        batch = batch_of(groups, num_minibatches=2, num_ranks=num_ranks, max_tokens_per_microbatch=8192)
        named = []
        for minibatch in batch.minibatches:
            for micros, of_rank in zip(minibatch.microbatches, minibatch.samples, strict=True):
                for micro, keys in zip(micros, of_rank, strict=True):
                    named += keys
                    for row, key in enumerate(keys):
                        real = micro.attention_mask_BT[row]
                        assert tuple(micro.token_ids_BT[row][real].tolist()) == tokens[key][:-1]
        assert sorted(named) == sorted(tokens)


def test_a_rank_without_rows_still_takes_part():
    [minibatch] = batch_of([group([5], [[7, 8]], [0.0])], num_ranks=2).minibatches
    assert minibatch.samples == ((((0, 0),),), ((),))
    [[_], [idle]] = minibatch.microbatches
    assert not idle.loss_mask_BT.any()
    assert idle.attention_mask_BT.all()
    assert torch.equal(idle.token_ids_BT, torch.zeros((1, 1), dtype=torch.int64))


def test_overlong_filtering_leaves_truncated_completions_out_and_uncounted():
    groups = [group([5], [[7], [7, 8, 9]], [1.0, -1.0], finish_reasons=["stop", "length"])]
    [kept] = batch_of(groups).minibatches
    [filtered] = batch_of(groups, overlong_filtering=True).minibatches
    assert (kept.counts.num_sequences, kept.counts.num_loss_tokens) == (2, 4)
    assert (filtered.counts.num_sequences, filtered.counts.num_loss_tokens) == (1, 1)
    [[micro]] = filtered.microbatches
    assert micro.advantages_BT[micro.loss_mask_BT].tolist() == [1.0]


def test_a_batch_of_nothing_but_truncated_completions_has_no_token_that_counts():
    groups = [group([5], [[7, 8]], [1.0], finish_reasons=["length"])]
    [minibatch] = batch_of(groups, overlong_filtering=True).minibatches
    assert (minibatch.counts.num_sequences, minibatch.counts.num_loss_tokens) == (0, 0)
    assert not any(micro.loss_mask_BT.any() for of_rank in minibatch.microbatches for micro in of_rank)
