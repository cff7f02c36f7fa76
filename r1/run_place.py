"""Where a run lies: in a folder, or at a URL with a scratch folder on the driver's node, in which it works as in any other.

Two small files say who is ahead of whom. URL/writer.json names the process that wrote there last; SCRATCH/.mirror.json names
the process that used the scratch folder last, and what of it is at the URL. The same name: this scratch folder holds all that
the URL does, and perhaps files that storage did not take. Another name: the run has gone on elsewhere since.
"""

import json
import shutil
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from r1.checkpoint import FOLDER, NAME, complete_checkpoints
from r1.config import RunConfig
from r1.errors import UserError
from r1.files import atomic_file
from r1.run_folder import make_run_folder, new_run_folder
from r1.run_lock import FILE as LOCK
from r1.run_lock import locked
from r1.storage import Storage, StorageError, is_url, make_scratch, open_storage, scratch_folder

WRITER = "writer.json"
STATE = ".mirror.json"
RUN_IDS = ("wandb/run-id", "trackio/run-id")
"""By which a resumed run goes on in its trackers."""
PARTS_AT_URL = ".parts-at-url"
"""In a checkpoint's folder: what the learner wrote of it is at the URL, and perhaps not here (r1/runtime/learner_nodes.py)."""
FileState = tuple[int, int]
"""(mtime_ns, size)"""


@dataclass(kw_only=True)
class MirrorState:
    """SCRATCH/.mirror.json."""

    writer: str
    before: list[str] = field(default_factory=list)
    """All earlier writers here: processes that end at once have not told the URL their names, so it may still know any."""
    sent: dict[str, FileState] = field(default_factory=dict)
    """Name -> the file as it was when it was sent. A checkpoint whose progress.json is among them is there, whole."""
    is_complete: bool = False
    """Whether nothing was missing at the URL when this was written."""

    def save(self, folder: Path) -> None:
        with atomic_file(folder / STATE) as temporary:
            temporary.write_text(json.dumps(vars(self)) + "\n", encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class RunPlace:
    """A run's folder, and its storage."""

    folder: Path
    """Where it reads and writes."""
    storage: Storage | None = None
    """None: the folder is the place."""

    @property
    def name(self) -> str:
        """What a person calls it, and passes to --resume."""
        return self.storage.url if self.storage else str(self.folder)

    def remove_scratch(self) -> None:
        """Once all is at the URL; `mirror` has raised otherwise."""
        if self.storage is not None:
            shutil.rmtree(self.folder.parent)


def storage_of(config: RunConfig, resume: str | Path | None) -> Storage | None:
    """The storage of a run whose place is a URL, tried by writing; a `UserError` within PROBE_S when it cannot be reached."""
    return _reached(config.run_dir, "run_dir") if resume is None else _reached(str(resume), "--resume")


def folder_to_resume(resume: str) -> Path:
    """The folder that has the run's configuration: of a URL the scratch folder, filled for going on."""
    return resumed_place(resume, _reached(resume, "--resume")).folder


def _reached(url: str | None, option: str) -> Storage | None:
    if url is None or not is_url(url):
        return None
    storage = open_storage(url, option)
    if storage.scheme == "memory":
        raise UserError(f"option '{option}': {url!r} is the memory of one process, and a run has several; give another URL")
    reach(storage, option)
    return storage


def reach(storage: Storage, option: str) -> None:
    """Write, read and remove a tiny object there; a `UserError` when that cannot be done."""
    with users_to_mend(option):
        storage.probe()


@contextmanager
def users_to_mend(option: str) -> Iterator[None]:
    """Before a run has started, and in commands, storage that fails is a `UserError`. option: what named the URL."""
    try:
        yield
    except StorageError as error:
        remedy = "check the URL, the network, and the credentials in the environment (docs/storage.md)"
        raise UserError(f"option '{option}': {error}; {remedy}") from error


def new_place(config: RunConfig, storage: Storage | None) -> RunPlace:
    """Make the folder of a new run, empty."""
    if storage is None:
        return RunPlace(folder=make_run_folder(config))
    folder = scratch_folder(storage.url)
    make_scratch(folder)
    with locked(folder):
        _unused_scratch(storage)
        _empty(folder)
        MirrorState(writer=uuid.uuid4().hex).save(folder)
    return RunPlace(folder=folder, storage=storage)


def _empty(folder: Path) -> None:
    """Remove all that is in a scratch folder. Its lock stays: with a new file two processes could hold one each."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def folder_of_new(config: RunConfig, storage: Storage | None) -> Path:
    """The folder that `new_place` would make, refused as it would be."""
    return _unused_scratch(storage) if storage else new_run_folder(config)


def place_lines(config: RunConfig) -> list[str]:
    """Where a new run would write, refused as it would be; nothing is written, so that only reading is tried."""
    if config.run_dir is None or not is_url(config.run_dir):
        return [f"{new_run_folder(config)}/"]
    storage = open_storage(config.run_dir)
    folder = _unused_scratch(storage)
    return [f"{storage.url}/", f"by way of {folder}/ on the driver's node, and on other nodes that have learner ranks"]


def is_begun_at(storage: Storage) -> bool:
    """Whether there is a run: at the URL, or one for it in this node's scratch folder that was not sent."""
    with users_to_mend("run_dir"):
        return _is_used(storage) or _is_unsent(scratch_folder(storage.url))


def _is_used(storage: Storage) -> bool:
    """A process that was killed right after it had left its name there has left no run."""
    return bool(storage.files().keys() - {WRITER})


def _is_unsent(folder: Path) -> bool:
    state = _state(folder)
    return state is not None and not state.is_complete and (folder / "config.json").is_file()


def _unused_scratch(storage: Storage) -> Path:
    """The scratch folder of a new run; a `UserError` where there is a run, at the URL or one that was never sent there."""
    url = storage.url
    with users_to_mend("run_dir"):
        is_used = _is_used(storage)
    if is_used:
        raise UserError(f"option 'run_dir': {url!r} exists already; choose another URL, or go on in it with --resume {url}")
    folder = scratch_folder(url)
    if _is_unsent(folder):
        raise UserError(
            f"option 'run_dir': {str(folder)!r} holds a run for {url!r} that was not sent there; go on with --resume {url}, or "
            "remove that folder"
        )
    return folder


def resumed_place(resume: str | Path, storage: Storage | None) -> RunPlace:
    """The place of a run that goes on; of a URL, what is needed for that is in the folder afterwards.

    That is config.json, metrics.jsonl and the newest checkpoint, without its tensors: each node of the learner fetches those
    (r1/node_scratch.py). Downloads only what is missing; may be called again.
    """
    if storage is None:
        return RunPlace(folder=Path(resume).absolute())
    with users_to_mend("--resume"):
        folder = scratch_folder(storage.url)
        make_scratch(folder)
        with locked(folder):
            _fetch(storage, folder)
        return RunPlace(folder=folder, storage=storage)


def _fetch(storage: Storage, folder: Path) -> None:
    there = storage.files()
    # Who left nothing but a name has not overtaken a run that lies here.
    written = storage.read(WRITER) if "config.json" in there else None
    writer = json.loads(written)["writer"] if written else None
    state = _state(folder)
    is_current = state is not None and writer in (state.writer, *state.before, None) and (folder / "config.json").is_file()
    if not is_current or state is None:
        _empty(folder)
        state = MirrorState(writer=writer or uuid.uuid4().hex, is_complete=True)
    if "config.json" not in there and not is_current:
        shutil.rmtree(folder)
        raise UserError(f"option '--resume': {storage.url!r} is not a run, it has no config.json; give a URL that a run wrote to")
    # What somebody has removed there goes again.
    state.sent = {name: sent for name, sent in state.sent.items() if name in there}
    steps = {int(name.split("/")[1].removeprefix("step-")) for name in there if is_whole_checkpoint(name, there)}
    newest = max([*steps, *complete_checkpoints(folder)], default=None)
    wanted = ["config.json", "metrics.jsonl", *RUN_IDS]
    if newest is not None:
        # progress.json last: until then it is no checkpoint here either.
        checkpoint = f"{FOLDER}/step-{newest:06d}"
        wanted += [f"{checkpoint}/{name}" for name in ("learner/.metadata", "config.json", "progress.json")]
        if newest in steps and not (folder / checkpoint).is_dir():
            (folder / checkpoint).mkdir(parents=True)
            (folder / checkpoint / PARTS_AT_URL).touch()
    for name in wanted:
        if name in there and not (folder / name).is_file():
            storage.download(name, folder, there[name].size)
            state.sent[name] = file_state(folder / name)
    state.save(folder)


def is_whole_checkpoint(name: str, there: Collection[str]) -> bool:
    """Whether `name` is the progress.json of a checkpoint that is all there. there: the names of all files."""
    top, _, rest = name.partition("/")
    checkpoint, _, last = rest.partition("/")
    is_proof = top == FOLDER and NAME.fullmatch(checkpoint) is not None and last == "progress.json"
    return is_proof and f"{FOLDER}/{checkpoint}/learner/.metadata" in there


def begin_writing(folder: Path) -> MirrorState:
    """The state of the scratch folder, under a name for this process."""
    state = _state(folder)
    assert state is not None, "the folder was made without a state"
    state.before.append(state.writer)
    state.writer, state.is_complete = uuid.uuid4().hex, False
    state.save(folder)
    return state


def writer_of(folder: Path) -> str | None:
    """The process that writes to a scratch folder, by the name of `begin_writing`; None where this is none."""
    state = _state(folder)
    return state.writer if state else None


def file_state(path: Path) -> FileState:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def _state(folder: Path) -> MirrorState | None:
    try:
        tree = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    tree["sent"] = {name: tuple(state) for name, state in tree["sent"].items()}
    return MirrorState(**tree)
