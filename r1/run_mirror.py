"""A run at a URL: it writes to a folder of this node as any run does, and a thread sends each finished file to the URL.

What lies there is a run at every moment: a checkpoint's progress.json goes last and is removed first, and the metrics and traces
of a step go before its checkpoint. Storage that fails is a fault, said once in a while; what is missing is tried again at the
next step, and at the end for some minutes.
"""

import json
import threading
import time
from pathlib import Path
from types import TracebackType

from r1.checkpoint import FOLDER
from r1.errors import RunError
from r1.faults import FaultLog
from r1.mirror_pass import MirrorPass
from r1.run_place import WRITER, RunPlace, begin_writing
from r1.stopping import Stop, stopped_by_signals
from r1.storage import StorageError, in_one_line

SAY_EVERY_S = 300.0
"""While storage fails: one fault in so much time."""
END_LIMIT_S = 300.0
"""How long a run waits at its end for storage that takes nothing."""


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
        sender = MirrorPass(storage, folder, self._state)
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
