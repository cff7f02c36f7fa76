"""Whole runs: real Ray, real vLLM, the shipped model."""

import json
import os
import signal
from pathlib import Path

import pytest
from processes import QUICKSTART, Program, shared_memory_files, steps_of
from tiny import engine_options, mean_difference, prompt_batch
from transformers import AutoModelForCausalLM

from r1.checkpoint import latest_checkpoint
from r1.metrics import read_metrics
from r1.rollout.engine import generate
from r1.rollout.transformers_engine import TransformersEngine
from r1.traces import list_trace_files, read_traces

pytestmark = [pytest.mark.slow, pytest.mark.ray]


def test_it_learns(trained_run):
    """16 steps of the quickstart lift held-out accuracy by well over noise.

    Checked by breaking the code: with the sign of the advantages flipped in r1/algorithm/advantages.py, accuracy falls
    instead; with the weight sync skipped (RolloutPool.load_weights returning at once after version 0) the second step is refused, as its
    samples carry the old version; and with the version faked as well, the learner's bound on |old - rollout| stops the run.
    """
    run_dir = trained_run
    heldout = {event["step"]: event["metrics"] for event in read_metrics(run_dir) if event["kind"] == "heldout"}
    # 256 problems: the standard error of an accuracy of 0.3 is 0.03.
    assert heldout[16]["accuracy"] > heldout[0]["accuracy"] + 0.15
    assert heldout[16]["reward/reasoning_format"] > heldout[0]["reward/reasoning_format"] + 0.15
    steps = steps_of(run_dir)
    assert [event["policy_version"] for event in steps] == list(range(1, 17))
    assert max(event["metrics"]["mismatch"] for event in steps) < 1e-5
    rows = read_traces(run_dir, 16)
    assert len(rows) == 256
    assert {row.policy_version for row in rows} == {15}
    for name in ("summary.json", "curves.png", "config.json", "tensorboard"):
        assert (run_dir / name).exists(), name
    checkpoint, _ = latest_checkpoint(run_dir)
    # What was exported is no longer the base model.
    base_samples = generate(TransformersEngine(engine_options()), prompt_batch(["12+34="]))
    assert mean_difference(AutoModelForCausalLM.from_pretrained(checkpoint / "hf"), base_samples) > 1e-3


def test_killed_interrupted_and_resumed(tmp_path):
    """SIGKILL of the rollout worker, which is replaced; Ctrl-C, and then to the end.

    Nothing is left behind, and no step is lost or counted twice. (SIGTERM: test_r1_runtime_exact_resume.py.)
    """
    run_dir = tmp_path / "run"
    shared_before = shared_memory_files()

    short = ["num_steps=200", "rollout.num_prompts=4", "checkpoint.every=2", "evaluate.num_completions=8"]
    program = Program(QUICKSTART, f"run_dir={run_dir}", *short)
    program.wait_for_step(run_dir, 3)
    program.find("ray::RolloutWorker").send_signal(signal.SIGKILL)
    program.wait_for_step(run_dir, max(event["step"] for event in steps_of(run_dir)) + 2)
    assert steps_of(run_dir)[-1]["metrics"]["faults/rollout_worker"] == 1.0
    program.process.send_signal(signal.SIGINT)
    code, out, err = program.wait()
    assert code == 130, err
    stopped_at = steps_of(run_dir)[-1]["step"]
    assert f"stopped after step {stopped_at}, checkpoint written; go on with: python -m launch.train --resume {run_dir}" in err
    assert json.loads((run_dir / "summary.json").read_text())["ended"] == f"SIGINT, stopped after step {stopped_at}"
    [fault] = [line for line in out.splitlines() if line.startswith("fault: ")]
    assert fault.startswith("fault: rollout worker 0, phase ")
    assert "the worker died" in fault
    assert "it is replaced, " in fault
    assert "Traceback" not in err
    assert program.survivors() == []
    assert shared_memory_files() == shared_before
    assert latest_checkpoint(run_dir)[1].step == stopped_at

    saved = stopped_at
    program = Program("--resume", str(run_dir), f"num_steps={saved + 3}")
    code, out, err = program.wait()
    assert code == 0, err
    assert "r1 traces show" in out.strip().splitlines()[-1]
    assert [event["step"] for event in steps_of(run_dir)] == list(range(1, saved + 4))
    assert [event["policy_version"] for event in steps_of(run_dir)] == list(range(1, saved + 4))
    assert list(list_trace_files(run_dir, "train")) == list(range(1, saved + 4))
    assert latest_checkpoint(run_dir)[1].step == saved + 3
    assert program.survivors() == []
    assert shared_memory_files() == shared_before


def test_nothing_is_left_of_a_driver_that_is_killed(tmp_path):
    program = Program(QUICKSTART, f"run_dir={tmp_path / 'run'}", "evaluate.num_completions=0")
    program.wait_for_step(tmp_path / "run", 2)
    open_files = [os.readlink(link) for link in Path(f"/proc/{program.find('ray::LearnerWorker').pid}/fd").iterdir()]
    [shared] = [Path(name.removesuffix(" (deleted)")) for name in open_files if "r1-weights-" in name]
    program.process.kill()
    program.wait()
    # Ray's own two agents notice it after some two minutes.
    assert program.survivors(but=r"ray::(Dashboard|RuntimeEnv)Agent") == []
    assert not shared.exists()
