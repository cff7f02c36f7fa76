"""Each transport's calls to learner and engines, in order, and what happens when one of them fails. No Ray, no vLLM."""

from collections import Counter
from dataclasses import replace

import fake_ray
import pytest
from fake_ray import Dead, FakeHandle, FakeReference, Late

from r1 import weight_buckets
from r1.errors import RunError, SyncError, WorkerLost
from r1.runtime import calls, transports
from r1.runtime.calls import Worker
from r1.runtime.transports import new_transports
from r1.runtime.weight_sync import WeightSync, sync_weights
from r1.runtime.whereabouts import Whereabouts
from r1.types import WeightManifest

ON_GPU = WeightManifest(policy_version=5, path="", num_bytes=250, tensors=(), checksum_kind="device")
IN_FILE = WeightManifest(policy_version=5, path="/dev/shm/w", num_bytes=250, tensors=())


class Recorder:
    """A worker or a rank that writes down what it is called with; `answers` may hold results or exceptions by method."""

    def __init__(self, name, log, **answers):
        self.name, self.log, self.answers = name, log, answers

    def __getattr__(self, method):
        def answer(*arguments):
            self.log.append((self.name, method, *arguments))
            result = self.answers.get(method)
            result = result(*arguments) if callable(result) and not isinstance(result, type) else result
            if isinstance(result, BaseException) or (isinstance(result, type) and issubclass(result, BaseException)):
                raise result
            return result

        return answer


class EagerHandle(FakeHandle):
    """Starts at once, as a real actor does: so that what is sent is there when it is received."""

    def __getattr__(self, name):
        def remote(*arguments):
            reference = FakeReference(lambda: getattr(self.worker, name)(*arguments))
            reference.is_ready()
            return reference

        return type("Method", (), {"remote": staticmethod(remote)})


class FakeLearner:
    def __init__(self, log, places, **answers):
        answers = {"meeting_point": "tcp://10.0.0.1:4000", "put_bucket": lambda manifest, index: [f"bucket {index}"], **answers}
        self.sendable_version = 5
        self.workers = [
            Worker(name=f"rank {i}", handle=EagerHandle(Recorder(f"rank {i}", log, **answers)), at=at(node_id, devices, i))
            for i, (node_id, *devices) in enumerate(places)
        ]


def at(node_id, devices, pid):
    return Whereabouts(node_id=node_id, devices=tuple(devices), pid=pid)


def engine(index, log, node_id, *devices, pid=None, **answers):
    name = f"engine {index}"
    recorder = Recorder(name, log, **{"load_weights": 5, **answers})
    return Worker(name=name, handle=EagerHandle(recorder), at=at(node_id, devices, pid or 100 + index))


@pytest.fixture
def log(monkeypatch):
    monkeypatch.setattr(calls.ray, "wait", fake_ray.wait)
    monkeypatch.setattr(calls.ray, "get", fake_ray.get)
    monkeypatch.setattr(weight_buckets, "BUCKET_BYTES", 100)  # 250 bytes: three buckets
    return []


def sync(workers, manifest, learner, ways=None):
    return sync_weights(workers, manifest, verify=True, deadline_s=60.0, learner=learner, transports=ways)


def of(log, *methods):
    return [entry for entry in log if entry[1] in methods]


AFTERWARDS = ["load_weights", "reset_prefix_cache", "verify_weights"]


def test_one_publish_serves_a_shared_node_and_the_object_store(log):
    workers = [engine(0, log, "n1"), engine(1, log, "n2"), engine(2, log, "n3")]
    assert sync(workers, IN_FILE, FakeLearner(log, [("n1",), ("n4",)])) == {}
    near, far = ([entry[1:] for entry in log if entry[0] == name] for name in ("engine 0", "engine 1"))
    assert near[0] == ("receive_weights", IN_FILE, True)
    assert far[:4] == [("write_bucket", IN_FILE, i, [f"bucket {i}"]) for i in range(3)] + [("receive_copy", IN_FILE, True)]
    assert [entry[0] for entry in near[1:]] == [entry[0] for entry in far[4:]] == AFTERWARDS
    # Each bucket is put there once, by the first rank, and taken by both before the next one comes.
    assert [entry[:2] + entry[-1:] for entry in of(log, "put_bucket")] == [("rank 0", "put_bucket", i) for i in range(3)]
    assert [entry[1] for entry in of(log, "put_bucket", "write_bucket")] == ["put_bucket", "write_bucket", "write_bucket"] * 3


def test_nothing_is_put_into_the_object_store_that_nobody_needs(log):
    sync([engine(0, log, "n1")], IN_FILE, FakeLearner(log, [("n1",)]))
    assert [entry[0] for entry in log] == ["engine 0"] * 4
    del log[:]
    lost = engine(0, log, "n2", write_bucket=Dead)
    assert isinstance(sync([lost], IN_FILE, FakeLearner(log, [("n1",)]))["engine 0"], WorkerLost)
    assert len(of(log, "put_bucket")) == 1


def test_a_learner_on_gpus_writes_a_file_only_for_engines_that_need_one(log):
    learner = FakeLearner(log, [("n1", "g0")], publish_file=IN_FILE)
    sync([engine(0, log, "n1"), engine(1, log, "n2")], ON_GPU, learner)
    assert len(of(log, "publish_file")) == 1
    assert of(log, "receive_weights", "receive_copy") == [
        ("engine 0", "receive_weights", IN_FILE, True),
        ("engine 1", "receive_copy", IN_FILE, True),
    ]


def test_nccl_members_have_ranks_of_their_own_and_the_learner_sends_while_they_receive(log):
    learner = FakeLearner(log, [("n1", "g0"), ("n1", "g1")])
    workers = [engine(0, log, "n1", "g2", "g3"), engine(1, log, "n2", "g4"), engine(2, log, "n2", "g5", "g6")]
    assert sync(workers, ON_GPU, learner) == {}
    point = "tcp://10.0.0.1:4000"
    assert log[:3] == [(f"engine {index}", "ready") for index in range(3)]
    assert log[3:12] == [
        ("rank 0", "meeting_point"),
        ("rank 0", "join_transfer", point, 6),
        ("rank 1", "join_transfer", point, 6),
        ("engine 0", "join_transfer", point, 6, 1),  # and 2
        ("engine 1", "join_transfer", point, 6, 3),
        ("engine 2", "join_transfer", point, 6, 4),  # and 5
        # All ranks send, since all are needed to gather; before the engines are waited for.
        ("rank 0", "send_weights", ON_GPU),
        ("rank 1", "send_weights", ON_GPU),
        ("engine 0", "receive_weights", ON_GPU, True),
    ]
    assert [entry[1] for entry in log if entry[0] == "engine 2"] == ["ready", "join_transfer", "receive_weights", *AFTERWARDS]


def test_an_engine_that_died_before_the_sync_holds_nobody_up_in_the_broadcast(log):
    learner, ways = FakeLearner(log, [("n1", "g0")]), new_transports()
    workers = [engine(0, log, "n1", "g1"), engine(1, log, "n1", "g2")]
    assert sync(workers, ON_GPU, learner, ways) == {}
    del log[:]
    failed = sync([workers[0], engine(1, log, "n1", "g2", ready=Dead)], ON_GPU, learner, ways)
    assert list(failed) == ["engine 1"]
    # Without it, and in a group of their own.
    assert of(log, "join_transfer") == [
        ("rank 0", "join_transfer", "tcp://10.0.0.1:4000", 2),
        ("engine 0", "join_transfer", "tcp://10.0.0.1:4000", 2, 1),
    ]
    assert [entry[0] for entry in of(log, "receive_weights")] == ["engine 0"]


def test_the_nccl_group_is_formed_anew_only_when_its_members_changed(log):
    learner, ways = FakeLearner(log, [("n1", "g0")]), new_transports()
    workers = [engine(0, log, "n1", "g1"), engine(1, log, "n1", "g2")]
    num_connects = []
    for changed in (workers, workers, [workers[0], engine(1, log, "n1", "g2", pid=999)], workers[:1]):
        sync(changed, ON_GPU, learner, ways)
        num_connects.append(len(of(log, "meeting_point")))
    assert num_connects == [1, 1, 2, 3]
    learner.workers = [replace(learner.workers[0], at=at("n1", ["g0"], 77))]  # started again
    sync(workers[:1], ON_GPU, learner, ways)
    assert len(of(log, "meeting_point")) == 4


def test_an_engine_that_refuses_what_it_received_does_not_take_the_others_along(log):
    learner, ways = FakeLearner(log, [("n1", "g0")]), new_transports()
    workers = [engine(0, log, "n1", "g1"), engine(1, log, "n1", "g2")]
    assert sync(workers, ON_GPU, learner, ways) == {}
    del log[:]
    workers[1].handle.worker.answers["receive_weights"] = SyncError("3 tensors are wrong")
    failed = sync(workers, ON_GPU, learner, ways)
    assert {name: str(error) for name, error in failed.items()} == {"engine 1": "engine 1, phase transfer: 3 tensors are wrong"}
    assert [entry[0] for entry in of(log, "verify_weights")] == ["engine 0"]
    assert not of(log, "meeting_point")
    sync(workers, ON_GPU, learner, ways)
    assert len(of(log, "meeting_point")) == 1  # nobody knows what is left in the old group


def test_a_learner_that_hangs_because_an_engine_died_is_lost_and_says_why(log):
    learner = FakeLearner(log, [("n1", "g0")], send_weights=Late)
    dead = engine(0, log, "n1", "g1", receive_weights=Dead)
    with pytest.raises(
        WorkerLost, match=r"^rank 0, phase transfer, policy version 5: no answer .*, after engine 0, phase transfer"
    ):
        sync([dead], ON_GPU, learner)
    # Its own mistakes keep their class.
    with pytest.raises(RunError, match="rank 0, phase transfer, policy version 5: ValueError: metadata"):
        sync([engine(0, log, "n1", "g1")], ON_GPU, FakeLearner(log, [("n1", "g0")], send_weights=ValueError("metadata")))


def test_a_group_that_one_engine_does_not_join_is_no_group(log):
    workers = [engine(0, log, "n1", "g1"), engine(1, log, "n1", "g2", join_transfer=RuntimeError("no route"))]
    failed = sync(workers, ON_GPU, FakeLearner(log, [("n1", "g0")]))
    assert str(failed["engine 1"]) == "engine 1, phase connect, policy version 5: RuntimeError: no route"
    assert str(failed["engine 0"]) == "engine 0, phase connect: its group needs engine 1 too"
    assert not of(log, "send_weights", "load_weights")


def shared_buckets(rank, num_buckets=2, names=("a", "b")):
    def next_bucket(manifest, index):
        return {"names": [names[index]], "ipc_handles": {f"g{rank}": f"handle {index}"}} if index < num_buckets else None

    return next_bucket


def test_ipc_engines_read_each_bucket_before_the_next_one_takes_its_place(log):
    learner = FakeLearner(log, [("n1", "g0"), ("n1", "g1")])
    for rank, worker in enumerate(learner.workers):
        worker.handle.worker.answers["next_bucket"] = shared_buckets(rank)
    assert sync([engine(0, log, "n1", "g1"), engine(1, log, "n1", "g0")], ON_GPU, learner) == {}
    both = [{"names": [name], "ipc_handles": {"g0": f"handle {i}", "g1": f"handle {i}"}} for i, name in enumerate("ab")]
    assert [entry[1:] for entry in log if entry[0] == "engine 0"] == [
        ("receive_bucket", ON_GPU, True, 0, both[0]),
        ("receive_bucket", ON_GPU, True, 1, both[1]),
        ("receive_weights", ON_GPU, True),
        *[(method,) for method in AFTERWARDS],
    ]
    assert [entry[1] for entry in of(log, "next_bucket", "receive_bucket")] == [
        "next_bucket",
        "next_bucket",
        "receive_bucket",
        "receive_bucket",
    ] * 2 + ["next_bucket"] * 2
    # The learner takes its memory back when the engines have let go of it.
    assert [entry[1] for entry in of(log, "load_weights", "end_transfer")] == ["load_weights"] * 2 + ["end_transfer"] * 2


def test_ranks_that_gather_in_different_orders_are_noticed(log):
    learner = FakeLearner(log, [("n1", "g0"), ("n1", "g1")])
    for worker, names in zip(learner.workers, ("ab", "ba"), strict=True):
        worker.handle.worker.answers["next_bucket"] = shared_buckets(0, names=names)
    with pytest.raises(SyncError, match="phase transfer, version 5: the learner's ranks gather in different orders"):
        sync([engine(0, log, "n1", "g0")], ON_GPU, learner)


def test_a_late_worker_waits_while_the_learner_cannot_send(log):
    weights, near, far = WeightSync(verify=True, deadline_s=60.0), engine(0, log, "n1"), engine(1, log, "n2")
    assert weights.can_reach(far, IN_FILE)  # no learner known: everybody is on its node
    weights.learner = FakeLearner(log, [("n1", "g0")])
    for version, can in ((5, True), (None, False), (6, False)):
        weights.learner.sendable_version = version
        assert weights.can_reach(far, IN_FILE) == can
        assert weights.can_reach(engine(2, log, "n1", "g1"), ON_GPU) == can
        assert weights.can_reach(near, IN_FILE)
        assert weights.can_reach(near, ON_GPU) == can  # its file is still to be written


@pytest.mark.slow
def test_the_record_says_what_travelled_how_and_which_version_the_engines_hold(log):
    lines = []
    weights = WeightSync(verify=True, deadline_s=60.0, say=lines.append)
    weights.learner = FakeLearner(log, [("n1",)])
    workers = [engine(0, log, "n1"), engine(1, log, "n2"), engine(2, log, "n2")]
    weights(workers, IN_FILE)
    weights(workers, replace(IN_FILE, num_bytes=2**20))
    weights(workers[:1], IN_FILE, is_join=True)
    assert weights.metrics == {"sync/mib": 1, "sync/policy_version": 5, "sync/workers_shm": 1, "sync/workers_object_store": 2}
    assert lines == ["weight sync: version 5, 0.0 MiB, 2 rollout worker(s) by object store, 1 rollout worker(s) by shm"]


def test_every_transport_is_there_once():
    assert Counter(type(way) for way in new_transports().values()) == Counter(
        [transports.SharedMemory, transports.ObjectStore, transports.Nccl, transports.Ipc]
    )
