"""Run folders, and folders of them, as the first screen lists them."""

import json
import time
from pathlib import Path

from r1.browse.lines import RunLine
from r1.errors import UserError
from r1.trace_schema import trace_file


def is_run(folder: Path) -> bool:
    """Whether a run writes, or is going to write, to this folder."""
    return (folder / "traces").is_dir() or (folder / "metrics.jsonl").is_file() or (folder / "config.json").is_file()


def find_runs(folder: Path) -> list[Path]:
    """Return the folder if it is a run, or the runs in it by name; raises `UserError` when there are none."""
    if not folder.is_dir():
        raise UserError(f"folder {str(folder)!r} does not exist; give a run folder, or one that holds runs, e.g. runs")
    if is_run(folder):
        return [folder]
    runs = sorted(path for path in folder.iterdir() if path.is_dir() and is_run(path))
    if not runs:
        raise UserError(f"folder {str(folder)!r} is no run and holds none; give a run folder, or one that holds runs, e.g. runs")
    return runs


def run_line(run: Path) -> RunLine:
    """Sum a run up from its file names and the end of its metrics.jsonl; `OSError` when it vanishes meanwhile."""
    steps = [known[1] for path in run.glob("traces/*") if (known := trace_file(path.name))]
    metrics = run / "metrics.jsonl"
    written = [path.stat().st_mtime for path in (run, run / "traces", metrics) if path.exists()]
    last_step, reward, heldout_accuracy, unreadable = None, None, None, ""
    if metrics.is_file():
        try:
            last_step, reward, heldout_accuracy = _end_of_record(metrics)
        except (ValueError, LookupError, TypeError, AttributeError):  # the other runs of the folder are listed all the same
            unreadable = metrics.name
    return RunLine(
        key=run,
        last_step=max(steps if last_step is None else [*steps, last_step], default=None),
        reward=reward,
        heldout_accuracy=heldout_accuracy,
        written_s=time.time() - max(written, default=time.time()),
        unreadable=unreadable,
    )


def _end_of_record(metrics: Path) -> tuple[int | None, float | None, float | None]:
    """The last step, its mean reward, and the last held-out accuracy; whatever error damaged lines lead to."""
    # From the end, and only the two lines that are wanted: a long run has megabytes of them. The last may be cut off.
    lines = [line for line in metrics.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    step_line = next((line for line in reversed(lines) if '"kind": "step"' in line), None)
    heldout_line = next((line for line in reversed(lines) if '"kind": "heldout"' in line), None)
    last_step = reward = accuracy = None
    if step_line is not None:
        event = json.loads(step_line)
        last_step, reward = int(event["step"]), event["metrics"].get("reward")
    if heldout_line is not None:
        accuracy = json.loads(heldout_line)["metrics"].get("accuracy")
    return last_step, reward, accuracy
