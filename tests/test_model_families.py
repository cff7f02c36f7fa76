"""A tiny random model of each family through learner, export, engine and weight sync.

All of them with transformers as the engine (a second each) and with real vLLM: its CPU build of 0.32 runs every one.
"""

from dataclasses import replace

import pytest
import torch
from test_r1_policy_model import FAMILIES, make_family
from tiny import engine_options, mean_difference, prompt_batch, tiny_config

from r1.batching import make_train_batch
from r1.errors import SyncError
from r1.learner import Learner
from r1.policy_model import load_model
from r1.rollout.engine import generate
from r1.rollout.transformers_engine import TransformersEngine
from r1.types import ScoredGroup

pytestmark = pytest.mark.slow

BOUND = 1e-4
"""sync.max_logprob_diff in float32."""

WITHOUT_PLAN = {"gpt2", "gptj", "glm4", "qwen2_moe", "qwen3_moe", "deepseek_v3"}
"""What vLLM turns, renames or packs in another way than a plan knows: each of their loads is vLLM's own."""


@pytest.fixture
def learner(request, tmp_path):
    path = make_family(request.param, tmp_path / request.param)
    options = ("num_threads=1", "learner.warmup_steps=0", "learner.learning_rate=1e-3")
    learner = Learner(tiny_config(f"model.path={path}", *options), str(tmp_path / "weights"))
    yield learner
    learner.close()


def learn(learner, groups):
    """One update on rollouts; the learner itself refuses them when mean |old - rollout| is above the bound."""
    scored = [
        ScoredGroup(prompt=g.prompt, completions=g.completions, scores=(), advantages=(1.0, -1.0) * (len(g.completions) // 2))
        for g in groups
    ]
    version = learner.policy_version
    batch = make_train_batch(
        scored,
        step=version + 1,
        policy_version=version,
        num_minibatches=1,
        max_tokens_per_microbatch=200,
        max_completion_tokens=32,
    )
    metrics = learner.update(batch)
    assert metrics["mismatch"] < BOUND
    assert metrics["grad_norm"] > 0
    assert metrics["skipped_updates"] == 0


def sync(engine, manifest):
    engine.receive_weights(manifest, verify=True)
    engine.load_weights()
    engine.reset_prefix_cache()
    engine.verify_weights()


def sample(engine):
    version = engine.policy_version
    return generate(engine, prompt_batch(["12+34=", "5+8="], group_size=4, policy_version=version, step=version + 1))


def learn_export_sample_and_sync(learner, engine_class, tmp_path):
    """Export, sample from the exported folder, learn, sync, and sample and learn again."""
    with torch.no_grad():
        for parameter in learner.model.parameters():
            parameter.mul_(1.05)  # what is exported is not what was loaded
    learner.export(tmp_path / "hf")
    exported, row = load_model(str(tmp_path / "hf")).eval(), torch.arange(2, 40)[None]
    with torch.no_grad():
        assert torch.equal(exported(row).logits, learner.model(row).logits)
    engine = engine_class(replace(engine_options(), model_path=str(tmp_path / "hf")))
    try:
        first = sample(engine)
        assert mean_difference(exported, first) < BOUND  # against transformers' own logits, not the learner's code
        learn(learner, first)
        sync(engine, learner.publish_weights())
        second = sample(engine)
        assert mean_difference(learner.model, second) < BOUND
        assert mean_difference(exported, second) > 10 * BOUND  # the update moved the policy: an engine left behind would show
        learn(learner, second)
        # Once more: the second load follows the plan that vLLM's engine made of the first.
        sync(engine, learner.publish_weights())
        third = sample(engine)
        assert mean_difference(learner.model, third) < BOUND
        learn(learner, third)
        return engine
    finally:
        engine.close()


@pytest.mark.parametrize("learner", FAMILIES, indirect=True)
def test_with_the_transformers_engine(learner, tmp_path):
    learn_export_sample_and_sync(learner, TransformersEngine, tmp_path)


@pytest.mark.parametrize("learner", FAMILIES, indirect=True)
def test_with_vllm(learner, tmp_path):
    from r1.rollout.vllm_engine import VllmEngine

    engine = learn_export_sample_and_sync(learner, VllmEngine, tmp_path)
    [has_plan] = engine._llm.collective_rpc(lambda worker: worker.weight_transfer_engine.plan is not None)
    assert has_plan == (learner.config.model.path.rpartition("/")[2] not in WITHOUT_PLAN)


@pytest.mark.parametrize("learner", ["qwen3_moe"], indirect=True)
def test_experts_that_are_not_packed_again_are_caught_twice(learner, monkeypatch):
    from r1.rollout import vllm_engine, vllm_weights

    engine = vllm_engine.VllmEngine(replace(engine_options(), model_path=learner.config.model.path))
    try:
        with monkeypatch.context() as patch:
            patch.setattr(vllm_weights, "repack_experts", lambda model: None)
            with pytest.raises(SyncError, match=r"2 layers compute with other weights .*: model.layers.0.mlp.experts"):
                sync(engine, learner.publish_weights())
        # Also without that proof: the learner's bound on mean |old - rollout| refuses the samples.
        assert mean_difference(learner.model, sample(engine)) > BOUND
        manifest = learner.publish_weights()
        sync(engine, manifest)
        assert mean_difference(learner.model, sample(engine)) < BOUND
        # One expert's weight, one unit in the last place, changes behind the engine's back.
        with torch.no_grad():
            weight = learner.model.model.layers[1].mlp.experts.down_proj[3].view(-1)[7:8]
            weight.copy_(torch.nextafter(weight, torch.tensor(10.0)))
        learner.publish_weights()
        with pytest.raises(SyncError, match=r"1 layers compute with other weights .*: model.layers.1.mlp.experts"):
            engine.verify_weights()
    finally:
        engine.close()
