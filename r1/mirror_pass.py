"""One pass of r1/run_mirror.py: which files of a run's folder go to its URL, in which order, and which are removed there."""

import re
from collections.abc import Iterator
from pathlib import Path

from r1.checkpoint import FOLDER, complete_checkpoints, old_steps
from r1.metrics import heldout_accuracy
from r1.run_place import PARTS_AT_URL, RUN_IDS, MirrorState, file_state, is_whole_checkpoint
from r1.storage import Storage, StorageError
from r1.summary import SUMMARY
from r1.trace_schema import trace_file

SENT_FOLDERS = ("traces", "tensorboard")
"""Besides the files of the run folder itself, and RUN_IDS."""
SENT_AT_END = ("trackio", "wandb/offline-run-*", "wandb/run-*")
"""What other trackers have closed by then: before, it may be a database in the midst of a change. W&B's online runs as well: what
its server has not taken lies nowhere else."""
MAX_FAILURES = 3
"""Files that fail in one pass before the others wait for the next: storage that hangs takes a minute each."""
_STEP = re.compile(rf"{FOLDER}/step-(\d+)/")


class MirrorPass:
    """One pass: what it sends is noted in `state`, what fails in `failures`."""

    def __init__(self, storage: Storage, folder: Path, state: MirrorState) -> None:
        self._storage, self._folder, self._state = storage, folder, state
        self.failures: list[str] = []
        self.num_sent = 0

    def send_all(self, is_ending: bool = False) -> None:
        """The record and the traces, then the checkpoints that there were before; and remove old ones."""
        # Asked for first: a checkpoint that comes meanwhile would go without the metrics of its step.
        checkpoints = complete_checkpoints(self._folder)
        new = [step for step, path in checkpoints.items() if f"{FOLDER}/{path.name}/progress.json" not in self._state.sent]
        for name in _finished_files(self._folder, is_ending):
            self.send(name)
        if self.failures or not new:
            return
        for step in new:
            self.send_checkpoint(checkpoints[step])
        if not self.failures:
            self.remove_old_checkpoints(max(new))

    def send(self, name: str) -> bool:
        """Send a file unless it is there as it is; False when it cannot be sent."""
        if len(self.failures) >= MAX_FAILURES:
            return False
        path = self._folder / name
        try:
            now = file_state(path)
            if self._state.sent.get(name) != now:
                self._storage.upload(path, name)
                # As it was before: what was written meanwhile makes it new again.
                self._state.sent[name] = now
                self.num_sent += 1
        except FileNotFoundError:  # removed since it was listed: traces of a run that goes back
            return True
        except StorageError as error:
            if path.exists():
                self.failures.append(str(error))
                return False
        return True

    def send_checkpoint(self, path: Path) -> None:
        """Its files, and progress.json when all others are there."""
        parts = sorted(part.relative_to(path).as_posix() for part in path.rglob("*") if part.is_file())
        if PARTS_AT_URL in parts:
            parts = ["config.json", "progress.json"]
        names = [f"{FOLDER}/{path.name}/{part}" for part in parts if part != "progress.json"]
        if all([self.send(name) for name in names]) and path.is_dir():
            self.send(f"{FOLDER}/{path.name}/progress.json")

    def go_back_to(self, last_step: int) -> None:
        """Remove later traces, the summary, and what TensorBoard has begun anew under another name; not what is here again."""
        traces = ((name, trace_file(name.removeprefix("traces/"))) for name in self._storage.files("traces"))
        names = [name for name, known in traces if known and known[1] > last_step]
        names += [SUMMARY, *self._storage.files("tensorboard")]
        gone = [name for name in names if not (self._folder / name).exists()]
        if gone:
            self._storage.remove(gone)
        for name in gone:
            self._state.sent.pop(name, None)

    def remove_old_checkpoints(self, newest: int) -> None:
        """By the rule of r1/checkpoint.py, of those that lie there; and what an upload that was cut off has left."""
        there = self._storage.files(FOLDER)
        by_step: dict[int, list[str]] = {}
        for name in there:
            if found := _STEP.match(name):
                by_step.setdefault(int(found[1]), []).append(name)
        complete = sorted(step for step, names in by_step.items() if any(is_whole_checkpoint(name, there) for name in names))
        if newest not in complete:
            return
        old = set(old_steps(complete, heldout_accuracy(self._folder)))
        cut_off = {step for step in by_step if step < newest and step not in complete}
        for step in sorted(old | cut_off):
            # progress.json first: without it the rest is no checkpoint, if this is cut off too.
            names = sorted(by_step[step], key=lambda name: not name.endswith("/progress.json"))
            self._storage.remove(names)
            # progress.json stays noted: the folder may still have the checkpoint (as the best of those here), and it shall not
            # go again.
            for name in names:
                if not name.endswith("/progress.json"):
                    self._state.sent.pop(name, None)


def _finished_files(folder: Path, is_ending: bool) -> Iterator[str]:
    """Names of all but checkpoints: the record, traces, and what trackers have written. Names with a dot are not finished."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            yield path.name
    for pattern in (*SENT_FOLDERS, *(SENT_AT_END if is_ending else ())):
        for path in sorted(path for top in folder.glob(pattern) for path in top.rglob("*")):
            # W&B links to a log of its own that lies elsewhere.
            if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                yield path.relative_to(folder).as_posix()
    yield from (name for name in RUN_IDS if (folder / name).is_file())
