"""Every fault that a weight sync is to find, put in where it happens, with the real engine: found in the step where it happens.

Beside each stands the same fault with sync.verify=off, where nothing is said: these tests would notice a check that does nothing.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import fake_ray
import pytest
import torch
from fake_ray import FakeHandle, Late
from test_r1_rollout_vllm_engine import BOUND, sample
from test_r1_shm_weights import flip_one_bit
from tiny import engine_options, mean_difference, prompt_batch, tiny_config

from r1.batching import make_train_batch
from r1.errors import SyncError
from r1.learner import Learner
from r1.rollout.engine import generate
from r1.rollout.vllm_packing import packed_from
from r1.runtime import calls
from r1.runtime.rollout_worker import RolloutWorker
from r1.runtime.weight_sync import sync_weights
from r1.types import ScoredGroup

pytestmark = pytest.mark.slow

VICTIM = "model.layers.1.mlp.down_proj.weight"
VICTIM_LAYER = VICTIM.removesuffix(".weight")


class Bench:
    """A learner in this process, and a rollout worker on the real engine that is called as if through Ray."""

    def __init__(self, engine, learner, worker):
        self.engine, self.learner = engine, learner
        self.workers = [calls.Worker(name="rollout worker 0", handle=FakeHandle(worker))]
        self.next_seed = 1

    def learn(self):
        """Stands for an update: every weight changes, the version grows."""
        generator = torch.Generator().manual_seed(self.next_seed)
        self.next_seed += 1
        for parameter in self.learner.policy.parameters():
            parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
        self.learner.policy_version += 1

    def sync(self, manifest, *, verify=True):
        failed = sync_weights(self.workers, manifest, verify=verify, deadline_s=60.0)
        return [str(error) for error in failed.values()]

    def update(self, verify):
        """The step's own update, on what the engine samples now."""
        self.learner.config = tiny_config(f"sync.verify={verify}")
        groups = sample(self.engine)
        scored = [ScoredGroup(prompt=g.prompt, completions=g.completions, scores=(), advantages=(1.0, -1.0) * 4) for g in groups]
        batch = make_train_batch(
            scored,
            step=self.learner.policy_version + 1,
            policy_version=self.learner.policy_version,
            num_minibatches=1,
            max_tokens_per_microbatch=4096,
            max_completion_tokens=32,
        )
        return self.learner.update(batch)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    from r1.rollout.vllm_engine import VllmEngine

    engine = VllmEngine(engine_options())
    learner = Learner(tiny_config("learner.warmup_steps=0"), str(tmp_path_factory.mktemp("shm") / "weights"))
    yield engine, learner
    learner.close()
    engine.close()


@pytest.fixture
def bench(started, monkeypatch):
    engine, learner = started
    monkeypatch.setattr(calls.ray, "wait", fake_ray.wait)
    monkeypatch.setattr(calls.ray, "get", fake_ray.get)
    monkeypatch.setattr("r1.runtime.rollout_worker.load_engine_class", lambda name: lambda options: engine)
    bench = Bench(engine, learner, RolloutWorker("", None))
    bench.learn()
    assert bench.sync(learner.publish_weights()) == []
    return bench


def flipped_bit(bench, manifest, patch):
    """An exponent bit of the largest weight: it is four times as large, or a quarter."""
    spec = next(spec for spec in manifest.tensors if spec.name == VICTIM)
    largest = dict(bench.learner.model.named_parameters())[VICTIM].abs().argmax().item()
    flip_one_bit(manifest.path, spec.offset + 4 * largest + 3)
    return manifest


def missing_tensor(bench, manifest, patch):
    return replace(manifest, tensors=tuple(spec for spec in manifest.tensors if spec.name != VICTIM))


def truncated_file(bench, manifest, patch):
    os.truncate(manifest.path, manifest.num_bytes // 2)
    return manifest


def truncated_file_filled_up(bench, manifest, patch):
    os.truncate(manifest.path, manifest.num_bytes // 2)
    os.truncate(manifest.path, manifest.num_bytes)
    return manifest


def stale_lm_head(bench, manifest, patch):
    patch.setattr("r1.rollout.vllm_weights.repack_tied_output_heads", lambda model: None)
    return manifest


def previous_manifest(bench, manifest, patch):
    receive, previous = bench.engine.receive_weights, bench.engine._manifest
    patch.setattr(bench.engine, "receive_weights", lambda manifest, *, verify: receive(previous, verify=verify))
    return manifest


def stays_behind(bench, manifest, patch):
    patch.setattr(bench.engine, "load_weights", lambda: None)
    # So that vLLM does not take the update for unfinished.
    patch.setattr(bench.engine, "receive_weights", lambda manifest, *, verify: None)
    return manifest


def only_says_that_it_loaded(bench, manifest, patch):
    stays_behind(bench, manifest, patch)
    patch.setattr(bench.engine, "load_weights", lambda: setattr(bench.engine, "policy_version", manifest.policy_version))
    return manifest


def late_worker(bench, manifest, patch):
    def late():
        raise Late

    patch.setattr(bench.engine, "load_weights", late)
    patch.setattr(bench.engine, "receive_weights", lambda manifest, *, verify: None)
    return manifest


@dataclass
class Fault:
    inject: Callable
    found: str
    """What the sync says of it."""
    second_line: str
    """What finds it when the sync is not verified: the learner's bound on mean |old - rollout|, the engine's own version,
    or the sync all the same."""


FAULTS = [
    Fault(flipped_bit, rf"phase verify: .*1 layers compute with other weights than the published ones: {VICTIM_LAYER}", "bound"),
    Fault(missing_tensor, rf"phase verify: .*1 layers compute with other weights than the published ones: {VICTIM}", "bound"),
    Fault(truncated_file, r"phase transfer: .*has \d+ bytes, the manifest says \d+", "sync"),
    Fault(truncated_file_filled_up, r"phase verify: .*\d+ layers compute with other weights", "bound"),
    Fault(stale_lm_head, "phase verify: .*1 layers compute with other weights than the published ones: lm_head", "bound"),
    Fault(previous_manifest, r"phase load: holds policy version \d+ instead of \d+", "version"),
    Fault(stays_behind, r"phase load: holds policy version \d+ instead of \d+", "version"),
    Fault(only_says_that_it_loaded, r"phase verify: .*(reports version|compute with other weights)", "bound"),
    Fault(late_worker, "phase load, policy version .*: no answer within the deadline of 60 s", "sync"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.inject.__name__)
def test_a_fault_is_found_in_the_step_where_it_happens(bench, monkeypatch, fault):
    bench.learn()
    with monkeypatch.context() as patch:
        [text] = bench.sync(fault.inject(bench, bench.learner.publish_weights(), patch))
    assert text.startswith("rollout worker 0, ")
    assert re.search(fault.found, text), text

    # The same fault, not verified.
    bench.learn()
    with monkeypatch.context() as patch:
        unverified = bench.sync(fault.inject(bench, bench.learner.publish_weights(), patch), verify=False)
        if fault.second_line == "sync":
            assert len(unverified) == 1
        else:
            assert unverified == []
        wanted = prompt_batch(["12+34="], policy_version=bench.learner.policy_version)
        if fault.second_line == "version":
            with pytest.raises(SyncError, match="wants samples of policy version"):
                generate(bench.engine, wanted)
        if fault.second_line == "bound":
            assert bench.engine.policy_version == bench.learner.policy_version
            with pytest.raises(SyncError, match=r"mean \|old - rollout\| log-probability is .*above sync.max_logprob_diff"):
                bench.update("on")
            bench.learner.optimizer.zero_grad(set_to_none=True)
            assert bench.update("off")["mismatch"] > BOUND  # and nobody has said anything

    # What follows is whole again.
    bench.learn()
    assert bench.sync(bench.learner.publish_weights()) == []
    assert mean_difference(bench.learner.model, sample(bench.engine)) < 1e-5
    assert bench.update("on")["mismatch"] < 1e-5


def layers_of(engine):
    found = {}
    engine._llm.collective_rpc(lambda worker: found.update(worker.model_runner.model.named_modules()))
    return found


def test_the_note_of_what_was_packed_is_enough(bench, monkeypatch):
    """As in a large model, where most layers are not probed: one bit outside of all probed columns is noticed."""
    monkeypatch.setattr("r1.rollout.vllm_proof.columns_by_layer", lambda numels, first: ({}, first))
    for part, layer in (("self_attn.k_proj", "self_attn.qkv_proj"), ("mlp.down_proj", "mlp.down_proj")):
        weight = bench.learner.model.get_parameter(f"model.layers.1.{part}.weight").data
        weight[0, 1] = torch.nextafter(weight[0, 1], torch.tensor(10.0))
        bench.engine._manifest = replace(bench.learner.publish_weights(), policy_version=bench.engine.policy_version)
        with pytest.raises(SyncError, match=f"1 layers compute with other weights than the published ones: model.layers.1.{layer}"):
            bench.engine.verify_weights()
        assert bench.sync(bench.learner.publish_weights()) == []


def test_a_kernel_that_multiplies_with_something_else_is_found_by_a_probe(bench, monkeypatch):
    layer = layers_of(bench.engine)["model.layers.2.mlp.down_proj"]
    multiply = layer.cpu_linear

    def wrong(x, weight, bias):
        return multiply(x, weight, bias) + 1e-6

    wrong.packed_from = multiply.packed_from
    monkeypatch.setattr(layer, "cpu_linear", wrong)
    with pytest.raises(SyncError, match="1 layers compute with other weights .*: model.layers.2.mlp.down_proj"):
        bench.engine.verify_weights()


def test_what_was_packed_without_a_note_is_probed_in_full(bench, monkeypatch):
    monkeypatch.setattr("r1.rollout.vllm_proof.columns_by_layer", lambda numels, first: ({}, first))
    bench.learn()
    assert bench.sync(bench.learner.publish_weights(), verify=False) == []  # takes no notes
    assert packed_from(layers_of(bench.engine)["lm_head"]) is None
    bench.engine.verify_weights()
    bench.learn()
    bench.learner.publish_weights()  # behind the engine's back
    with pytest.raises(SyncError, match="layers compute with other weights"):
        bench.engine.verify_weights()
