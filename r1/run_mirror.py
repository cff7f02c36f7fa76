"""A run at a URL: it writes to a folder of this node as any run does, and a thread sends each finished file to the URL.

What lies there is a run at every moment: a checkpoint's progress.json goes last and is removed first, and the metrics and traces
of a step go before its checkpoint. Storage that fails is a fault, said once in a while; what is missing is tried again at the
next step, and at the end for some minutes.
"""

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from r1.checkpoint import FOLDER, complete_checkpoints, old_steps
from r1.errors import RunError
from r1.faults import FaultLog
from r1.metrics import heldout_accuracy
from r1.run_place import (
    PARTS_AT_URL,
    RUN_IDS,
    WRITER,
    MirrorState,
    RunPlace,
    begin_writing,
    file_state,
    is_whole_checkpoint,
)
from r1.stopping import Stop, stopped_by_signals
from r1.storage import Storage, StorageError, in_one_line

SENT_FOLDERS = ("traces", "tensorboard")
"""Besides the files of the run folder itself, and RUN_IDS."""
SENT_AT_END = ("trackio", "wandb/offline-run-*", "wandb/run-*")
"""What other trackers have closed by then: before, it may be a database in the midst of a change. W&B's online runs as well: what
its server has not taken lies nowhere else."""
MAX_FAILURES = 3
"""Files that fail in one pass before the others wait for the next: storage that hangs takes a minute each."""
SAY_EVERY_S = 300.0
"""While storage fails: one fault in so much time."""
END_LIMIT_S = 300.0
"""How long a run waits at its end for storage that takes nothing."""
_TRACE = re.compile(r"traces/[a-z]+-(\d+)\.parquet")
_STEP = re.compile(rf"{FOLDER}/step-(\d+)/")


class RunMirror:
    """Sends a run folder's files. Without a storage it does nothing: the folder itself is where the run lies.

    Use it as a context manager; leaving the block waits until all is sent, or raises a `RunError` that says where it lies. A
    signal ends that wait.
    """

    def __init__(self, place: RunPlace, faults: FaultLog, *, end_limit_s: float = END_LIMIT_S) -> None:
        self._place, self._faults, self._end_limit_s = place, faults, end_limit_s
        self._rewind_to: int | None = None
        self._has_told_writer = False
        self._failures = ["nothing was sent"]
        self._last_said_s = -SAY_EVERY_S
        self._wake, self._is_ending, self._lock = threading.Event(), False, threading.Lock()
        self._one_pass = threading.Lock()
        self._is_given_up, self._has_ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="r1-mirror", daemon=True)

    def __enter__(self) -> "RunMirror":
        if self._place.storage is not None:
            self._state = begin_writing(self._place.folder)
            self._thread.start()
        return self

    def wake(self) -> None:
        """Something was written: send it, beside the training."""
        self._wake.set()

    def send_checkpoint(self, checkpoint: Path) -> None:
        """Return once it is at the URL, with all that goes before it; a `StorageError` when storage does not take it."""
        name = f"{FOLDER}/{checkpoint.name}/progress.json"
        if name not in self._state.sent:
            self._pass()
        if name not in self._state.sent:
            reason = self._failures[0] if self._failures else "its files have gone"
            raise StorageError(
                f"{checkpoint} is on the driver's node alone, and learner ranks on other nodes need it from storage: {reason}; "
                "go on with --resume when it can be reached"
            )

    def rewind(self, last_step: int) -> None:
        """The run went back to `last_step`: later traces go there as well, unless they have been written anew."""
        self._go_back_to(last_step)
        self.wake()

    def _go_back_to(self, last_step: int) -> None:
        with self._lock:
            self._rewind_to = last_step if self._rewind_to is None else min(last_step, self._rewind_to)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._place.storage is None:
            return
        self._is_ending = True
        self.wake()
        self._wait_for_end()
        if self._has_ended.is_set() and not self._failures:
            return
        url, folder = self._place.storage.url, self._place.folder
        reason = self._failures[0] if self._failures else "interrupted while it was sent"
        message = (
            f"not all of the run is at {url}: {reason}; everything lies in {folder} on this node: when the storage "
            f"can be reached, --resume {url} on this node sends the rest"
        )
        if error is None:
            raise RunError(message)
        self._faults.add("storage", message)  # how the run ended is told by the error

    def _wait_for_end(self) -> None:
        """Until all is sent or given up; Ctrl-C and SIGTERM, which nobody else handles any more, end the wait."""
        try:
            with stopped_by_signals(Stop()):
                # Not join(): interrupted, Python 3.11 takes the thread for ended. With a limit: a signal that comes just before
                # the wait does not end it.
                while not self._has_ended.wait(0.2):
                    continue
        except KeyboardInterrupt:  # how the run ended is told by what ended it before, or by what is missing
            self._is_given_up.set()

    def _work(self) -> None:
        try:
            while self._wake.wait() and not self._is_ending:
                self._wake.clear()
                self._pass()
            self._send_the_rest()
        finally:
            self._has_ended.set()

    def _send_the_rest(self) -> None:
        last_sent_s = time.monotonic()
        while True:
            if self._pass():
                last_sent_s = time.monotonic()
            if not self._failures or time.monotonic() - last_sent_s >= self._end_limit_s:
                return
            if self._is_given_up.wait(min(5.0, self._end_limit_s / 10)):
                return

    def _pass(self) -> int:
        """Send what is new; returns how many files went."""
        with self._one_pass:
            return self._send()

    def _send(self) -> int:
        folder, storage = self._place.folder, self._place.storage
        assert storage is not None
        if not (folder / "config.json").is_file():  # not begun: of a run that never was, nothing lies there
            self._failures = []
            return 0
        sender = _Sender(storage, folder, self._state)
        with self._lock:
            rewind_to, self._rewind_to = self._rewind_to, None
        try:
            if not self._has_told_writer:  # before anything else: other scratch folders are out of date from now on
                storage.write(WRITER, json.dumps({"writer": self._state.writer}).encode())
                self._has_told_writer = True
            if rewind_to is not None:
                sender.go_back_to(rewind_to)
                rewind_to = None
            sender.send_all(self._is_ending)
            self._state.is_complete = self._is_ending and not sender.failures
            self._state.save(folder)
        # Whatever it is (storage, a full disk, a record that somebody has damaged, a bug): the training goes on, and what is not
        # sent is missed at the end.
        except Exception as error:  # noqa: BLE001
            sender.failures.append(str(error) if isinstance(error, RunError) else in_one_line(error))
        if rewind_to is not None:
            self._go_back_to(rewind_to)
        self._failures = sender.failures
        self._tell()
        return sender.num_sent

    def _tell(self) -> None:
        if self._failures and time.monotonic() - self._last_said_s >= SAY_EVERY_S:
            self._last_said_s = time.monotonic()
            again = "it is tried again" if self._is_ending else "the run goes on, it is tried again after the next step"
            self._faults.add("storage", f"{self._failures[0]}; {again}")


class _Sender:
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
        """Remove later traces, and what TensorBoard has begun anew under another name; not what is here again."""
        steps = ((name, found) for name in self._storage.files("traces") if (found := _TRACE.fullmatch(name)))
        names = [name for name, found in steps if int(found[1]) > last_step]
        names += self._storage.files("tensorboard")
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
