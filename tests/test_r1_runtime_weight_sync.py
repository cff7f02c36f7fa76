"""Order and errors of a weight sync, and of calls to workers, with fakes in Ray's place."""

import fake_ray
import pytest
import ray
from fake_ray import FakeHandle, Late

from r1.errors import RunError, SyncError
from r1.rollout.scripted_engine import ScriptedEngine
from r1.runtime import calls, weight_sync
from r1.runtime.rollout_worker import RolloutWorker
from r1.types import WeightManifest

MANIFEST = WeightManifest(policy_version=5, path="", num_bytes=0, tensors=())


@pytest.fixture
def workers(monkeypatch):
    """Two real RolloutWorkers on scripted engines, called as if through Ray."""
    monkeypatch.setattr(calls.ray, "wait", fake_ray.wait)
    monkeypatch.setattr(calls.ray, "get", fake_ray.get)
    monkeypatch.setattr("r1.runtime.rollout_worker.load_engine_class", lambda name: lambda options: ScriptedEngine(lambda *_: ""))
    made = [RolloutWorker("", None) for _ in range(2)]
    return [calls.Worker(name=f"rollout worker {i}", handle=FakeHandle(worker)) for i, worker in enumerate(made)]


def engines_of(workers):
    return [worker.handle.worker._engine for worker in workers]


def test_every_worker_goes_through_all_phases_in_order(workers):
    weight_sync.sync_weights(workers, MANIFEST, verify=True, deadline_s=60.0)
    for engine in engines_of(workers):
        assert engine.calls == ["receive_weights", "load_weights", "reset_prefix_cache", "verify_weights"]
        assert engine.policy_version == 5


def test_verification_can_be_switched_off_but_not_the_cache_reset(workers):
    weight_sync.sync_weights(workers, MANIFEST, verify=False, deadline_s=60.0)
    assert engines_of(workers)[0].calls == ["receive_weights", "load_weights", "reset_prefix_cache"]


def test_a_worker_that_stays_behind_is_named(workers, monkeypatch):
    late = engines_of(workers)[1]
    monkeypatch.setattr(late, "load_weights", lambda: None)
    failed = weight_sync.sync_weights(workers, MANIFEST, verify=True, deadline_s=60.0)
    assert {name: str(error) for name, error in failed.items()} == {
        "rollout worker 1": "rollout worker 1, phase load: holds policy version 0 instead of 5"
    }
    assert isinstance(failed["rollout worker 1"], SyncError)


@pytest.mark.parametrize(
    ("method", "phase"),
    [
        ("receive_weights", "transfer"),
        ("load_weights", "load"),
        ("reset_prefix_cache", "reset cache"),
        ("verify_weights", "verify"),
    ],
)
def test_a_failing_or_late_phase_is_named(workers, monkeypatch, method, phase):
    def late(*arguments, **options):
        raise Late

    monkeypatch.setattr(engines_of(workers)[1], method, late)
    failed = weight_sync.sync_weights(workers, MANIFEST, verify=True, deadline_s=60.0)
    assert {name: str(error) for name, error in failed.items()} == {
        "rollout worker 1": f"rollout worker 1, phase {phase}, policy version 5: no answer within the deadline of 60 s"
    }
    # The other one has gone through all phases, and this one through none after its failure.
    well, ill = (engine.calls for engine in engines_of(workers))
    assert len(well) == 4
    assert ill == well[: well.index(method)]


def test_the_first_failure_is_told_while_others_still_work(workers, monkeypatch):
    # A rank that died leaves the others waiting for it: they must not use up the deadline first.
    def slow(*arguments, **options):
        raise Late

    def broken(*arguments, **options):
        raise RunError("bits differ")

    monkeypatch.setattr(engines_of(workers)[0], "load_weights", slow)
    monkeypatch.setattr(engines_of(workers)[1], "load_weights", broken)
    with pytest.raises(RunError, match="bits differ"):
        calls.call(workers, "load_weights", phase="load", deadline_s=60.0)


@pytest.mark.ray
@pytest.mark.beside
def test_what_ray_reports_becomes_one_line(monkeypatch):
    class Moody:
        """For real Ray: an actor that can fail in each way."""

        def __init__(self, fail=False):
            if fail:
                raise ValueError("no room for the key-value cache")

        def sleep(self):
            import time

            time.sleep(60)

        def fail(self, kind):
            raise {"sync": SyncError("bits differ"), "other": KeyError("x")}[kind]

        def die(self):
            import os
            import signal

            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        actor = ray.remote(num_cpus=0)(Moody)

        def error_of(method, *arguments, fail=False, deadline_s=30.0):
            worker = calls.Worker(name="rollout worker 3", handle=actor.remote(fail))
            with pytest.raises(RunError) as caught:
                calls.call([worker], method, *arguments, phase="sample", deadline_s=deadline_s, about="step 7")
            assert "\n" not in str(caught.value)
            assert "\x1b" not in str(caught.value)
            return caught.value

        assert str(error_of("sleep", deadline_s=3.0)) == (
            "rollout worker 3, phase sample, step 7: no answer within the deadline of 3 s"
        )
        assert str(error_of("die")).startswith("rollout worker 3, phase sample, step 7: the worker died after ")
        assert str(error_of("fail", "other")) == "rollout worker 3, phase sample, step 7: KeyError: 'x'"
        kept = error_of("fail", "sync")
        assert isinstance(kept, SyncError)
        assert str(kept) == "rollout worker 3, phase sample: bits differ"
        assert str(error_of("sleep", fail=True)) == "rollout worker 3, phase start: ValueError: no room for the key-value cache"
    finally:
        ray.shutdown()
