"""Checkpoints: a folder per step, complete or not there at all.

    RUN/checkpoints/step-000050/   state.json, learner.pt, hf/ (the policy as Hugging Face files)

A checkpoint is written into a folder with another name, flushed to disk, and renamed: whoever is cut off
leaves a `.partial-*` folder that no reader looks at and the next save removes.
"""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from r1.errors import UserError
from r1.files import flush

FOLDER = "checkpoints"
_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointState:
    """What the driver needs to go on; the learner keeps its own state beside it.

    >>> CheckpointState(step=50, policy_version=50).step
    50
    """

    step: int
    """The last finished step."""
    policy_version: int


def save_checkpoint(run_dir: Path, state: CheckpointState, write_learner: Callable[[Path], None]) -> Path:
    """Write a checkpoint atomically and return its folder; `write_learner` fills the folder that it is given."""
    root = run_dir / FOLDER
    root.mkdir(parents=True, exist_ok=True)
    for leftover in root.glob(".partial-*"):
        shutil.rmtree(leftover)
    final, partial = root / f"step-{state.step:06d}", root / f".partial-step-{state.step:06d}"
    partial.mkdir()
    write_learner(partial)
    (partial / "state.json").write_text(json.dumps(asdict(state)), encoding="utf-8")
    _flush(partial)
    partial.rename(final)  # never replaces one: a resumed run starts from the newest
    flush(root)
    return final


def remove_old_checkpoints(run_dir: Path, keep_last: int, best_step: int | None) -> None:
    """Remove all complete checkpoints but the newest `keep_last` and that of `best_step`."""
    folders = sorted(_complete(run_dir), key=_step_of)
    for folder in folders[:-keep_last]:
        if _step_of(folder) != best_step:
            # Renamed first: one that is cut off while being removed is no checkpoint any more.
            doomed = folder.rename(folder.with_name(f".partial-{folder.name}"))
            shutil.rmtree(doomed)


def latest_checkpoint(run_dir: Path) -> tuple[Path, CheckpointState]:
    """Return the newest complete checkpoint; a `UserError` where there is none."""
    folders = _complete(run_dir)
    if not folders:
        raise UserError(
            f"option '--resume': {str(run_dir)!r} holds no complete checkpoint; start a new run, with checkpoint.every above 0"
        )
    newest = max(folders, key=_step_of)
    try:
        return newest, CheckpointState(**json.loads((newest / "state.json").read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"option '--resume': {str(newest / 'state.json')!r} is damaged ({error}); remove that folder") from error


def _complete(run_dir: Path) -> list[Path]:
    return [path for path in (run_dir / FOLDER).glob("step-*") if _NAME.fullmatch(path.name) and _is_complete(path)]


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _is_complete(folder: Path) -> bool:
    """Both halves are there: the driver's, and the learner's, which another node wrote if it shares this folder."""
    return (folder / "state.json").is_file() and (folder / "learner.pt").is_file()


def _flush(folder: Path) -> None:
    """fsync every file and folder below, so that a rename never survives a power cut that its content did not."""
    for path in [*sorted(folder.rglob("*"), reverse=True), folder]:
        flush(path)
