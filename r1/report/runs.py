"""What a page is made of: the record, the configuration and the summary of each run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1.config import RunConfig
from r1.errors import UserError
from r1.metrics import read_metrics
from r1.report.saved_options import SavedOptions, read_saved_options

# What a page reads of a summary; all but the first may be null, and missing in those of an older r1.
_SUMMARY = (("steps", int), ("total_s", (int, float)), ("ended", str), ("faults", list), ("versions", dict))

MAX_RUNS = 8
"""Colours that can be told apart, by the colour-blind too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportRun:
    """One run as far as it has come."""

    path: Path
    label: str
    """What it is called beside the others: the name of its folder, or the path where two folders are called the same."""
    saved: SavedOptions
    steps: Sequence[Mapping[str, Any]]
    """The events of kind "step" of metrics.jsonl, in order."""
    heldout: Sequence[Mapping[str, Any]]
    """The events of kind "heldout"."""
    summary: Mapping[str, Any] | None
    """summary.json; None until the run has ended, while it goes on after a resume, and where it cannot be read."""
    summary_problem: str = ""
    """Why it cannot be read."""

    @property
    def config(self) -> RunConfig | None:
        """None where it cannot be read."""
        return self.saved.config

    @property
    def events(self) -> list[Mapping[str, Any]]:
        """Steps and evaluations in the order of time: the evaluation of a step comes after it."""
        return sorted([*self.steps, *self.heldout], key=lambda event: (event["step"], event["kind"] == "heldout"))

    @property
    def last_step(self) -> int:
        """0 before the first."""
        return self.steps[-1]["step"] if self.steps else 0

    @property
    def steps_s(self) -> float:
        """Seconds that the steps took, without start, evaluations and checkpoints."""
        return sum(seconds or 0.0 for event in self.steps for seconds in event["timings_s"].values())


def load_runs(paths: Sequence[Path], *, may_be_empty: bool = False) -> list[ReportRun]:
    """Read the runs. may_be_empty: also one that has not finished a step or evaluation yet."""
    if len(paths) > MAX_RUNS:
        raise UserError(f"{len(paths)} runs are more than {MAX_RUNS}, whose colours can be told apart; give fewer")
    resolved = [path.resolve() for path in paths]
    if len(set(resolved)) < len(resolved):
        raise UserError(f"a run is given twice: {', '.join(map(str, paths))}; give each once")
    names = [path.name for path in resolved]
    labels = [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]
    return [_load_run(path, label, may_be_empty) for path, label in zip(paths, labels, strict=True)]


def _load_run(path: Path, label: str, may_be_empty: bool) -> ReportRun:
    if not path.is_dir():
        raise UserError(f"run folder {str(path)!r} does not exist; give the folder that the run writes to")
    events = [] if may_be_empty and not (path / "metrics.jsonl").is_file() else read_metrics(path)
    if not events and not may_be_empty:
        raise UserError(f"{str(path / 'metrics.jsonl')!r} holds no finished step; make the report after the first one")
    steps = [event for event in events if event["kind"] == "step"]
    summary, problem = _summary(path, steps[-1]["step"] if steps else 0)
    return ReportRun(
        path=path,
        label=label,
        saved=read_saved_options(path),
        steps=steps,
        heldout=[event for event in events if event["kind"] == "heldout"],
        summary=summary,
        summary_problem=problem,
    )


def _summary(path: Path, last_step: int) -> tuple[Mapping[str, Any] | None, str]:
    """The summary, if it is of these steps: one of an earlier process may lie in a copy of a run. And why it cannot be read."""
    try:
        summary: Any = json.loads((path / "summary.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, ""
    except ValueError as error:
        return None, f"summary.json is damaged: {error}"
    if not isinstance(summary, Mapping):
        return None, "summary.json is damaged: it is no object"
    if summary.get("steps") is None:
        return None, "summary.json is damaged: it has no steps"
    for name, kind in _SUMMARY:
        value = summary.get(name)
        if value is not None and not isinstance(value, kind):
            return None, f"summary.json is damaged: {name} is {value!r}"
    return (summary if summary["steps"] == last_step else None), ""
