"""Every option of the algorithm and of the learner, in the learner itself."""

import math
from dataclasses import replace

import pytest
import torch
from test_r1_learner import GROUPS, batch_of, gradient_of
from tiny import load_tiny_model, tiny_config

from r1.algorithm import CORRECTIONS, KL_ESTIMATORS
from r1.batching import make_train_batch
from r1.learner import Learner
from r1.presets import PRESETS

pytestmark = pytest.mark.slow


@pytest.fixture
def make_learner(tmp_path):
    learners = []

    def make(*overrides):
        options = ("num_threads=1", "learner.warmup_steps=0", "sync.verify=off", *overrides)
        learners.append(Learner(tiny_config(*options), str(tmp_path / f"weights-{len(learners)}")))
        return learners[-1]

    yield make
    for learner in learners:
        learner.close()


def two_updates(learner, num_minibatches=2):
    return [learner.update(batch_of(GROUPS, num_minibatches=num_minibatches, policy_version=version)) for version in range(2)]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_learns_with_finite_numbers(make_learner, preset):
    learner = make_learner(f"algorithm={preset}", "learner.minibatches_per_step=2")
    before = [parameter.clone() for parameter in learner.model.parameters()]
    for metrics in two_updates(learner):
        assert all(math.isfinite(value) for value in metrics.values()), metrics
        assert metrics["grad_norm"] > 0
        assert metrics["skipped_updates"] == 0
    assert any(not torch.equal(old, new) for old, new in zip(before, learner.model.parameters(), strict=True))


@pytest.mark.parametrize("num_minibatches", [1, 2])
@pytest.mark.parametrize("max_tokens", [10_000, 70])
def test_what_it_says_of_each_token_is_from_before_the_first_update(make_learner, num_minibatches, max_tokens):
    # So high a rate that the second mini-batch would see another policy.
    learner = make_learner("learner.learning_rate=0.01")
    learner.update(batch_of(GROUPS, max_tokens, num_minibatches))
    model = load_tiny_model()
    values = learner.tokens.values({0, 1})
    assert set(values) == {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)}
    for group in GROUPS:
        for completion in group.completions:
            row = torch.tensor([group.prompt.token_ids + completion.token_ids])
            logprobs = torch.log_softmax(model(row).logits[0, len(group.prompt.token_ids) - 1 : -1], -1)
            of_tokens = logprobs.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
            entropies = -(logprobs.exp() * logprobs).sum(-1)
            found = values[completion.group_id, completion.sample_id]
            assert list(found.old_logprobs) == pytest.approx(of_tokens.tolist(), abs=1e-4)
            assert list(found.entropies) == pytest.approx(entropies.tolist(), abs=1e-4)
    assert set(learner.tokens.values({1})) == {(1, 0), (1, 1)}


def test_it_keeps_nothing_where_traces_are_text(make_learner):
    learner = make_learner('logging.traces="text:0.5"')
    learner.update(batch_of(GROUPS))
    assert learner.tokens.values({0, 1}) == {}


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_a_correction_of_no_mismatch_changes_nothing(make_learner, correction):
    plain = gradient_of(make_learner(), batch_of(GROUPS))
    corrected = gradient_of(make_learner(f"algorithm.correction={correction}"), batch_of(GROUPS))
    # Engine and learner agree to 1e-6, so every weight is 1 up to that.
    assert (corrected - plain).norm() < 1e-4 * plain.norm()


def test_a_correction_reports_its_effective_samples(make_learner):
    metrics = make_learner("algorithm.correction=token_truncate").update(batch_of(GROUPS))
    assert metrics["effective_share"] == pytest.approx(1.0, abs=1e-4)
    assert metrics["correction_zero_share"] == 0.0
    assert "effective_share" not in make_learner().update(batch_of(GROUPS))


@pytest.mark.parametrize("estimator", KL_ESTIMATORS)
def test_every_kl_estimator_pulls_back_to_the_reference(make_learner, estimator):
    learner = make_learner("algorithm.kl_coef=0.1", f"algorithm.kl_estimator={estimator}")
    first, second = two_updates(learner, num_minibatches=1)
    assert first["kl"] == pytest.approx(0.0, abs=1e-6)
    assert abs(second["kl"]) > 1e-6


def test_the_policy_becomes_the_reference_every_n_steps(make_learner):
    learner = make_learner("algorithm.kl_coef=0.1", "algorithm.reference_every=2")
    first, second = two_updates(learner, num_minibatches=1)
    third = learner.update(batch_of(GROUPS, policy_version=2))
    assert (first["kl"], third["kl"]) == (pytest.approx(0.0, abs=1e-6), pytest.approx(0.0, abs=1e-6))
    assert second["kl"] > 1e-6


def test_the_entropy_bonus_raises_the_entropy(make_learner):
    # Without advantages the bonus is all there is: one step along its gradient raises the mean entropy.
    quiet = [replace(g, advantages=(0.0,) * len(g.advantages)) for g in GROUPS]
    learner = make_learner("algorithm.entropy_coef=0.1", "learner.learning_rate=1e-3", "algorithm.aggregation=token_mean")
    entropies = [learner.update(batch_of(quiet, policy_version=version))["entropy"] for version in range(3)]
    assert entropies[0] < entropies[1] < entropies[2]


def test_a_ratio_to_the_rollout_needs_no_forward_pass_before_the_first_update(make_learner):
    options = ("learner.minibatches_per_step=2", "learner.old_logprobs=rollout")
    learner, plain = make_learner(*options), make_learner("learner.minibatches_per_step=2")
    learner._old_logprobs = None  # it would fail if it were called
    ours, theirs = two_updates(learner)[0], two_updates(plain)[0]
    # Engine and learner agree to 1e-6 here, so both ratios do.
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
    assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)


def test_gradient_checkpointing_gives_the_same_gradient(make_learner):
    plain = gradient_of(make_learner(), batch_of(GROUPS))
    recomputed = gradient_of(make_learner("learner.gradient_checkpointing=true"), batch_of(GROUPS))
    assert (recomputed - plain).norm() < 1e-6 * plain.norm()


def test_a_batch_without_a_token_that_counts_changes_nothing(make_learner):

    cut = [replace(g, completions=tuple(replace(c, finish_reason="length") for c in g.completions)) for g in GROUPS]

    batch = make_train_batch(
        cut,
        step=1,
        policy_version=0,
        num_minibatches=1,
        max_tokens_per_microbatch=1000,
        max_completion_tokens=96,
        overlong_filtering=True,
    )
    learner = make_learner()
    learner.update(batch_of(GROUPS))  # Adam's momentum would move the weights on
    batch = replace(batch, policy_version=1)
    before = [parameter.clone() for parameter in learner.model.parameters()]
    metrics = learner.update(batch)
    assert (metrics["loss"], metrics["grad_norm"]) == (0.0, 0.0)
    assert all(torch.equal(old, new) for old, new in zip(before, learner.model.parameters(), strict=True))
