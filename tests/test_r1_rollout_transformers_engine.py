from dataclasses import replace

import pytest
import torch
from tiny import engine_options, load_tiny_model, mean_difference, prompt_batch

from r1.errors import SyncError, UserError
from r1.rollout.engine import check_group, generate, load_engine_class
from r1.rollout.transformers_engine import TransformersEngine
from r1.seeds import sample_seed
from r1.shm_weights import ShmPublisher

pytestmark = pytest.mark.slow  # real models


@pytest.fixture(scope="module")
def engine():
    return TransformersEngine(engine_options(temperature=0.7, max_completion_tokens=12))


def test_log_probabilities_are_those_of_the_sampling_distribution(engine):
    groups = generate(engine, prompt_batch(["12+34=", "7+8="]))
    assert mean_difference(load_tiny_model(), groups, temperature=0.7) < 1e-5
    assert mean_difference(load_tiny_model(), groups, temperature=1.0) > 1e-2
    assert all(completion.sample_s > 0 for group in groups for completion in group.completions)


def test_the_same_seeds_give_the_same_samples_and_siblings_differ(engine):
    first, again, other = (generate(engine, prompt_batch(["12+34="], group_size=16, step=step)) for step in (1, 1, 2))
    assert first == again
    assert first != other
    assert len({completion.token_ids for completion in first[0].completions}) > 1


def test_a_text_that_stops_ends_a_completion_and_is_no_part_of_it(engine):
    batch = prompt_batch(["12+34="], group_size=8)
    [before] = generate(engine, batch)
    [after] = generate(engine, replace(batch, prompts=tuple(replace(prompt, stop=("nk",)) for prompt in batch.prompts)))
    assert any("nk" in completion.text for completion in before.completions), "some think"
    for old, new in zip(before.completions, after.completions, strict=True):
        assert new.text == old.text.partition("nk")[0]
        assert new.finish_reason == ("stop" if "nk" in old.text else old.finish_reason)


def test_at_temperature_0_it_takes_the_likeliest_token():
    greedy = TransformersEngine(engine_options(temperature=0.0, max_completion_tokens=12))
    [group] = generate(greedy, prompt_batch(["12+34="], group_size=2))
    first, second = group.completions
    assert first.token_ids == second.token_ids
    model, ids = load_tiny_model(), list(group.prompt.token_ids)
    for token in first.token_ids:
        assert token == model(torch.tensor([ids])).logits[0, -1].argmax().item()
        ids.append(token)
    assert mean_difference(model, [group]) < 1e-5


def test_a_sample_does_not_depend_on_who_else_is_in_the_batch(engine):
    alone = generate(engine, prompt_batch(["12+34="]))[0]
    beside = generate(engine, prompt_batch(["12+34=", "7+8="]))[0]
    assert alone == beside


def test_new_weights_are_used_and_the_version_grows(engine, tmp_path):
    fresh = TransformersEngine(engine_options(max_completion_tokens=12))
    model = load_tiny_model()
    for parameter in model.parameters():
        parameter.data.mul_(1.05)
    publisher = ShmPublisher(tmp_path / "w", engine._model.dtype)
    fresh.receive_weights(publisher.publish(1, model.named_parameters()), verify=True)
    assert fresh.policy_version == 0
    fresh.load_weights()
    assert mean_difference(model, generate(fresh, prompt_batch(["12+34="], policy_version=1))) < 1e-5


def test_it_refuses_another_version_than_its_own(engine):
    with pytest.raises(SyncError, match="wants samples of policy version 4, the engine holds 0"):
        generate(engine, prompt_batch(["1+1="], policy_version=4))


def test_engines_are_named_by_import_string():
    assert load_engine_class("r1.rollout.transformers_engine:TransformersEngine") is TransformersEngine
    for wrong in ("r1.rollout.transformers_engine", "r1.rollout.none:X", "r1.rollout.engine:None_"):
        with pytest.raises(UserError, match="option 'rollout.engine'"):
            load_engine_class(wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"token_ids": (999, 1)}, "outside the vocabulary"),
        ({"token_ids": (3, 54)}, "outside the vocabulary"),
        ({"token_ids": (3, -1)}, "outside the vocabulary"),
        ({"rollout_logprobs": (float("nan"), -1.0)}, "not finite or above 0"),
        ({"rollout_logprobs": (-1.0, float("nan"))}, "not finite or above 0"),
        ({"rollout_logprobs": (float("-inf"), -1.0)}, "not finite or above 0"),
        ({"rollout_logprobs": (0.5, -1.0)}, "not finite or above 0"),
        ({"rollout_logprobs": (-1.0,)}, "2 tokens with 1 log-probabilities"),
        ({"token_ids": (), "rollout_logprobs": ()}, "0 tokens with 0"),
    ],
)
def test_what_no_healthy_engine_returns_is_refused(engine, change, message):
    [group] = generate(engine, prompt_batch(["1+1="], group_size=1))
    good = replace(group.completions[0], token_ids=(3, 1), rollout_logprobs=(-0.5, -1.0))
    check_group(group.prompt, [good], 54)
    with pytest.raises(SyncError, match=message):
        check_group(group.prompt, [replace(good, **change)], 54)


def test_no_two_samples_of_a_run_share_a_seed():
    seeds = {sample_seed(0, step, group, sample) for step in range(20) for group in range(20) for sample in range(20)}
    assert len(seeds) == 8000
