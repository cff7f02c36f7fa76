"""Commands that read a run, given its URL: what they need is fetched into a folder of this node, and read there as any run is.

A second call fetches what is new: SCRATCH/.fetched.json says which version of each file is here.
"""

import json
import re
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from r1.checkpoint import FOLDER
from r1.errors import UserError
from r1.evaluation.model import find_model
from r1.files import atomic_file
from r1.run_place import users_to_mend
from r1.storage import PROBE_S, Storage, StorageError, Stored, is_url, local_path, make_scratch, open_storage, scratch_folder
from r1.trace_schema import FILE_PREFIX, trace_file
from tasks.base import Split

ChooseSteps = Callable[[Split, Sequence[int]], Collection[int]]
"""Which of a split's stored steps, in rising order, a command reads the traces of."""
FOLLOW_EVERY_S = 10.0
_STATE = ".fetched.json"
_RECORD = ("config.json", "metrics.jsonl", "summary.json")
_PROOF = re.compile(rf"{FOLDER}/step-[0-9]+/(progress\.json|learner/\.metadata)")
"""What a checkpoint is complete with."""


def all_steps(split: Split, stored: Sequence[int]) -> Sequence[int]:
    """`ChooseSteps` of those who ask a whole run."""
    return stored


def local_run(run: str | Path, choose: ChooseSteps = all_steps) -> Path:
    """The folder of a run as it is now. Raises `UserError` when it cannot be read.

    choose: of a run at a URL, the steps whose traces are fetched, besides the record; others may lie there from an earlier call.
    """
    return _fetch(str(run), is_read, choose) if is_url(run) else Path(run)


def local_runs(runs: Sequence[str | Path], choose: ChooseSteps) -> list[Path]:
    return [local_run(run, choose) for run in runs]


def follow(runs: Sequence[str | Path], choose: ChooseSteps = all_steps) -> None:
    """Keep what was fetched up to date, in a thread, as long as the process lives."""
    urls = [str(run) for run in runs if is_url(run)]
    if urls:
        threading.Thread(target=_follow, args=(urls, choose), name="r1-follow", daemon=True).start()


def _follow(urls: Sequence[str], choose: ChooseSteps) -> None:
    pause = threading.Event()
    while not pause.wait(FOLLOW_EVERY_S):
        for url in urls:
            with suppress(UserError):  # storage that cannot be reached now may be in a moment: the page shows how old it is
                local_run(url, choose)


def local_model(model: str, checkpoint: str | None = None) -> tuple[str, Any]:
    """As `find_model`; of a run at a URL, the chosen checkpoint's weights are fetched, and no others."""
    if not is_url(model):
        return find_model(model, checkpoint)
    # What shows which checkpoints are complete, and which is the best. The record without traces: those may be large.
    folder = _fetch(model, lambda name: name in _RECORD or _PROOF.fullmatch(name) is not None)
    path, config = find_model(str(folder), checkpoint)
    weights = Path(path).relative_to(folder).as_posix()
    _fetch(model, lambda name: name.startswith(f"{weights}/"))
    return path, config


def is_read(name: str) -> bool:
    """Whether a command may look at the file: not checkpoints, and not what belongs to trackers."""
    return name in _RECORD or _step_of(name) is not None


def _step_of(name: str) -> tuple[Split, int] | None:
    folder, _, last = name.rpartition("/")
    return trace_file(last) if folder == "traces" else None


def local_config(run: str) -> Path:
    """The folder of a run, for who reads its configuration alone."""
    return _fetch(run, lambda name: name == "config.json")


def _fetch(url: str, is_wanted: Callable[[str], bool], choose: ChooseSteps = all_steps) -> Path:
    storage = open_storage(url, "RUN")
    folder = scratch_folder(storage.url, "read")
    with users_to_mend("RUN"):
        _update(storage, folder, is_wanted, choose)
    return folder


def _update(storage: Storage, folder: Path, is_wanted: Callable[[str], bool], choose: ChooseSteps) -> None:
    # A small call first, with the limit for storage that cannot be reached: a long list may take its time.
    if storage.read("config.json", PROBE_S) is None:
        raise UserError(f"option 'RUN': {storage.url!r} is not a run, it has no config.json; give a URL that a run writes to")
    there = storage.files()
    wanted = _chosen([name for name in there if is_wanted(name)], choose)
    make_scratch(folder)
    state, changes = _state(folder), dict[str, list[Any] | None]()
    try:
        # A run that went back has removed it, or written it anew.
        for name in [name for name in state if is_wanted(name) and name not in wanted]:
            if name not in there or state[name] != _mark(there[name]):
                local_path(folder, name).unlink(missing_ok=True)
                changes[name] = None
        # metrics.jsonl last: it tells of the steps whose traces are there.
        for name in sorted(wanted, key=lambda name: name == "metrics.jsonl"):
            stored = there[name]
            if state.get(name) != _mark(stored) or not local_path(folder, name).is_file():
                try:
                    storage.download(name, folder, stored.size)
                except StorageError:
                    if name in storage.files(name.rpartition("/")[0]):
                        raise
                    continue  # removed since it was listed
                changes[name] = _mark(stored)
    finally:
        # Also when it ends in the middle: a file that is not noted would never be found to be out of date.
        _note(folder, changes)


def _note(folder: Path, changes: Mapping[str, list[Any] | None]) -> None:
    """Write what has changed into .fetched.json as it is now: another command may have written there meanwhile."""
    state = {name: mark for name, mark in {**_state(folder), **changes}.items() if mark is not None}
    with atomic_file(folder / _STATE) as temporary:
        temporary.write_text(json.dumps(state), encoding="utf-8")


def _chosen(names: Sequence[str], choose: ChooseSteps) -> list[str]:
    """The names without the trace files of other steps."""
    steps = {name: step for name in names if (step := _step_of(name))}
    of_split: dict[Split, list[int]] = {
        split: sorted(step for other, step in steps.values() if other == split) for split in FILE_PREFIX
    }
    chosen = {(split, step) for split, stored in of_split.items() for step in choose(split, stored)}
    return [name for name in names if name not in steps or steps[name] in chosen]


def _mark(stored: Stored) -> list[Any]:
    """What .fetched.json has of a file that is here."""
    return [stored.size, stored.version]


def _state(folder: Path) -> dict[str, Any]:
    path = folder / _STATE
    state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return state
