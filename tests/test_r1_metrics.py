import io
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from r1.config import RunConfig, check_config
from r1.errors import UserError
from r1.metrics import MetricsLogger, read_metrics, truncate_metrics
from r1.types import StepReport

METRICS = {
    "reward": 0.61,
    "accuracy": 0.55,
    "reward/reasoning_format": 0.83,
    "completion_tokens": 47.1,
    "zero_variance_share": 0.12,
    "clip_low_share": 0.01,
    "clip_high_share": 0.02,
    "mismatch": 3.1e-7,
}
TIMINGS_S = {"sample": 1.4, "score": 0.1, "update": 0.8, "publish": 0.02, "load": 0.03, "write": 0.05}


def run_config(**logging: object) -> RunConfig:
    return check_config(
        {
            "name": "quickstart",
            "num_steps": 60,
            "model": {"path": "models/tiny"},
            "task": {"name": "arithmetic"},
            "rollout": {"num_prompts": 4, "group_size": 4, "max_prompt_tokens": 8, "max_completion_tokens": 8},
            "learner": {"learning_rate": 1e-4},
            "logging": logging,
        }
    )


def report(step: int, metrics: Mapping[str, float] = METRICS, timings_s: Mapping[str, float] = TIMINGS_S) -> StepReport:
    return StepReport(step=step, policy_version=step, metrics=metrics, timings_s=timings_s)


def logger(run_dir: Path, is_terminal: bool = False, **logging: object) -> tuple[MetricsLogger, io.StringIO]:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=is_terminal, width=200, _environ={"TERM": "xterm"})
    return MetricsLogger(run_dir, run_config(**logging), console), shown


def test_every_event_is_one_json_line_and_is_on_disk_at_once(tmp_path: Path):
    metrics, _ = logger(tmp_path)
    with metrics:
        metrics.log_heldout(0, {"accuracy": 0.03}, policy_version=0)
        metrics.log_step(report(1, {"reward": 0.5}, {"sample": 1.5}))

        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()  # read before close()

    assert [json.loads(line) for line in lines] == [
        {"kind": "heldout", "step": 0, "policy_version": 0, "metrics": {"accuracy": 0.03}, "timings_s": {}},
        {"kind": "step", "step": 1, "policy_version": 1, "metrics": {"reward": 0.5}, "timings_s": {"sample": 1.5}},
    ]


def test_a_pipe_gets_one_plain_line_a_step(tmp_path: Path):
    metrics, shown = logger(tmp_path)
    with metrics:
        metrics.log_step(report(12))

    # clip 0.01 + 0.02; a step takes 1.4 + 0.1 + 0.8 + 0.02 + 0.03 + 0.05 = 2.4 s; left 48 x 2.4 = 115.2 s = 1:55
    assert shown.getvalue() == (
        "step 12/60  reward 0.61  accuracy 0.55  format 0.83  tokens 47.1  zero-variance 0.12  clip 0.03  mismatch 3.1e-07"
        "  sample 1.4s  score 0.1s  update 0.8s  publish 0.0s  load 0.0s  write 0.1s  2.4 s/step  left 1:55\n"
    )


def test_a_line_leaves_out_what_was_not_measured(tmp_path: Path):
    metrics, shown = logger(tmp_path)
    with metrics:
        metrics.log_heldout(0, {"accuracy": 0.25, "completion_tokens": 61.0})
        metrics.log_step(report(60, {"clip_high_share": 0.5}, {}))

    assert shown.getvalue().splitlines() == [
        "held-out at step 0  accuracy 0.25  tokens 61.0",
        "step 60/60  clip 0.50  0.0 s/step  left 0:00",
    ]


def test_the_time_left_follows_the_last_steps(tmp_path: Path):
    metrics, shown = logger(tmp_path)
    with metrics:
        for step, seconds in ((31, 1.0), (32, 3.0)):
            metrics.log_step(report(step, {}, {"sample": seconds}))

    # After step 31: 29 x 1 s. After step 32: 28 x (1 + 3) / 2 s = 56 s. The 30 steps of before a resume do not count.
    assert [line.rpartition("left ")[2] for line in shown.getvalue().splitlines()] == ["0:29", "0:56"]


def test_a_terminal_gets_colours_and_a_progress_bar(tmp_path: Path):
    metrics, shown = logger(tmp_path, is_terminal=True)
    with metrics:
        metrics.log_step(report(12))

    assert "\x1b[1m12/60\x1b[0m" in shown.getvalue()
    assert "━" in shown.getvalue()
    assert "left 1:55" in shown.getvalue()
    assert shown.getvalue().endswith("\x1b[?25h")  # the cursor is shown again


@pytest.mark.parametrize(("mismatch", "is_red"), [(1e-4, False), (1.1e-4, True), (float("nan"), True)])
def test_a_mismatch_above_the_bound_is_red(tmp_path: Path, mismatch: float, is_red: bool):
    metrics, shown = logger(tmp_path, is_terminal=True)
    with metrics:
        metrics.log_step(report(1, {"mismatch": mismatch}))

    assert ("\x1b[1;31m" in shown.getvalue()) == is_red  # the bound is sync.max_logprob_diff = 1e-4


def test_numbers_that_json_does_not_know_become_null(tmp_path: Path):
    metrics, _ = logger(tmp_path)
    with metrics:
        metrics.log_step(report(1, {"loss": float("nan"), "kl": float("inf"), "grad_norm": float("-inf"), "reward": 0.5}))

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is not JSON")

    (event,) = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert event["metrics"] == {"loss": None, "kl": None, "grad_norm": None, "reward": 0.5}


def test_a_line_that_was_cut_off_is_not_read_and_not_continued(tmp_path: Path):
    metrics, _ = logger(tmp_path)
    with metrics:
        metrics.log_step(report(1))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')  # killed in the middle of a write

    assert [event["step"] for event in read_metrics(tmp_path)] == [1]

    metrics, _ = logger(tmp_path)
    with metrics:
        metrics.log_step(report(2))
    assert [event["step"] for event in read_metrics(tmp_path)] == [1, 2]


def test_a_resumed_run_drops_what_it_will_write_again(tmp_path: Path):
    metrics, _ = logger(tmp_path)
    with metrics:
        metrics.log_heldout(0, {})
        for step in (1, 2, 3):
            metrics.log_step(report(step))
        metrics.log_heldout(3, {})
    before = (tmp_path / "metrics.jsonl").read_text().splitlines()

    truncate_metrics(tmp_path, 2)

    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == before[:3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "tensorboard"]


def test_nothing_to_drop_is_no_error_and_nothing_to_read_is(tmp_path: Path):
    truncate_metrics(tmp_path, 2)

    with pytest.raises(UserError, match=r"has no metrics\.jsonl; give the folder of a run"):
        read_metrics(tmp_path)


def test_tensorboard_gets_every_number(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    metrics, _ = logger(tmp_path)
    with metrics:
        metrics.log_heldout(0, {"accuracy": 0.25})
        metrics.log_step(report(1, {"reward": 0.5, "loss": float("nan")}, {"sample": 1.5}))

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert sorted(events.Tags()["tensors"]) == ["heldout/accuracy", "time/sample_s", "train/loss", "train/reward"]
    (reward,) = events.Tensors("train/reward")
    assert (reward.step, reward.tensor_proto.float_val[0]) == (1, 0.5)


def test_closing_twice_is_harmless_and_closing_once_stops_the_writing(tmp_path: Path):
    metrics, _ = logger(tmp_path)
    metrics.close()
    metrics.close()

    with pytest.raises(ValueError, match="closed file"):
        metrics.log_step(report(1))


def test_metrics_need_no_torch():
    code = "import sys, r1.metrics, tensorboard.summary; sys.exit('torch' in sys.modules or 'tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[1]).returncode == 0


def test_a_run_that_goes_back_records_its_steps_once(tmp_path: Path):
    metrics, _ = logger(tmp_path)
    with metrics:
        for step in (1, 2, 3):
            metrics.log_step(report(step))
        metrics.rewind(1)
        metrics.log_step(report(2, {"reward": 0.75}))
    assert [(event["step"], event["metrics"]["reward"]) for event in read_metrics(tmp_path)] == [(1, 0.61), (2, 0.75)]
