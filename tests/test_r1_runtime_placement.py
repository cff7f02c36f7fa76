"""Which bundles a run asks for, what its actors ask Ray for, and what is said when a cluster has no room."""

import pytest
from tiny import tiny_config

from r1.errors import UserError
from r1.runtime import placement
from r1.runtime.placement import describe_room, describe_room_here, placed, plan_placement, shortage


def plan(num_gpus, *overrides):
    return plan_placement(tiny_config(*overrides), num_gpus)


def wants(planned):
    return [dict(bundle.wants) for bundle in planned.bundles]


def asks(resources):
    return (resources.num_cpus, resources.num_gpus, resources.count, resources.bundles)


def test_on_cpus_each_actor_has_a_bundle_of_its_own():
    planned = plan(0, "rollout.num_workers=2", "rollout.tensor_parallel_size=2", "learner.num_ranks=2")
    # An engine of two processes computes on two CPUs.
    assert wants(planned) == [{"CPU": 2}, {"CPU": 2}, {"CPU": 1}, {"CPU": 1}]
    assert asks(planned.rollout) == (2, 0, 2, (0, 1))
    assert asks(planned.learner) == (1, 0, 2, (2, 3))


def test_with_several_gpus_they_have_devices_of_their_own_and_an_engine_has_all_of_its_in_one_bundle():
    planned = plan(8, "rollout.num_workers=2", "rollout.tensor_parallel_size=2", "learner.num_ranks=3")
    assert wants(planned) == [{"CPU": 1, "GPU": 2}] * 2 + [{"CPU": 1, "GPU": 1}] * 3
    assert asks(planned.rollout) == (1, 2, 2, (0, 1))
    assert asks(planned.learner) == (1, 1, 3, (2, 3, 4))
    assert not planned.rollout.colocated
    assert planned.gpus_per_engine == 0


def test_a_single_gpu_is_shared_unless_told_otherwise():
    planned = plan(1)
    assert wants(planned) == [{"CPU": 2, "GPU": 1}]
    assert asks(planned.rollout) == (1, 0, 1, (0,))
    assert asks(planned.learner) == (1, 0, 1, (0,))
    assert planned.rollout.colocated
    assert planned.learner.colocated
    assert wants(plan(1, "rollout.placement=disaggregated")) == [{"CPU": 1, "GPU": 1}] * 2


@pytest.mark.parametrize("num_gpus", [0, 1, 8])
def test_without_a_learner_only_the_engines_are_placed(num_gpus):
    for how in ([], ["rollout.placement=colocated"]):
        planned = plan_placement(tiny_config("rollout.num_workers=2", *how), num_gpus, has_learner=False)
        assert wants(planned) == [{"CPU": 1, "GPU": 1} if num_gpus else {"CPU": 1}] * 2
        assert asks(planned.rollout) == (1, int(num_gpus > 0), 2, (0, 1))
        assert planned.learner.count == 0
        assert not planned.rollout.colocated


def test_colocated_ranks_stand_beside_their_engine():
    four = ["rollout.num_workers=2", "rollout.tensor_parallel_size=2", "learner.num_ranks=4", "rollout.placement=colocated"]
    planned = plan(8, *four)
    assert wants(planned) == [{"CPU": 3, "GPU": 2}] * 2
    assert planned.rollout.bundles == (0, 1)
    assert planned.learner.bundles == (0, 0, 1, 1)
    with pytest.raises(UserError, match=r"rollout.num_workers x rollout.tensor_parallel_size = 4, got 3$"):
        plan(8, *four, "learner.num_ranks=3")


def test_colocated_on_cpus_shares_nothing_but_takes_turns():
    planned = plan(0, "rollout.placement=colocated", "learner.num_ranks=3")
    assert wants(planned) == [{"CPU": 1}] * 4
    assert planned.rollout.colocated
    assert not plan(0).rollout.colocated


@pytest.mark.parametrize(("num_gpus", "overrides"), [(0, ["rollout.placement=colocated"]), (1, [])])
def test_who_takes_turns_cannot_be_stale(num_gpus, overrides):
    with pytest.raises(UserError, match="rollout.max_staleness must be 0 with rollout.placement=colocated.*, got 1; set it to 0"):
        plan(num_gpus, "rollout.max_staleness=1", *overrides)
    plan(2, "rollout.max_staleness=1")


def test_what_an_actor_asks_ray_for(monkeypatch):
    planned = plan(8, "rollout.num_workers=2", "rollout.tensor_parallel_size=2", "learner.num_ranks=4", "rollout.placement=colocated")
    monkeypatch.setattr(placement, "_devices_of", lambda group, num_bundles, num_gpus, deadline_s: [["4", "5"], ["0", "1"]])
    inside = placement._inside("the group", planned, 1.0)
    engine = inside.rollout.options(1, num_threads=2)
    assert (engine["num_cpus"], engine["num_gpus"]) == (1, 0)
    assert engine["runtime_env"]["env_vars"]["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert engine["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] == "2"
    strategy = engine["scheduling_strategy"]
    assert (strategy.placement_group, strategy.placement_group_bundle_index) == ("the group", 1)
    # Rank i is on GPU i of the engines' GPUs in a row: the same one as the engine's process i.
    ranks = [inside.learner.options(rank, num_threads=1) for rank in range(4)]
    assert [rank["runtime_env"]["env_vars"]["CUDA_VISIBLE_DEVICES"] for rank in ranks] == ["4", "5", "0", "1"]
    assert [rank["scheduling_strategy"].placement_group_bundle_index for rank in ranks] == [0, 0, 1, 1]
    # With devices of its own Ray sets the variable.
    alone = placement._inside("the group", plan(8), 1.0).rollout.options(0, num_threads=1)
    assert alone["num_gpus"] == 1
    assert "CUDA_VISIBLE_DEVICES" not in alone["runtime_env"]["env_vars"]


@pytest.mark.parametrize(
    ("overrides", "nodes", "message"),
    [
        ([], [{"CPU": 8, "GPU": 2}], None),
        ([], [{"CPU": 8, "GPU": 1}, {"CPU": 8, "GPU": 1}], None),
        ([], [{"CPU": 8, "GPU": 1}, {"CPU": 8}], "1 GPU, this run wants 2 (rollout workers 1, learner ranks 1)"),
        ([], [{"CPU": 1, "GPU": 4}], "1 CPU, this run wants 2 (rollout workers 1, learner ranks 1)"),
        (
            ["rollout.tensor_parallel_size=4"],
            [{"CPU": 8, "GPU": 3}, {"CPU": 8, "GPU": 2}],
            "3, 2 GPU on its nodes, this run wants 1 x 4 GPU and 1 CPU on one node (rollout workers): none has that",
        ),
        (
            # 7 GPUs for 2 x 3 + 1, but only one node has three together.
            ["rollout.tensor_parallel_size=3", "rollout.num_workers=2"],
            [{"CPU": 8, "GPU": 5}, {"CPU": 8, "GPU": 2}],
            "5, 2 GPU on its nodes, this run wants 2 x 3 GPU and 1 CPU on one node (rollout workers): there is room for 1",
        ),
        (["rollout.tensor_parallel_size=3", "rollout.num_workers=2"], [{"CPU": 8, "GPU": 6}, {"CPU": 8, "GPU": 1}], None),
    ],
)
def test_a_cluster_without_room_is_told_apart(overrides, nodes, message):
    assert shortage(plan(2, *overrides), nodes) == message


class FakeGroup:
    """Ready when it is asked for the nth time."""

    def __init__(self, ready_at):
        self.ready_at, self.num_asked, self.is_removed = ready_at, 0, False

    def wait(self, seconds):
        self.num_asked += 1
        return self.num_asked >= self.ready_at


@pytest.fixture
def cluster(monkeypatch):
    """Two CPUs in all, of which one is free."""

    class Cluster:
        group = FakeGroup(1)

    monkeypatch.setattr(placement.ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 9.0}}])
    monkeypatch.setattr(placement, "available_resources_per_node", lambda: {"a": {"CPU": 1.0}})
    monkeypatch.setattr(placement, "placement_group", lambda bundles, strategy: Cluster.group)
    monkeypatch.setattr(placement, "remove_placement_group", lambda group: setattr(group, "is_removed", True))
    return Cluster


def test_what_is_reserved_is_given_back_also_after_a_failure(cluster):
    said = []
    with placed(tiny_config(), said.append) as inside:
        assert inside.rollout.group is inside.learner.group is cluster.group
        assert not cluster.group.is_removed
    assert cluster.group.is_removed
    assert said == ["Ray: 2 of 2 CPU; rollout and learner have devices of their own"]
    cluster.group = FakeGroup(1)
    with pytest.raises(KeyError), placed(tiny_config(), said.append):
        raise KeyError
    assert cluster.group.is_removed


def test_a_busy_cluster_is_waited_for_and_one_hears_of_it(cluster):
    cluster.group, said = FakeGroup(3), []
    with placed(tiny_config(), said.append):
        pass
    assert said[1] == (
        "waiting since 0 s for the Ray cluster, at most 600 s; free: 1 CPU, this run wants 2 (rollout workers 1, learner ranks 1)"
    )
    assert len(said) == 2


def test_it_is_not_waited_for_for_ever(cluster):
    cluster.group = FakeGroup(10**9)
    message = r"the Ray cluster is busy: .* free: 1 CPU, this run wants 2 \(.*\); wait for the other jobs"
    with pytest.raises(UserError, match=message), placed(tiny_config("deadline_s=0.01"), lambda text: None):
        raise AssertionError("was not reserved")
    assert cluster.group.is_removed


def test_what_a_cluster_never_has_is_refused_at_once(cluster):
    message = r"^the Ray cluster has 2 CPU, this run wants 4 \(rollout workers 3, learner ranks 1\); start Ray with more, or lower"
    with pytest.raises(UserError, match=message), placed(tiny_config("rollout.num_workers=3"), lambda text: None):
        raise AssertionError("was not refused")
    assert cluster.group.num_asked == 0


@pytest.mark.parametrize(
    ("free", "overrides", "verdict", "says"),
    [
        (2, [], "ok", "this run takes 2 of 2 CPU"),
        (1, [], "warning", "2 of 2 CPU, and others use it now (free: 1 CPU, this run wants 2 ("),
        (2, ["rollout.num_workers=3"], "red", "the Ray cluster has 2 CPU, this run wants 4 (rollout workers 3, learner ranks 1); start"),
        (2, ["rollout.placement=colocated", "rollout.max_staleness=1"], "red", "rollout.max_staleness must be 0"),
    ],
)
def test_what_the_doctor_says_of_a_clusters_room(cluster, monkeypatch, free, overrides, verdict, says):
    monkeypatch.setattr(placement, "available_resources_per_node", lambda: {"a": {"CPU": free}})
    found = describe_room(tiny_config(*overrides))
    assert (found.check, found.verdict) == ("resources", verdict)
    assert found.line.startswith(says)
    assert cluster.group.num_asked == 0


@pytest.mark.parametrize(
    ("num_gpus", "overrides", "verdict", "says"),
    [
        # Ray is started with as many CPUs as the run wants: 3 + 1.
        (0, ["rollout.num_workers=3"], "ok", "this run takes 4 of 4 CPU"),
        (1, [], "ok", "this run takes 1 of 1 GPU, 2 of 2 CPU"),
        (
            1,
            ["rollout.num_workers=8", "learner.num_ranks=8", "rollout.placement=disaggregated"],
            "red",
            "Ray on this machine has 1 GPU, this run wants 16 (rollout workers 8, learner ranks 8); start Ray with more, or lower",
        ),
    ],
)
def test_what_the_doctor_says_of_this_machines_room(num_gpus, overrides, verdict, says):
    found = describe_room_here(tiny_config(*overrides), 2, num_gpus)
    assert (found.verdict, found.line[: len(says)]) == (verdict, says)
