import math
from dataclasses import replace

import pytest
import torch
from tiny import MODEL, load_tiny_model, logprobs_of, scored_group, tiny_config
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1.batching import make_train_batch
from r1.errors import RunError, SyncError, UserError
from r1.learner import MAX_SKIPPED_IN_A_ROW, Learner
from r1.shm_weights import read_tensors

GOOD, BAD, LONG = "<answer>13</answer>", "<answer>7", "<think>easy 1 2 3 4 5 6 7 8 9</think><answer>12</answer>"


@pytest.fixture
def make_learner(tmp_path):
    learners = []

    def make(*overrides):
        learners.append(Learner(tiny_config("num_threads=1", *overrides), str(tmp_path / f"weights-{len(learners)}")))
        return learners[-1]

    yield make
    for learner in learners:
        learner.close()


def batch_of(groups, max_tokens=10_000, num_minibatches=1, policy_version=0):
    return make_train_batch(
        groups,
        step=1,
        policy_version=policy_version,
        num_minibatches=num_minibatches,
        max_tokens_per_microbatch=max_tokens,
        max_completion_tokens=96,
    )


GROUPS = [scored_group("6+7=", [GOOD, BAD, LONG], [1.2, -0.8, -0.4]), scored_group("50+7=", [BAD, GOOD], [0.7, -0.7], group_id=1)]


def gradient_of(learner, batch):
    learner._forward_backward(batch.minibatches[0], None)
    gradient = torch.cat([parameter.grad.flatten() for parameter in learner.model.parameters()])
    learner.optimizer.zero_grad()
    return gradient


@pytest.mark.parametrize("aggregation", ["sequence_mean", "token_mean", "constant"])
def test_microbatches_give_the_gradient_of_the_whole_batch(make_learner, aggregation):
    learner = make_learner(f"algorithm.aggregation={aggregation}")
    whole, parts = batch_of(GROUPS), batch_of(GROUPS, max_tokens=70)
    assert [len(batch.minibatches[0].microbatches[0]) for batch in (whole, parts)] == [1, 3]
    expected, gradient = gradient_of(learner, whole), gradient_of(learner, parts)
    assert (gradient - expected).norm() < 1e-5 * expected.norm()
    assert expected.norm() > 0


def test_the_gradient_is_the_formulas(make_learner):
    # GRPO on policy, sequence_mean: gradient of -(1/2) sum_i A_i (1/L_i) sum_t log pi(t), written out with plain autograd.
    learner, model = make_learner(), load_tiny_model()
    group = scored_group("6+7=", [GOOD, LONG], [1.0, -1.0])
    loss = torch.tensor(0.0)
    for completion, advantage in zip(group.completions, group.advantages, strict=True):
        row = torch.tensor([group.prompt.token_ids + completion.token_ids])
        logprobs = torch.log_softmax(model(row).logits[0, :-1], -1).gather(1, row[0, 1:, None])[:, 0]
        loss = loss - 0.5 * advantage * logprobs[len(group.prompt.token_ids) - 1 :].mean()
    loss.backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    gradient = gradient_of(learner, batch_of([group]))
    assert (gradient - expected).norm() < 1e-4 * expected.norm()


def test_an_update_makes_the_better_completion_likelier(make_learner):
    learner = make_learner("learner.warmup_steps=0", "learner.learning_rate=1e-4")
    group = scored_group("6+7=", [GOOD, BAD], [1.0, -1.0])
    learner.update(batch_of([group]))
    before, after = load_tiny_model(), learner.model.eval()
    changes = [
        (logprobs_of(after, group.prompt.token_ids, c.token_ids) - logprobs_of(before, group.prompt.token_ids, c.token_ids)).sum()
        for c in group.completions
    ]
    assert changes[0] > 0 > changes[1]


def test_padding_does_not_change_log_probabilities(make_learner):
    learner = make_learner()
    [[micro]] = batch_of(GROUPS).minibatches[0].microbatches
    logprobs, _ = learner._logprobs(learner.policy, micro)
    # The batch holds what the shipped model says of each row alone.
    assert torch.allclose(logprobs[micro.loss_mask_BT], micro.rollout_logprobs_BT[micro.loss_mask_BT], atol=1e-4)


def test_metrics_of_an_on_policy_update(make_learner):
    metrics = make_learner().update(batch_of(GROUPS))
    assert metrics["ratio"] == pytest.approx(1.0)
    assert metrics["clip_low_share"] == metrics["clip_high_share"] == 0.0
    assert metrics["mismatch"] < 1e-5
    assert metrics["grad_norm"] > 0
    # sequence_mean on policy: minus the mean advantage, (1.2 - 0.8 - 0.4 + 0.7 - 0.7) / 5 = 0.
    assert metrics["loss"] == pytest.approx(0.0, abs=1e-6)


def test_samples_of_other_weights_are_refused_before_anything_is_learnt(make_learner):
    learner = make_learner()
    wrong = [replace(c, rollout_logprobs=tuple(x - 0.01 for x in c.rollout_logprobs)) for c in GROUPS[0].completions]
    with pytest.raises(
        SyncError, match=r"mean \|old - rollout\| log-probability is 1.00e-02, above sync.max_logprob_diff = 1e-04"
    ):
        learner.update(batch_of([replace(GROUPS[0], completions=tuple(wrong))]))
    assert learner.num_updates == 0
    reference = load_tiny_model().state_dict()
    assert all(torch.equal(tensor, reference[name]) for name, tensor in learner.model.state_dict().items())


def test_nan_log_probabilities_are_refused(make_learner):
    wrong = [replace(c, rollout_logprobs=(math.nan,) * len(c.token_ids)) for c in GROUPS[0].completions]
    with pytest.raises(SyncError, match="nan"):
        make_learner().update(batch_of([replace(GROUPS[0], completions=tuple(wrong))]))


def test_samples_of_another_version_are_refused(make_learner):
    with pytest.raises(SyncError, match="a batch for policy version 3, the learner holds 0"):
        make_learner().update(batch_of(GROUPS, policy_version=3))


def test_non_finite_updates_are_skipped_and_then_stop_the_run(make_learner):
    learner = make_learner()
    bad = [replace(GROUPS[0], advantages=(math.inf, 0.0, 0.0))]
    for attempt in range(MAX_SKIPPED_IN_A_ROW - 1):
        assert learner.update(batch_of(bad, policy_version=attempt))["skipped_updates"] == 1.0
    assert learner.num_updates == 0
    assert all(torch.isfinite(parameter).all() for parameter in learner.model.parameters())
    with pytest.raises(RunError, match="lower learner.learning_rate"):
        learner.update(batch_of(bad, policy_version=MAX_SKIPPED_IN_A_ROW - 1))


def test_several_updates_use_the_log_probabilities_from_before_the_first(make_learner):
    learner = make_learner("learner.minibatches_per_step=2", "learner.warmup_steps=0")
    metrics = learner.update(batch_of(GROUPS, num_minibatches=2))
    assert learner.num_updates == 2
    # The second update's ratio is no longer 1, while old - rollout still is 0.
    assert abs(metrics["ratio"] - 1.0) > 1e-5
    assert metrics["mismatch"] < 1e-5


def test_the_update_uses_the_scheduled_rate(make_learner):
    learner = make_learner("learner.warmup_steps=4", "learner.learning_rate=1e-3")
    # The first of four: 1/4 of 1e-3.
    assert learner.update(batch_of(GROUPS[:1]))["learning_rate"] == pytest.approx(2.5e-4)


def test_kl_to_the_reference_is_zero_at_the_start_and_needs_a_coefficient(make_learner):
    assert make_learner().reference is None
    learner = make_learner("algorithm.kl_coef=0.1", "learner.warmup_steps=0")
    assert learner.update(batch_of(GROUPS))["kl"] == pytest.approx(0.0, abs=1e-6)
    later = batch_of(GROUPS, policy_version=1)
    learner.config = learner.config.model_copy(update={"sync": learner.config.sync.model_copy(update={"verify": "off"})})
    assert learner.update(later)["kl"] > 1e-6


@pytest.mark.slow
def test_saved_and_loaded_goes_on_bitwise_the_same(make_learner, tmp_path):
    options = ("sync.verify=off", "algorithm.kl_coef=0.1")
    learner = make_learner(*options)
    learner.update(batch_of(GROUPS))
    learner.start_save(tmp_path)
    # While the files are written: what was copied is the state before this update.
    straight = learner.update(batch_of(GROUPS, policy_version=1))
    assert learner.finish_save()
    resumed = make_learner(*options)
    resumed.load(tmp_path)
    assert (resumed.policy_version, resumed.num_updates) == (1, 1)
    assert resumed.update(batch_of(GROUPS, policy_version=1)) == straight
    for ours, theirs in zip(learner.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_checkpoint_of_another_model_or_a_damaged_one_is_refused(make_learner, tmp_path):
    learner = make_learner()
    learner.start_save(tmp_path)
    learner.finish_save()
    learner.model.model.layers[0].added = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"hold 2 of \d+ weights in their shape, e.g. 'model.layers.0.added.weight'; go on"):
        learner.load(tmp_path)
    del learner.model.model.layers[0].added
    [shard] = (tmp_path / "learner").glob("*.distcp")
    shard.write_bytes(shard.read_bytes()[:5000])
    with pytest.raises(UserError, match="cannot be read .* remove that folder"):
        learner.load(tmp_path)
    metadata = tmp_path / "learner/.metadata"
    for content in (b"", metadata.read_bytes()[:500], b"0" * 500):
        metadata.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read .* remove that folder") as error:
            learner.load(tmp_path)
        assert "\n" not in str(error.value)


def test_a_state_that_cannot_be_written_is_an_error_in_the_end(make_learner, tmp_path):
    learner = make_learner()
    (tmp_path / "learner").write_text("in the way of a folder")
    learner.start_save(tmp_path)
    with pytest.raises(RunError, match="cannot write the checkpoint: FileExistsError: .*; is the disk full"):
        learner.finish_save()


@pytest.mark.slow
def test_a_reference_policy_is_saved_and_a_run_may_do_without(make_learner, tmp_path):
    learner = make_learner("algorithm.kl_coef=0.1", "algorithm.reference_every=5")
    with torch.no_grad():
        next(learner.reference.parameters()).fill_(3.0)
    learner.start_save(tmp_path)
    learner.finish_save()
    resumed = make_learner("algorithm.kl_coef=0.1", "algorithm.reference_every=5")
    resumed.load(tmp_path)
    assert next(resumed.reference.parameters()).unique().tolist() == [3.0]
    make_learner().load(tmp_path)


def test_the_export_is_the_policy(make_learner, tmp_path):
    learner = make_learner()
    learner.update(batch_of(GROUPS))
    learner.export(tmp_path / "hf")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32)
    row = torch.tensor([AutoTokenizer.from_pretrained(tmp_path / "hf")("12+34=").input_ids])
    with torch.no_grad():
        assert torch.equal(exported(row).logits, learner.model.eval()(row).logits)
        # Something was learnt, so the comparison could have failed.
        assert not torch.equal(exported(row).logits, load_tiny_model()(row).logits)
    assert (tmp_path / "hf/generation_config.json").is_file()


def test_a_generation_config_that_transformers_would_not_save_does_not_stop_an_export(make_learner, tmp_path):
    learner = make_learner()
    learner.model.generation_config.do_sample = False
    learner.model.generation_config.temperature = 0.6
    learner.export(tmp_path)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).generation_config.temperature == 0.6


def test_an_export_names_the_type_that_it_is_in(make_learner, tmp_path):
    learner = make_learner("dtype=bfloat16")
    learner.export(tmp_path)
    exported = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert (exported.dtype, exported.config.dtype) == (torch.bfloat16, torch.bfloat16)
    assert next(learner.model.parameters()).dtype == torch.float32


def test_published_weights_are_the_parameters(make_learner):
    learner = make_learner()
    manifest = learner.publish_weights()
    published = dict(read_tensors(manifest))
    assert manifest.policy_version == 0
    assert set(published) == {name for name, _ in learner.model.named_parameters()}
    assert all(torch.equal(published[name], tensor) for name, tensor in learner.model.named_parameters())


def test_the_shipped_model_ties_its_embeddings():
    # The sync's tied-head fault only shows on such a model.
    assert AutoModelForCausalLM.from_pretrained(MODEL).config.tie_word_embeddings
