"""A whole run in which one of two rollout workers computes with a stale output head after step 2: real Ray, real vLLM."""

import json
from pathlib import Path

import pytest
from faulty_engine import MARKER
from processes import steps_of
from rich.console import Console
from test_r1_rollout_vllm_engine import BOUND
from tiny import tiny_config

from r1.runtime.run import run
from r1.traces import read_traces

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.beside]


def run_with_fault(tmp_path, monkeypatch, verify):
    monkeypatch.setenv(MARKER, str(tmp_path / "marker"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # the rollout workers import the engine
    options = (
        f"run_dir={tmp_path / 'run'}",
        "num_steps=4",
        "rollout.engine=faulty_engine:FaultyEngine",
        "rollout.num_workers=2",
        "rollout.max_num_seqs=128",  # half of a step's completions: both workers sample
        "learner.warmup_steps=0",
        "evaluate.num_completions=0",
        f"sync.verify={verify}",
    )
    with open(tmp_path / "log", "w") as log:
        run(tiny_config(*options), console=Console(file=log, width=1000))
    assert (tmp_path / "marker").exists()
    steps = steps_of(tmp_path / "run")
    assert [event["policy_version"] for event in steps] == [1, 2, 3, 4]
    for event in steps:
        rows = read_traces(tmp_path / "run", event["step"])
        assert [(row.group_id, row.sample_id) for row in rows] == [(i, j) for i in range(16) for j in range(16)]
        assert {row.policy_version for row in rows} == {event["step"] - 1}
    return [event["metrics"] for event in steps], (tmp_path / "log").read_text()


def test_the_worker_is_replaced_in_the_step_of_its_fault_and_the_run_goes_on(tmp_path, monkeypatch):
    metrics, log = run_with_fault(tmp_path, monkeypatch, "on")
    assert [step.get("faults/rollout_worker", 0.0) for step in metrics] == [0.0, 1.0, 1.0, 1.0]
    [line] = [line for line in log.splitlines() if line.startswith("fault: ")]
    assert ", phase verify: " in line
    assert "version 2: 1 layers compute with other weights than the published ones: lm_head; it is replaced" in line
    assert max(step["mismatch"] for step in metrics) < 1e-5
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert len(summary["faults"]) == 1


def test_without_verification_nobody_says_anything(tmp_path, monkeypatch):
    metrics, log = run_with_fault(tmp_path, monkeypatch, "off")
    assert "fault: " not in log
    assert all("faults/rollout_worker" not in step for step in metrics)
    # Step 3 learns from samples of other weights than it believes; each sync packs the head anew.
    assert [step["mismatch"] > BOUND for step in metrics] == [False, False, True, False]
