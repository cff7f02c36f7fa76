"""Where work goes that may go anywhere, who is told to be where, and what is done when a place is gone. No cluster."""

import re
import signal
import time
from types import SimpleNamespace

import pytest
from fake_pool import batch_of, expected, sample, texts
from fake_ray import FakeHandle, Late
from tiny import tiny_config

from r1.errors import RunError, WorkerLost
from r1.faults import FaultLog
from r1.runtime import cluster, learner_group, places, rollout_team
from r1.runtime.calls import Worker
from r1.runtime.cluster import Resources
from r1.runtime.learner_group import LearnerGroup
from r1.runtime.places import missing_places, nodes_of, roomiest_node, wait_for_places
from r1.runtime.whereabouts import Roster, Whereabouts


@pytest.mark.parametrize(
    ("total", "free", "reserved", "node"),
    [
        ({"a": 8, "b": 4}, {"a": 8, "b": 4}, {}, "a"),
        # 8 - 6 = 2 are left on a, 4 on b.
        ({"a": 8, "b": 4}, {"a": 8, "b": 4}, {"a": 6}, "b"),
        # Another job holds 7 of a's: 1 is free there, and nothing of that is this run's.
        ({"a": 8, "b": 4}, {"a": 1, "b": 4}, {"a": 0}, "b"),
        # As many: beside the driver; where that has fewer, the first by name.
        ({"a": 4, "driver": 4}, {"a": 4, "driver": 4}, {}, "driver"),
        ({"a": 4, "b": 4, "driver": 0}, {"b": 4, "a": 4}, {}, "a"),
        # All are taken: 0 everywhere.
        ({"a": 1, "b": 1, "driver": 0}, {"a": 0, "b": 0}, {"a": 1, "b": 1}, "driver"),
        # Of a node that Ray says nothing of, nothing is free.
        ({"a": 8, "driver": 1}, {"driver": 1}, {}, "driver"),
        ({}, {}, {}, "driver"),
    ],
)
def test_the_rewards_go_where_most_cpus_are_left(total, free, reserved, node):
    assert roomiest_node(total, free, reserved, home="driver") == node


def at(node_id):
    return Whereabouts(pid=1, node_id=node_id * 10, address=f"10.0.0.{node_id}")


def test_places_are_told_on_several_nodes_and_again_when_they_change():
    said, workers = [], {"learner": at("1"), "rollout worker 0": at("1")}
    roster = Roster(lambda: workers.items(), said.append)
    roster.look()
    assert said == []  # on one node there is nothing to tell
    workers["rollout worker 0"] = at("2")
    roster.look()
    roster.look()
    assert said == ["rollout worker 0 is on node 22222222 (10.0.0.2)"]
    workers["rollout worker 0"] = Whereabouts()  # it is being replaced
    roster.look()
    workers["learner"] = at("3")
    roster.look()
    assert said[1:] == ["learner is on node 33333333 (10.0.0.3)"]
    assert {name: place["address"] for name, place in roster.record().items()} == {
        "learner": "10.0.0.3",
        "rollout worker 0": "10.0.0.2",
    }


@pytest.mark.parametrize(("node_id", "killed"), [("here", [(4711, signal.SIGKILL)]), ("elsewhere", []), ("", [])])
def test_a_process_is_killed_by_its_number_on_the_drivers_own_node_alone(monkeypatch, node_id, killed):
    by_ray, by_number = [], []
    monkeypatch.setattr(cluster.ray, "kill", by_ray.append)
    monkeypatch.setattr(cluster.ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "here"))
    monkeypatch.setattr(cluster.os, "kill", lambda *arguments: by_number.append(arguments))
    cluster.kill(Worker(name="learner", handle="handle", at=Whereabouts(pid=4711, node_id=node_id)))
    assert (by_ray, by_number) == (["handle"], killed)


@pytest.fixture
def table(monkeypatch):
    """A group of an engine on node n1, a second one on n2 and the learner on n3; what is free, by node."""
    group = {"bundles": {0: {"CPU": 2.0}, 1: {"CPU": 2.0}, 2: {"CPU": 1.0}}, "bundles_to_node_id": {0: "n1", 1: "n2", 2: "n3"}}
    free = {"n1": {}, "n3": {"CPU": 1.0}}
    monkeypatch.setattr(places, "placement_group_table", lambda of: group)
    monkeypatch.setattr(places, "available_resources_per_node", lambda: free)
    return SimpleNamespace(node_of=group["bundles_to_node_id"], free=free)


ENGINES = Resources(num_cpus=2, count=2, bundles=(0, 1), group="group")
RANKS = Resources(num_cpus=1, count=1, bundles=(2,), group="group")


def test_a_place_that_is_gone_is_named_with_what_is_wanted_and_free(table):
    assert nodes_of(ENGINES) == ["n1", "n2"]
    assert missing_places(ENGINES, "rollout workers") is None
    table.node_of[1] = ""
    assert missing_places(ENGINES, "rollout worker 0", 0) is None
    assert missing_places(RANKS, "learner ranks") is None
    assert missing_places(ENGINES, "rollout worker 1", 1) == (
        "a node is gone, and no other has a place for rollout worker 1; free: 1 CPU, this run wants 2 (rollout worker 1 2)"
    )
    table.free["n4"] = {"CPU": 2.0}
    assert missing_places(ENGINES, "rollout worker 1", 1).endswith("free: room, but Ray has not taken it yet")
    assert missing_places(Resources(num_cpus=1, count=1), "an evaluation without a group") is None


def test_the_learner_waits_for_its_place_and_says_what_is_missing_in_the_end(table, monkeypatch):
    table.node_of[2], table.free["n3"] = "", {}
    slept = []

    def until_the_third_look(seconds):
        slept.append(seconds)
        if len(slept) == 2:
            table.node_of[2] = "n4"

    monkeypatch.setattr(places.time, "sleep", until_the_third_look)
    wait_for_places(RANKS, "learner ranks", deadline_s=3600.0)
    assert len(slept) == 2
    table.node_of[2] = ""
    message = "learner ranks, phase placement, waited .* free: 0 CPU, this run wants 1 .*; start that node again, .* --resume RUN"
    with pytest.raises(RunError, match=message) as raised:
        wait_for_places(RANKS, "learner ranks", deadline_s=-1.0)
    assert not isinstance(raised.value, WorkerLost)  # which would start another learner


def test_gpus_that_were_shared_on_a_node_that_is_gone_are_not_asked_for_on_another(table, monkeypatch, tmp_path):
    monkeypatch.setattr(learner_group, "kill", lambda worker: None)
    actor = SimpleNamespace(options=lambda **options: SimpleNamespace(remote=lambda: FakeHandle(None)))
    monkeypatch.setattr(learner_group.ray, "remote", lambda kind: actor)
    monkeypatch.setattr(Resources, "options", lambda self, index, num_threads: {})
    ranks = Resources(num_cpus=1, count=1, bundles=(2,), devices=("5",), group="group")
    group = LearnerGroup(tiny_config(), ranks, tmp_path, str(tmp_path / "weights"), FaultLog())
    table.node_of[2] = "n4"
    with pytest.raises(RunError, match="learner died: its node is gone, and the GPUs that learner and engines share are others"):
        group.recover(WorkerLost("learner died"))


@pytest.fixture
def pool_that_lost_a_node(make_pool, engines, monkeypatch):
    """A pool of so many workers, the first of which has died and does not start again; and what it had."""

    def make(num_workers, why):
        pool, faults = make_pool(num_workers, "deadline_s=10")
        monkeypatch.setattr(rollout_team, "missing_places", lambda resources, holds, index: why if index == 0 else None)

        def no_node(engine):
            raise Late

        engines.on_start = no_node
        pool._team.replace("rollout worker 0", WorkerLost("rollout worker 0 died"))
        return pool, faults

    return make


def let_the_deadline_pass(pool):
    team = pool._team
    team._looked_at_s = time.monotonic() - 0.5
    team._calls = {name: replaced_since(one, 60.0) if one.phase == "start" else one for name, one in team._calls.items()}
    team.look_after(lambda name: 0)


def replaced_since(one, ago_s):
    return type(one)(phase=one.phase, reference=one.reference, since=time.monotonic() - ago_s)


def test_the_others_go_on_without_a_worker_that_has_no_place(pool_that_lost_a_node):
    pool, faults = pool_that_lost_a_node(2, "a node is gone")
    for _ in range(20):  # more often than a worker may be lost in a row
        let_the_deadline_pass(pool)
    assert texts(sample(pool, batch_of(3))) == expected(3)
    assert len(faults.faults) == 21
    # 60 s, or less where the test itself was held up.
    assert re.fullmatch(
        r"rollout worker 0, phase start, policy version 0, waited \d\d s: a node is gone; the run goes on without it until "
        "there is one",
        faults.faults[-1].text,
    )


def test_without_any_worker_that_has_a_place_the_run_ends(pool_that_lost_a_node):
    pool, _ = pool_that_lost_a_node(1, "a node is gone")
    message = "rollout worker 0, phase start, policy version 0, waited .* s: a node is gone; start that node again, or another"
    with pytest.raises(RunError, match=message) as raised:
        let_the_deadline_pass(pool)
    assert not isinstance(raised.value, WorkerLost)


def test_a_worker_that_has_a_place_and_does_not_start_is_replaced_as_ever(pool_that_lost_a_node):
    pool, faults = pool_that_lost_a_node(1, None)
    let_the_deadline_pass(pool)
    assert re.search(r"no answer within the deadline, for \d\d s; it is replaced", faults.faults[-1].text)
