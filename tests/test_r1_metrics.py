import json
import math
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from r1.config import RunConfig, check_config
from r1.errors import RunError, UserError
from r1.metrics import MetricsLogger, heldout_accuracy, read_metrics, truncate_metrics
from r1.types import StepReport

METRICS = {"reward": 0.61, "accuracy": 0.55}
TIMINGS_S = {"sample": 1.4, "update": 0.8}


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


def logger(run_dir: Path, **logging: object) -> MetricsLogger:
    return MetricsLogger(run_dir, run_config(**logging))


def test_every_event_is_one_json_line_and_is_on_disk_at_once(tmp_path: Path):
    metrics = logger(tmp_path)
    with metrics:
        metrics.log_heldout(0, {"accuracy": 0.03}, policy_version=0)
        metrics.log_step(report(1, {"reward": 0.5}, {"sample": 1.5}))

        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()  # read before close()

    assert [json.loads(line) for line in lines] == [
        {"kind": "heldout", "step": 0, "policy_version": 0, "metrics": {"accuracy": 0.03}, "timings_s": {}},
        {"kind": "step", "step": 1, "policy_version": 1, "metrics": {"reward": 0.5}, "timings_s": {"sample": 1.5}},
    ]


def test_what_is_logged_comes_back_as_it_will_be_read(tmp_path: Path):
    with logger(tmp_path) as metrics:
        logged = [metrics.log_heldout(0, {"accuracy": 0.03}, 0), metrics.log_step(report(1, {"loss": float("nan")}))]

    assert logged == read_metrics(tmp_path)


def test_numbers_that_json_does_not_know_become_null(tmp_path: Path):
    metrics = logger(tmp_path)
    with metrics:
        metrics.log_step(report(1, {"loss": float("nan"), "kl": float("inf"), "grad_norm": float("-inf"), "reward": 0.5}))

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is not JSON")

    (event,) = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert event["metrics"] == {"loss": None, "kl": None, "grad_norm": None, "reward": 0.5}


def test_a_line_that_was_cut_off_is_not_read_and_not_continued(tmp_path: Path):
    metrics = logger(tmp_path)
    with metrics:
        metrics.log_step(report(1))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')  # killed in the middle of a write

    assert [event["step"] for event in read_metrics(tmp_path)] == [1]

    metrics = logger(tmp_path)
    with metrics:
        metrics.log_step(report(2))
    assert [event["step"] for event in read_metrics(tmp_path)] == [1, 2]


def test_a_resumed_run_drops_what_it_will_write_again(tmp_path: Path):
    metrics = logger(tmp_path)
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

    metrics = logger(tmp_path)
    with metrics:
        metrics.log_heldout(0, {"accuracy": 0.25})
        metrics.log_step(report(1, {"reward": 0.5, "loss": float("nan")}, {"sample": 1.5}))

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert sorted(events.Tags()["tensors"]) == ["heldout/accuracy", "time/sample_s", "train/loss", "train/reward"]
    (reward,) = events.Tensors("train/reward")
    assert (reward.step, reward.tensor_proto.float_val[0]) == (1, 0.5)


def test_closing_twice_is_harmless_and_closing_once_stops_the_writing(tmp_path: Path):
    metrics = logger(tmp_path)
    metrics.close()
    metrics.close()

    with pytest.raises(ValueError, match="closed file"):
        metrics.log_step(report(1))


def test_metrics_need_no_torch():
    code = "import sys, r1.metrics, tensorboard.summary; sys.exit('torch' in sys.modules or 'tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[1]).returncode == 0


def test_a_run_that_goes_back_records_its_steps_once(tmp_path: Path):
    metrics = logger(tmp_path)
    with metrics:
        for step in (1, 2, 3):
            metrics.log_step(report(step))
        metrics.rewind(1)
        metrics.log_step(report(2, {"reward": 0.75}))
    assert [(event["step"], event["metrics"]["reward"]) for event in read_metrics(tmp_path)] == [(1, 0.61), (2, 0.75)]


@pytest.mark.parametrize(
    "damaged",
    [
        '{"kind": ',
        "[]",
        '{"kind": "step", "policy_version": 1, "metrics": {}, "timings_s": {}}',
        '{"kind": "step", "step": 1, "policy_version": 1, "metrics": null, "timings_s": {}}',
        '{"kind": "step", "step": 1, "policy_version": 1, "metrics": {}}',
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, damaged: str):
    good = '{"kind": "step", "step": 1, "policy_version": 1, "metrics": {}, "timings_s": {}}\n'
    (tmp_path / "metrics.jsonl").write_text(good + damaged + "\n" + good)
    for read in (read_metrics, lambda run_dir: truncate_metrics(run_dir, 1)):
        with pytest.raises(UserError, match=r"metrics.jsonl', line 2, is damaged: .*; mend or remove that line"):
            read(tmp_path)


def test_a_record_that_is_no_text_is_named(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"kind": "\xff"}\n')
    with pytest.raises(UserError, match=r"metrics.jsonl' is damaged: .* can't decode byte 0xff"):
        read_metrics(tmp_path)


def test_a_disk_that_fills_up_leaves_no_half_line_and_the_run_can_go_on(tmp_path: Path):
    """A limit on the size of files takes what fits and refuses the rest, as a full disk does."""
    with logger(tmp_path, trackers=[]) as first:
        first.log_step(report(1))
        size = (tmp_path / "metrics.jsonl").stat().st_size
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[1]))
        try:
            with pytest.raises(RunError, match=r"^cannot write metrics.jsonl in '.*': .*; is the disk full\? Make room, and go on"):
                first.log_step(report(2))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "metrics.jsonl").stat().st_size == size
    with logger(tmp_path, trackers=[]) as second:
        second.log_step(report(2))
    assert [event["step"] for event in read_metrics(tmp_path)] == [1, 2]


def test_an_evaluation_that_nothing_judged_has_no_accuracy(tmp_path: Path):
    with logger(tmp_path) as metrics:
        metrics.log_heldout(2, {"accuracy": math.nan})
        metrics.log_heldout(4, {"accuracy": 0.5})
    assert heldout_accuracy(tmp_path) == {4: 0.5}
