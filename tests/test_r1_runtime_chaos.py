"""Processes are killed and stopped all through a run, and it ends as if nothing had happened: real Ray, real vLLM."""

import random
import signal
import time
from collections import Counter

import psutil
import pytest
from processes import QUICKSTART, Program, shared_memory_files, steps_of

from r1.metrics import read_metrics
from r1.traces import read_traces

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1500)]
NUM_PROMPTS, GROUP_SIZE = 16, 16
MAX_LEARNER_FAULTS = 3
"""Each costs a start of the learner and up to two steps."""
MAX_ENGINE_FAULTS = 6
"""Each costs a start of vLLM."""
MAX_STOPPED_WORKERS = 1
"""It costs DEADLINE_S."""
DEADLINE_S = 60


def strike(program, rng, hits):
    """Kill or stop one process of the run, of a kind that is there; returns what was done."""
    kinds = ["r1.scoring_child"] * 5 + ["ray::RewardWorker"]
    if hits["ray::RolloutWorker SIGKILL"] + hits["ray::RolloutWorker SIGSTOP"] < MAX_ENGINE_FAULTS:
        kinds += ["ray::RolloutWorker"] * 2
    if hits["ray::LearnerWorker SIGKILL"] < MAX_LEARNER_FAULTS:
        kinds.append("ray::LearnerWorker")
    # Every kind once, then by chance: a short run shall meet each of them.
    kind = rng.choice([kind for kind in kinds if not any(kind in done for done in hits)] or kinds)
    try:
        victims = [p for p in psutil.Process(program.process.pid).children(recursive=True) if kind in " ".join(p.cmdline())]
        if not victims:
            return None
        # A stopped process is only noticed at its deadline: 2 s for a reward child.
        may_stop = {"r1.scoring_child": True, "ray::RolloutWorker": hits["ray::RolloutWorker SIGSTOP"] < MAX_STOPPED_WORKERS}
        how = signal.SIGSTOP if may_stop.get(kind, False) and rng.random() < 0.25 else signal.SIGKILL
        rng.choice(victims).send_signal(how)
    except psutil.NoSuchProcess:
        return None
    return f"{kind} {how.name}"


@pytest.mark.parametrize(
    ("num_steps", "num_faults", "max_staleness", "overrides"),
    [(40, 25, 0, []), (12, 5, 1, ["rollout.max_staleness=1", "sync.in_flight=true"])],
    ids=["strict", "in_flight"],
)
def test_a_run_survives_whatever_is_done_to_its_processes(tmp_path, num_steps, num_faults, max_staleness, overrides):
    run_dir, rng, hits = tmp_path / "run", random.Random(), Counter()
    shared_before = shared_memory_files()
    program = Program(
        QUICKSTART,
        f"run_dir={run_dir}",
        f"num_steps={num_steps}",
        "rollout.num_workers=2",
        "checkpoint.every=2",
        f"deadline_s={DEADLINE_S}",
        *overrides,
    )
    program.wait_for_step(run_dir, 1)
    while program.process.poll() is None:
        # Faults keep pace with the steps: a fast machine has fewer seconds for them. Two steps before the end they are complete.
        num_due = num_faults * (len(steps_of(run_dir)) + 2) / num_steps
        time.sleep(rng.uniform(3.0, 8.0) if sum(hits.values()) >= num_due else rng.uniform(0.5, 1.5))
        program.look()
        done = strike(program, rng, hits) if program.process.poll() is None else None
        if done:
            hits[done] += 1
    code, out, err = program.wait()
    print(dict(hits), out[-3000:])
    assert code == 0, err
    assert sum(hits.values()) >= num_faults

    steps = steps_of(run_dir)
    assert [event["step"] for event in steps] == [event["policy_version"] for event in steps] == list(range(1, num_steps + 1))
    for step in range(1, num_steps + 1):
        rows = read_traces(run_dir, step)
        assert [(row.group_id, row.sample_id) for row in rows] == [
            (group_id, sample_id) for group_id in range(NUM_PROMPTS) for sample_id in range(GROUP_SIZE)
        ]
        assert {row.policy_version for row in rows} <= set(range(max(0, step - 1 - max_staleness), step))
        assert max_staleness or {row.policy_version for row in rows} == {step - 1}
        assert all(row.reward is not None for row in rows)
    counted = {name: value for name, value in steps[-1]["metrics"].items() if name.startswith("faults/")}
    assert counted["faults/rollout_worker"] > 0, counted
    heldout = {event["step"]: event["metrics"]["accuracy"] for event in read_metrics(run_dir) if event["kind"] == "heldout"}
    # Undisturbed: 0.87 after 50 steps, 0.83 to 0.86 after 40; the standard error of 256 problems is 0.02.
    assert heldout[num_steps] > (0.75 if num_steps >= 40 else 0.4)
    assert program.survivors() == []
    assert shared_memory_files() == shared_before
