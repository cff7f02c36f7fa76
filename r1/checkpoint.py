"""Checkpoints: a folder per step, complete or not there at all.

    RUN/checkpoints/step-000050/   progress.json, config.json, learner/ (r1.learner_state), hf/ (Hugging Face files)
    RUN/checkpoints/latest         a link to the newest one, for people

A checkpoint is written into a folder with another name, flushed to disk, and renamed: whoever is cut off
leaves a `.partial-*` folder that no reader looks at and the next save removes.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from r1.config import RunConfig
from r1.errors import RunError, UserError
from r1.files import flush
from r1.types import Progress

FOLDER = "checkpoints"
LATEST = "latest"
KEEP_LAST = 3
"""Newest checkpoints that are kept, besides the one with the best held-out accuracy."""
NAME = re.compile(r"step-(\d{6,})")


def begin_checkpoint(run_dir: Path, step: int) -> Path:
    """Return an empty folder for the learner to write into; `finish_checkpoint` makes a checkpoint of it."""
    root = run_dir / FOLDER
    root.mkdir(parents=True, exist_ok=True)
    for leftover in root.glob(".partial-*"):
        shutil.rmtree(leftover)
    partial = root / f".partial-step-{step:06d}"
    partial.mkdir()
    return partial


def finish_checkpoint(partial: Path, progress: Progress, config: RunConfig) -> Path:
    """Add the driver's part to what the learner has written and flushed, and give it its name: the folder is returned."""
    if not _has_learner_state(partial):
        raise RunError(
            f"checkpoint of step {progress.step}: the learner has written nothing into {partial} that can be seen here; "
            "run_dir must be a folder that all nodes share, or a URL"
        )
    final = partial.with_name(f"step-{progress.step:06d}")
    for name, text in (
        ("config.json", config.model_dump_json(indent=2)),
        ("progress.json", json.dumps(asdict(progress))),
    ):
        (partial / name).write_text(text + "\n", encoding="utf-8")
        flush(partial / name)
    # The learner has flushed its files; their names lie in the folders.
    flush(partial / "learner")
    flush(partial)
    if final.exists() and not _is_complete(final):
        _remove(final)
    partial.rename(final)  # never replaces a complete one: a resumed run starts from the newest
    flush(final.parent)
    point_latest(final)
    return final


def remove_old_checkpoints(run_dir: Path, accuracy: Mapping[int, float], keep_last: int = KEEP_LAST) -> None:
    """Remove all complete checkpoints but the newest `keep_last` and the best of all.

    accuracy: step -> held-out accuracy after it, where it was measured; of equals the earlier step is the best.
    """
    folders = complete_checkpoints(run_dir)
    for step in old_steps(list(folders), accuracy, keep_last):
        _remove(folders[step])


def old_steps(steps: Sequence[int], accuracy: Mapping[int, float], keep_last: int = KEEP_LAST) -> list[int]:
    """Of the steps that have a checkpoint, by rising step, those that `remove_old_checkpoints` removes.

    >>> old_steps([10, 20, 30, 40, 50], {10: 0.5, 20: 0.7})
    [10]
    """
    best = best_step(steps, accuracy)
    return [step for step in steps[:-keep_last] if step != best]


def best_step(steps: Iterable[int], accuracy: Mapping[int, float]) -> int | None:
    """The one with the best held-out accuracy, of equals the earliest; None where none was measured. steps: rising."""
    measured = [step for step in steps if step in accuracy]
    return max(measured, key=lambda step: accuracy[step]) if measured else None


def best_checkpoint(folders: Mapping[int, Path], accuracy: Mapping[int, float]) -> Path | None:
    """Return the checkpoint with the best held-out accuracy, of equals the earliest; None where none was measured.

    folders: step -> folder, by rising step.
    """
    best = best_step(folders, accuracy)
    return None if best is None else folders[best]


def latest_checkpoint(run_dir: Path) -> tuple[Path, Progress]:
    """Return the newest complete checkpoint; a `UserError` where there is none."""
    folders = complete_checkpoints(run_dir)
    if not folders:
        raise UserError(
            f"option '--resume': {str(run_dir)!r} holds no complete checkpoint; start a new run, with checkpoint.every above 0"
        )
    newest = folders[max(folders)]
    try:
        return newest, Progress(**json.loads((newest / "progress.json").read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"option '--resume': {str(newest / 'progress.json')!r} is damaged ({error}); remove that folder"
        ) from error


def has_checkpoint(run_dir: Path) -> bool:
    """Whether there is a complete one; it may be damaged all the same."""
    return bool(complete_checkpoints(run_dir))


def complete_checkpoints(run_dir: Path) -> dict[int, Path]:
    """Return step -> folder of the complete ones, by rising step."""
    paths = [path for path in (run_dir / FOLDER).glob("step-*") if NAME.fullmatch(path.name) and _is_complete(path)]
    return {step: path for step, path in sorted((int(path.name.removeprefix("step-")), path) for path in paths)}


def _is_complete(folder: Path) -> bool:
    """Both halves are there: the driver's, and the learner's, which another node wrote if it shares this folder."""
    return (folder / "progress.json").is_file() and _has_learner_state(folder)


def _has_learner_state(folder: Path) -> bool:
    return (folder / "learner/.metadata").is_file()


def _remove(folder: Path) -> None:
    # Renamed first: one that is cut off while being removed is no checkpoint any more.
    shutil.rmtree(folder.rename(folder.with_name(f".partial-removed-{folder.name}")))


def point_latest(folder: Path) -> None:
    """Let `latest` lead to this checkpoint; a run that was killed may have left it behind."""
    link = folder.with_name(f".{LATEST}")
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    os.replace(link, folder.with_name(LATEST))
