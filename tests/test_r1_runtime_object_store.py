"""Weights through Ray's object store between real processes that are told that they share no node."""

import os
import time

import pytest
import ray
import torch
from tiny import ROOT, engine_options, load_tiny_model

from r1 import weight_buckets
from r1.device_weights import device_checksums
from r1.errors import PublisherLost, RunError, SyncError
from r1.runtime.calls import Worker, call
from r1.runtime.weight_sync import sync_weights
from r1.runtime.whereabouts import Whereabouts

pytestmark = [pytest.mark.ray, pytest.mark.beside, pytest.mark.slow]

BUCKET = 1_000_000
"""Bytes; the tiny model has 2,439,680: three buckets."""


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}},
        )
        yield
        ray.shutdown()


@pytest.fixture
def learner(cluster, monkeypatch, tmp_path):
    """A rank that publishes the tiny model plus `shift`; `fault` says what happens on the way."""
    from r1.runtime.learner_weights import SendsWeights

    monkeypatch.setattr(weight_buckets, "BUCKET_BYTES", BUCKET)

    class Rank(SendsWeights):
        def __init__(self, model, path):
            from r1.shm_weights import ShmPublisher

            weight_buckets.BUCKET_BYTES = BUCKET
            self._publisher, self._model = ShmPublisher(path, torch.float32), model

        def publish(self, version, shift, without=()):
            tensors = [(name, tensor.detach() + shift) for name, tensor in self._model.named_parameters() if name not in without]
            return self._publisher.publish(version, tensors)

        def fault(self, kind):
            self._fault = kind

        def put_bucket(self, manifest, index):
            [bucket] = super().put_bucket(manifest, index)
            kind, piece = getattr(self, "_fault", ""), ray.get(bucket).copy()
            if kind == "flipped" and index == 1:
                piece[12345] ^= 16
            if kind == "cut" and index == 2:
                piece = piece[:-64]
            if kind == "late":
                piece = ray.get(super().put_bucket(manifest, max(0, index - 1))[0])
            return [ray.put(piece)]

    class Group:
        sendable_version = 0

    group = Group()
    handle = ray.remote(num_cpus=0)(Rank).remote(load_tiny_model(), str(tmp_path / "weights"))
    group.workers = [Worker(name="learner", handle=handle, at=Whereabouts(node_id="learner's node"))]
    yield group
    ray.kill(handle)


@pytest.fixture(scope="module")
def engines(cluster):
    from r1.runtime.rollout_worker import RolloutWorker

    class Far(RolloutWorker):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            weight_buckets.BUCKET_BYTES = BUCKET
            receive = self._engine.receive_weights

            def receive_own_copy(manifest, verify):
                assert manifest.path.startswith("/proc/"), "shared memory is forbidden here"
                receive(manifest, verify=verify)

            self._engine.receive_weights = receive_own_copy

        def weights(self):
            return device_checksums(self._engine._model.parameters())

    actor = ray.remote(num_cpus=0)(Far)
    arguments = ("r1.rollout.transformers_engine:TransformersEngine", engine_options())
    made = [Worker(name=f"engine {i}", handle=actor.remote(*arguments), at=Whereabouts(node_id=f"node {i}")) for i in range(2)]
    places = call(made, "ready", phase="start", deadline_s=120.0)
    # In truth they share this one.
    assert {(at.node_id, at.devices) for at in places} == {(ray.get_runtime_context().get_node_id(), ())}
    assert len({at.pid for at in places}) == 2
    yield made
    for worker in made:
        ray.kill(worker.handle)


def publish(learner, *arguments):
    return call(learner.workers, "publish", *arguments, phase="publish", deadline_s=60.0)[0]


def sync(engines, learner, manifest):
    return sync_weights(engines, manifest, verify=True, deadline_s=60.0, learner=learner)


def test_two_engines_elsewhere_hold_what_was_published(learner, engines):
    for version, shift in ((1, 0.01), (2, 0.02)):
        manifest = publish(learner, version, shift)
        assert (manifest.num_bytes, weight_buckets.num_buckets(manifest)) == (2_439_680, 3)
        assert sync(engines, learner, manifest) == {}
        wanted = device_checksums(parameter + shift for parameter in load_tiny_model().parameters())
        assert call(engines, "weights", phase="compare", deadline_s=60.0) == [wanted] * 2


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("flipped", "phase transfer, version 3: checksum differs for 1 of 29 tensors: model.layers."),
        ("cut", "phase transfer, version 3: bucket 2 of 3 has 439616 bytes instead of 439680"),
        ("late", "phase transfer, version 3: bucket 2 of 3 has 1000000 bytes instead of 439680"),
    ],
)
def test_damage_on_the_way_names_phase_worker_and_version(learner, engines, fault, error):
    manifest = publish(learner, 3, 0.03)
    call(learner.workers, "fault", fault, phase="fault", deadline_s=60.0)
    failed = sync(engines, learner, manifest)
    assert all(isinstance(failed[worker.name], SyncError) for worker in engines)
    assert all(error in str(failed[worker.name]) and str(failed[worker.name]).startswith(worker.name) for worker in engines)
    # Nothing was loaded, and the next sync goes well.
    call(learner.workers, "fault", "", phase="fault", deadline_s=60.0)
    assert sync(engines, learner, publish(learner, 4, 0.04)) == {}


def test_a_tensor_that_was_not_published_is_missed(learner, engines):
    failed = sync(engines, learner, publish(learner, 5, 0.05, ("model.norm.weight",)))
    for worker in engines:
        assert str(failed[worker.name]).endswith(
            "not the weights of this model: 1 tensors are missing or unknown: model.norm.weight"
        )


def test_a_bucket_that_died_with_the_learner_is_one_line(learner, engines):
    manifest = publish(learner, 6, 0.06)
    [bucket] = call(learner.workers, "put_bucket", manifest, 0, phase="put bucket", deadline_s=60.0)
    ray.kill(learner.workers[0].handle)
    lost = None
    for _ in range(60):  # until Ray has noticed
        try:
            call(engines[:1], "write_bucket", manifest, 0, bucket, phase="transfer", deadline_s=60.0)
        except RunError as error:
            lost = error
            break
        time.sleep(0.5)
    assert isinstance(lost, PublisherLost)  # it is not the engine's fault
    assert str(lost) == "engine 0, phase transfer: weight sync, phase transfer, version 6: bucket 0 is lost (OwnerDiedError)"
