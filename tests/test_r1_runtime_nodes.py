"""The quickstart on a cluster of several nodes that have nothing of ours but the upload, and what becomes of it when they die."""

import json
import os
import re
import subprocess
import time
from contextlib import closing

import psutil
import pytest
from processes import QUICKSTART, steps_of
from ray_nodes import RayNodes, kill_tree
from tiny import ROOT

from r1.checkpoint import latest_checkpoint
from r1.traces import read_traces

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1200)]

JOB_S = 600.0
"""How long is waited for a step, or for the end: some starts of engines on a slow machine, each of 15 s on an idle one."""
ENGINE, LEARNER, REWARDS = "RolloutWorker", "LearnerWorker", "RewardWorker"


@pytest.fixture(scope="module")
def cluster():
    """A head without CPUs, and two nodes with one each."""
    with closing(RayNodes()) as nodes:
        nodes.add_node()
        nodes.add_node()
        yield nodes


class Job:
    """`launch/submit.sh` of a short quickstart; ends with it."""

    def __init__(self, cluster, folder, *overrides):
        self.run_dir, self._said = folder / "run", folder / "said.txt"
        address = {"RAY_API_SERVER_ADDRESS": cluster.job_server, "R1_PYTHON": str(cluster.python)}
        with self._said.open("w") as said:
            self._process = subprocess.Popen(
                [ROOT / "launch/submit.sh", QUICKSTART, f"run_dir={self.run_dir}", *overrides],
                env={**os.environ, **cluster.token, **address},
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def said(self):
        return self._said.read_text()

    def wait_for_step(self, step):
        deadline = time.monotonic() + JOB_S
        while len(steps_of(self.run_dir)) < step:
            assert self._process.poll() is None, f"the job ended before step {step}: {self.said()}"
            assert time.monotonic() < deadline, f"no step {step} after {JOB_S:.0f} s: {self.said()}"
            time.sleep(0.1)

    def places(self):
        """Worker -> address of the node that it was last said to be on."""
        return dict(re.findall(r"(rollout worker \d|learner|reward pool) is on node [0-9a-f]{8} \(([0-9.]+)\)", self.said()))

    def wait(self):
        code = self._process.wait(timeout=JOB_S)
        assert code == 0, self.said()
        assert "succeeded" in self.said()

    def close(self):
        if self._process.poll() is None:
            kill_tree(psutil.Process(self._process.pid))


SMALL = ["rollout.num_prompts=4", "rollout.group_size=4", "evaluate.num_completions=8", "checkpoint.every=1"]


def assert_whole(run_dir, num_steps):
    steps = steps_of(run_dir)
    assert [event["step"] for event in steps] == [event["policy_version"] for event in steps] == list(range(1, num_steps + 1))
    for step in range(1, num_steps + 1):
        rows = read_traces(run_dir, step)
        assert [(row.group_id, row.sample_id) for row in rows] == [(group, sample) for group in range(4) for sample in range(4)]
        assert {row.policy_version for row in rows} == {step - 1}
    assert latest_checkpoint(run_dir)[1].step == num_steps


def test_engines_learner_and_rewards_on_three_nodes_that_have_only_the_upload(cluster, tmp_path):
    outside = cluster.run_python("import ray, torch, vllm; import r1")
    assert "No module named 'r1'" in outside.stderr
    with closing(Job(cluster, tmp_path, *SMALL, "num_steps=2")) as job:
        job.wait()
    assert_whole(job.run_dir, 2)
    workers = json.loads((job.run_dir / "summary.json").read_text())["workers"]
    assert set(workers) == {"rollout worker 0", "learner", "reward pool"}
    assert {name: at["address"] for name, at in workers.items()} == job.places()
    # The head has no CPU for engine and learner; none is left on the other two, so the rewards stay beside the driver.
    assert job.places()["reward pool"] == cluster.head
    assert len({at["node_id"] for at in workers.values()}) == 3
    # Each has unpacked the upload for itself.
    assert len({at["code"] for at in workers.values()}) == 3
    for at in workers.values():
        assert at["code"].startswith(f"{cluster.folder}/")
        assert "runtime_resources/working_dir_files/_ray_pkg_" in at["code"]
    for event in steps_of(job.run_dir):
        metrics = {name: value for name, value in event["metrics"].items() if name.startswith("sync/workers_")}
        assert metrics == {"sync/workers_object_store": 1.0}


def test_a_run_heals_when_nodes_die(cluster, tmp_path):
    for _ in range(2):  # before the run: its steps take half a second, and a node takes some
        cluster.add_node()
    num_steps = 24
    with closing(Job(cluster, tmp_path, *SMALL, f"num_steps={num_steps}", "deadline_s=300")) as job:
        job.wait_for_step(1)
        first = cluster.actors()
        # One node each, and the rewards on one of the two that have a CPU free.
        assert len({first[ENGINE], first[LEARNER], first[REWARDS], cluster.head}) == 4
        [free] = cluster.alive() - {first[ENGINE], first[LEARNER], first[REWARDS], cluster.head}
        cluster.kill_node(first[REWARDS])
        job.wait_for_step(len(steps_of(job.run_dir)) + 2)
        second = cluster.actors()
        assert second == first | {REWARDS: free}
        # The engine finds room there too.
        cluster.kill_node(second[ENGINE])
        job.wait_for_step(len(steps_of(job.run_dir)) + 2)
        third = cluster.actors()
        assert third == second | {ENGINE: free}
        # There is none for the learner, until another node comes.
        cluster.kill_node(third[LEARNER])
        added = cluster.add_node()
        job.wait()
    assert_whole(job.run_dir, num_steps)
    summary = json.loads((job.run_dir / "summary.json").read_text())
    places = {name: at["address"] for name, at in summary["workers"].items()}
    assert places == {"rollout worker 0": free, "learner": added, "reward pool": free}
    said = "\n".join(summary["faults"])
    assert re.search(r"reward pool, phase score.*; it is replaced, \d+ groups are scored again", said), said
    assert re.search(r"rollout worker 0, phase \w+, .*; it is replaced, \d+ groups are sampled again", said), said
    assert re.search(r"learner, .*; the learner is started again, the run goes on after step \d+", said), said
    metrics = steps_of(job.run_dir)[-1]["metrics"]
    assert metrics["faults/reward_worker"] >= 1
    assert metrics["faults/rollout_worker"] >= 1
    assert metrics["faults/learner"] >= 1
    assert metrics["sync/workers_object_store"] == 1
