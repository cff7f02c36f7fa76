"""A step's report -> metrics.jsonl and the trackers. What people see while it runs is r1/console.py.

RUN/metrics.jsonl is the record that everything else is drawn from: one JSON object a line, written as the step ends.

    {"kind": "step", "step": 12, "policy_version": 12, "metrics": {"reward": 0.61, ...}, "timings_s": {"sample": 1.4, ...}}
    {"kind": "heldout", "step": 60, "policy_version": 60, "metrics": {"accuracy": 0.83, ...}, "timings_s": {}}
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from r1.config import RunConfig
from r1.errors import UserError
from r1.faults import FaultLog
from r1.files import atomic_file, written
from r1.trackers import Record, Trackers
from r1.types import StepReport

PHASES = ("sample", "score", "update", "publish", "load", "write")
"""The phases of a step in their order: the keys of StepReport.timings_s."""

FORMAT_KEY = "reward/reasoning_format"
"""The metric that the console, the summary and the curves call "format"."""


class MetricsLogger:
    """Sends each step's report everywhere that the configuration asks for.

    Use it as a context manager: leaving the block closes the files.
    """

    def __init__(self, run_dir: str | Path, config: RunConfig, faults: FaultLog | None = None) -> None:
        run_dir = Path(run_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        self._run_dir = run_dir
        self._trackers = Trackers(run_dir, config, faults or FaultLog())
        self._trackers.start(self._open())

    def _open(self) -> Record:
        path = self._run_dir / "metrics.jsonl"
        _drop_cut_line(path)
        # Without a buffer: one that cannot be written out would fail again when the file is closed.
        self._file = path.open("ab", buffering=0)
        events = read_metrics(self._run_dir)
        return [(event["step"], _scalars(event["kind"], event["metrics"], event["timings_s"])) for event in events]

    def rewind(self, last_step: int) -> None:
        """Forget the events after `last_step`: they are going to be recorded again."""
        self._file.close()
        truncate_metrics(self._run_dir, last_step)
        self._trackers.rewind(self._open())

    def log_step(self, report: StepReport) -> dict[str, Any]:
        """Record one finished step, and return the event as `read_metrics` will."""
        event = self._append("step", report.step, report.policy_version, report.metrics, report.timings_s)
        self._trackers.log(report.step, _scalars("step", report.metrics, report.timings_s))
        return event

    def log_heldout(self, step: int, metrics: Mapping[str, float], policy_version: int | None = None) -> dict[str, Any]:
        """Record a held-out evaluation after `step`, 0 is before training; return the event likewise."""
        event = self._append("heldout", step, policy_version, metrics, {})
        self._trackers.log(step, _scalars("heldout", metrics, {}))
        return event

    def close(self, failed: bool = False) -> None:
        """Finish every sink; may be called twice. failed: the run ended with an error."""
        self._trackers.close(failed)
        self._file.close()

    def __enter__(self) -> "MetricsLogger":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close(failed=error is not None)

    def _append(
        self, kind: str, step: int, policy_version: int | None, metrics: Mapping[str, float], timings_s: Mapping[str, float]
    ) -> dict[str, Any]:
        event: dict[str, Any] = json_ready(
            {"kind": kind, "step": step, "policy_version": policy_version, "metrics": metrics, "timings_s": timings_s}
        )
        self._write_line(json.dumps(event, allow_nan=False) + "\n")
        return event

    def _write_line(self, line: str) -> None:
        """All of it or nothing: a disk that fills up may take a part."""
        start, data = os.fstat(self._file.fileno()).st_size, line.encode()
        with written(f"metrics.jsonl in {str(self._run_dir)!r}"):
            try:
                while data:
                    data = data[self._file.write(data) :]
            except OSError:
                self._file.truncate(start)
                raise


def heldout_accuracy(run_dir: Path) -> dict[int, float]:
    """Return step -> held-out accuracy after it, for the steps that were evaluated so far, and of which anything was judged."""
    measured = {event["step"]: event["metrics"]["accuracy"] for event in read_metrics(run_dir) if event["kind"] == "heldout"}
    return {step: accuracy for step, accuracy in measured.items() if accuracy is not None}


def read_metrics(run_dir: str | Path) -> list[dict[str, Any]]:
    """Return the events of RUN/metrics.jsonl in order, without a last line that was cut off when the run was killed."""
    path = Path(run_dir) / "metrics.jsonl"
    if not path.is_file():
        raise UserError(f"run folder {str(run_dir)!r} has no metrics.jsonl; give the folder of a run that has begun to train")
    return [_event(path, number, line) for number, line in enumerate(_whole_lines(path), start=1)]


def truncate_metrics(run_dir: str | Path, last_step: int) -> None:
    """Drop the events after `last_step`: a run that resumes there is going to write them again."""
    path = Path(run_dir) / "metrics.jsonl"
    if not path.is_file():
        return
    lines = enumerate(_whole_lines(path), start=1)
    kept = [line for number, line in lines if _event(path, number, line)["step"] <= last_step]
    with atomic_file(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


def json_ready(value: Any) -> Any:
    """Replace NaN and infinities by None: JSON has no word for them, and Python's own `NaN` breaks other readers.

    >>> json_ready({"loss": float("nan"), "steps": [1, float("inf")]})
    {'loss': None, 'steps': [1, None]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [json_ready(item) for item in value]
    return value


def _scalars(kind: str, metrics: Mapping[str, float | None], timings_s: Mapping[str, float | None]) -> dict[str, float]:
    """What trackers are sent for an event; a None in the record was NaN or infinite."""
    group = {"step": "train", "heldout": "heldout"}[kind]
    named = {f"{group}/{name}": value for name, value in metrics.items()}
    named |= {f"time/{phase}_s": seconds for phase, seconds in timings_s.items()}
    return {name: math.nan if value is None else value for name, value in named.items()}


def _event(path: Path, number: int, line: str) -> dict[str, Any]:
    where = f"{str(path)!r}, line {number}, is damaged"
    try:
        event: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: {error}; mend or remove that line") from error
    if not isinstance(event, dict):
        raise UserError(f"{where}: it is no object; mend or remove that line")
    parts = {"kind": str, "step": int, "metrics": dict}
    if event.get("kind") == "step":  # an evaluation has no phases
        parts["timings_s"] = dict
    missing = [name for name, kind in parts.items() if not isinstance(event.get(name), kind)]
    if missing:
        raise UserError(f"{where}: it has no {missing[0]}; mend or remove that line")
    return event


def _whole_lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise UserError(f"{str(path)!r} is damaged: {error}; mend it or give another run") from error
    return [line for line in lines if line.endswith("\n")]


def _drop_cut_line(path: Path) -> None:
    """Remove what a killed run left of its last line, or the next event would be glued to it."""
    if path.is_file():
        with path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
