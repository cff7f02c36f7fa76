"""Placement groups on real Ray: one machine, and two nodes with GPUs that exist in name only."""

import os
import time

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util import placement_group_table
from tiny import tiny_config

from r1.errors import UserError
from r1.faults import FaultLog
from r1.runtime.cluster import connected
from r1.runtime.learner_group import LearnerGroup
from r1.runtime.placement import placed
from r1.runtime.rollout_pool import RolloutPool

pytestmark = [pytest.mark.slow, pytest.mark.ray]


def quiet(text):
    """Nobody listens."""


def stand_in():
    """In place of an engine or a rank: an actor that says where it is and what it sees."""

    class Where:  # in here, so that it travels by value: Ray's workers know no test modules
        def place(self):
            return ray.get_runtime_context().get_node_id(), os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")

    return ray.remote(Where)


def start_all(resources):
    return [stand_in().options(**resources.options(index, 1)).remote() for index in range(resources.count)]


def places(actors):
    """Each actor's node, and the GPUs that it sees."""
    return [(node, frozenset(devices)) for node, devices in ray.get([actor.place.remote() for actor in actors], timeout=120)]


def wait_until_free(group, num_cpus):
    """Of a group's bundles. Ray's figures are up to a second old."""
    end = time.monotonic() + 20
    while ray.available_resources().get(f"CPU_group_{group.id.hex()}", 0.0) != num_cpus:
        assert time.monotonic() < end, ray.available_resources()
        time.sleep(0.1)


def test_the_actors_of_a_run_are_in_its_group_which_is_gone_afterwards(tmp_path):
    config = tiny_config(
        "rollout.engine=r1.rollout.transformers_engine:TransformersEngine", "rollout.num_workers=2", "rollout.placement=colocated"
    )
    with connected(3), placed(config, quiet) as placement:
        group = placement.rollout.group
        wait_until_free(group, 3)
        sampler = RolloutPool(config, placement.rollout, FaultLog())
        learner = LearnerGroup(config, placement.learner, tmp_path, str(tmp_path / "weights"), FaultLog(), beside=sampler)
        learner.wait_until_ready()
        sampler.wait_until_ready()
        wait_until_free(group, 0)
        sampler.load_weights(learner.publish_weights())
        sampler.pause()
        sampler.load_weights(learner.publish_weights())
        with (
            pytest.raises(UserError, match="is busy: .*; free: 0 CPU, this run wants 3 "),
            placed(config.model_copy(update={"deadline_s": 1.0}), quiet),
        ):
            raise AssertionError("was reserved twice")
        [state] = [one["state"] for one in placement_group_table().values() if one["placement_group_id"] != group.id.hex()]
        assert state == "REMOVED"


@pytest.fixture(scope="module")
def two_nodes():
    """Three GPUs each, in name only: Ray hands them out and sets CUDA_VISIBLE_DEVICES."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 8, "num_gpus": 3, "include_dashboard": False})
    cluster.add_node(num_cpus=8, num_gpus=3)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_the_gpus_of_an_engine_are_on_one_node(two_nodes):
    config = tiny_config("rollout.num_workers=2", "rollout.tensor_parallel_size=2", "learner.num_ranks=2")
    with placed(config, quiet) as placement:
        engines, ranks = places(start_all(placement.rollout)), places(start_all(placement.learner))
        assert [len(devices) for _, devices in engines] == [2, 2]
        assert [len(devices) for _, devices in ranks] == [1, 1]
        # 2 + 1 on each node: every GPU once.
        everything = [(node, device) for node, devices in engines + ranks for device in devices]
        assert len(set(everything)) == 6
        group = placement.rollout.group
    assert placement_group_table(group)["state"] == "REMOVED"


def test_colocated_ranks_see_the_gpus_of_their_engine_and_so_does_a_new_one(two_nodes):
    config = tiny_config(
        "rollout.num_workers=2", "rollout.tensor_parallel_size=2", "learner.num_ranks=4", "rollout.placement=colocated"
    )
    with placed(config, quiet) as placement:
        actors = start_all(placement.rollout)
        engines, ranks = places(actors), places(start_all(placement.learner))
        assert len({node for node, _ in engines}) == 2  # 2 + 2 do not fit a node of three
        for index, engine in enumerate(engines):
            beside = ranks[2 * index : 2 * index + 2]
            assert {node for node, _ in beside} == {engine[0]}
            assert [len(devices) for _, devices in beside] == [1, 1]
            assert beside[0][1] | beside[1][1] == engine[1]
        ray.kill(actors[1])
        again = stand_in().options(**placement.rollout.options(1, 1)).remote()
        assert places([again]) == [engines[1]]


def test_what_no_node_has_is_refused_and_what_others_have_is_waited_for(two_nodes):
    four = tiny_config("rollout.tensor_parallel_size=4")
    message = r"^the Ray cluster has 3, 3 GPU on its nodes, this run wants 1 x 4 GPU and 1 CPU on one node \(rollout workers\): none"
    with pytest.raises(UserError, match=message), placed(four, quiet):
        raise AssertionError("was not refused")
    others = [stand_in().options(num_gpus=2).remote() for _ in range(2)]
    places(others)
    two = tiny_config("rollout.tensor_parallel_size=2", "rollout.num_workers=1", "deadline_s=1.5")
    said = []
    with pytest.raises(UserError) as raised, placed(two, said.append):
        raise AssertionError("was reserved")
    assert "\n" not in str(raised.value)
    assert "is busy: nothing was free for" in str(raised.value)
    # 2 GPUs are free, one on each node, so the message depends on what is short first: 3 are wanted in all.
    assert "free: 2 GPU, this run wants 3 (rollout workers 2, learner ranks 1); wait for the other jobs" in str(raised.value)
    assert said[1].startswith("waiting since 1 s for the Ray cluster, at most 2 s; free: 2 GPU")
    for other in others:
        ray.kill(other)
    with placed(tiny_config("rollout.tensor_parallel_size=2"), quiet) as placement:
        assert len(places(start_all(placement.rollout))[0][1]) == 2
