"""The folder that a run writes: made before anything is started, gone again when nothing came of it."""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from r1.checkpoint import latest_checkpoint
from r1.config import RunConfig
from r1.errors import UserError
from r1.files import atomic_file, nearest_existing, written
from r1.metrics import read_metrics
from r1.summary import SUMMARY
from r1.types import Progress

RUNS = "runs"
STARTING = ".starting.json"
"""The configuration of a run that has not begun yet."""


def make_run_folder(config: RunConfig) -> Path:
    """Create the folder of a new run, empty, and return its absolute path; the same name is never given out twice."""
    run_dir = path_of_run(config, time.strftime("%Y%m%d-%H%M%S"))
    try:
        run_dir.mkdir(parents=True)
    except FileExistsError as error:
        raise _exists_already(run_dir) from error
    except OSError as error:
        raise UserError(f"option 'run_dir': cannot create {str(run_dir)!r}: {error.strerror}; choose another folder") from error
    return run_dir


def new_run_folder(config: RunConfig) -> Path:
    """The folder that `make_run_folder` would create, refused as it would be; DATE-TIME stands for the moment of the start."""
    run_dir = path_of_run(config, "DATE-TIME")
    above = nearest_existing(run_dir)
    if above == run_dir:
        raise _exists_already(run_dir)
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        reason = "Permission denied" if above.is_dir() else "Not a directory"
        raise UserError(f"option 'run_dir': cannot create {str(run_dir)!r}: {reason}; choose another folder")
    return run_dir


def path_of_run(config: RunConfig, started: str, runs: str | Path = RUNS) -> Path:
    """Where a run that is started now writes. runs: the folder of those that are given none."""
    return Path(config.run_dir or Path(runs) / f"{config.name}-{started}").absolute()


def _exists_already(run_dir: Path) -> UserError:
    return UserError(
        f"option 'run_dir': {str(run_dir)!r} exists already; choose another folder, or go on in it with --resume {run_dir}"
    )


def find_checkpoint(run_dir: Path, config: RunConfig, option: str = "--resume") -> tuple[Path, Progress]:
    """Return the checkpoint to go on from; a `UserError` when there is none, or nothing left to do after it.

    option: what named the folder.
    """
    folder, progress = latest_checkpoint(run_dir)
    if is_finished(run_dir, progress, config):
        raise UserError(
            f"option '{option}': {str(run_dir)!r} has finished step {progress.step} of {config.num_steps}; "
            "pass num_steps=N with a larger N, or begin another run in another folder"
        )
    return folder, progress


def is_finished(run_dir: Path, progress: Progress, config: RunConfig) -> bool:
    is_evaluated = config.evaluate.num_completions == 0 or progress.step in evaluated_steps(run_dir)
    return progress.step >= config.num_steps and is_evaluated


def evaluated_steps(run_dir: Path) -> set[int]:
    """The steps whose held-out evaluation is recorded; 0 is the one before training."""
    if not (run_dir / "metrics.jsonl").is_file():
        return set()
    return {event["step"] for event in read_metrics(run_dir) if event["kind"] == "heldout"}


@contextmanager
def removed_unless_begun(run_dir: Path, config: RunConfig) -> Iterator[None]:
    """Remove the folder when the block ends before `begin_run`: the same command can then be started again.

    What is there by then is what trackers made for a run that never was. A run that is resumed has its config.json.
    """
    starting, saved = run_dir / STARTING, run_dir / "config.json"
    try:
        if not saved.exists():
            with written(STARTING), atomic_file(starting) as temporary:
                temporary.write_text(config.model_dump_json(), encoding="utf-8")
        yield
    finally:
        starting.unlink(missing_ok=True)
        if not saved.exists():
            shutil.rmtree(run_dir)


def begin_run(run_dir: Path, config: RunConfig) -> None:
    """Write config.json: all is up, and what is written from now on is kept.

    Of a run that goes on the summary is removed: it tells how an earlier process ended, and would be taken for this one's.
    """
    with written("config.json"), atomic_file(run_dir / "config.json") as temporary:
        temporary.write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (run_dir / STARTING).unlink(missing_ok=True)
    (run_dir / SUMMARY).unlink(missing_ok=True)


def changed_options(checkpoint: Path, config: RunConfig) -> list[str]:
    """Return "section.option: before -> now" for each option that a resumed run has otherwise than its checkpoint."""
    before = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    then, now = (dict(_leaves(tree)) for tree in (before, config.model_dump(mode="json")))
    # The folder may have been moved, and is named by --resume.
    names = [name for name in {**then, **now} if then.get(name) != now.get(name) and name != "run_dir"]
    return [f"{name}: {then.get(name)} -> {now.get(name)}" for name in names]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
