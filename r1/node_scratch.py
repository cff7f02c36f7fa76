"""A learner rank's files of a run at a URL: they lie in a scratch folder of its node, which may be the driver's or another.

Where it is the driver's, the driver sends them. From another node the rank sends what that node's ranks have written, each
checkpoint's learner/ and hf/; and to go on from one, each node fetches the whole learner/.
"""

import shutil
import threading
import time
from pathlib import Path

from r1.run_place import writer_of
from r1.storage import StorageError, local_path, make_scratch, open_storage, scratch_folder

PAUSE_S = 5.0
"""Before a failed file is sent again."""
MAX_FAILURES = 10
"""In a row, after which nobody waits any more: about a minute, or as many time limits."""


class NodeScratch:
    """What one rank does with them; paths are relative to the run folder, as each node has its own TMPDIR."""

    def __init__(self, url: str, writer: str) -> None:
        """writer: the name that the driver has left in its own scratch folder."""
        self._storage = open_storage(url)
        self.folder = scratch_folder(self._storage.url)
        self.is_drivers = writer_of(self.folder) == writer
        self._sending: _Sending | None = None

    def begin(self, partial: Path) -> Path:
        """The folder to write a checkpoint into; on the driver's node it is there."""
        path = self.folder / partial
        if not self.is_drivers:
            make_scratch(self.folder)
            for leftover in path.parent.glob("*") if path.parent.is_dir() else ():
                if leftover != path:  # an earlier one, sent or given up
                    shutil.rmtree(leftover, ignore_errors=True)
            path.mkdir(parents=True, exist_ok=True)
        return path

    def start_send(self, partial: str, name: str) -> None:
        """Begin to send the folder `partial` as `name`; one that is being sent is given up."""
        if self._sending is not None:
            self._sending.give_up()
        self._sending = _Sending(self)
        self._sending.start(partial, name)

    def finish_send(self, limit_s: float) -> str | None:
        """None when all is sent; else what is in the way, after waiting at most `limit_s`."""
        assert self._sending is not None, "nothing is being sent"
        return self._sending.wait(limit_s)

    def fetch(self, checkpoint: str) -> Path:
        """Download what is missing of a checkpoint's learner/, and return its folder here."""
        make_scratch(self.folder)
        self.drop(checkpoint)  # what an earlier attempt has left may be of the same size
        for name, stored in self._storage.files(f"{checkpoint}/learner").items():
            path = local_path(self.folder, name)
            if not path.is_file() or path.stat().st_size != stored.size:
                self._storage.download(name, self.folder, stored.size)
        return self.folder / checkpoint

    def drop(self, checkpoint: str) -> None:
        """Remove it here; the driver keeps its own."""
        if not self.is_drivers:
            shutil.rmtree(self.folder / checkpoint, ignore_errors=True)

    def read(self, name: str) -> bytes:
        """The content of a file here."""
        return (self.folder / name).read_bytes()

    def upload(self, path: Path, name: str) -> None:
        self._storage.upload(path, name)


class _Sending:
    """A thread that sends one folder, again and again until all is there."""

    def __init__(self, scratch: NodeScratch) -> None:
        self._scratch = scratch
        self._problem, self._num_failures = "it is still being sent", 0
        self._is_done, self._is_given_up = threading.Event(), threading.Event()

    def start(self, partial: str, name: str) -> None:
        threading.Thread(target=self._send, args=(partial, name), name="r1-parts", daemon=True).start()

    def wait(self, limit_s: float) -> str | None:
        deadline = time.monotonic() + limit_s
        while not self._is_done.wait(max(0.0, min(1.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline or self._num_failures >= MAX_FAILURES:
                return self._problem
        return None

    def give_up(self) -> None:
        self._is_given_up.set()

    def _send(self, partial: str, name: str) -> None:
        folder = self._scratch.folder / partial
        left = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        while left and not self._is_given_up.is_set():
            try:
                self._scratch.upload(left[0], f"{name}/{left[0].relative_to(folder).as_posix()}")
                left.pop(0)
                self._num_failures = 0
            except (StorageError, OSError) as error:
                self._problem, self._num_failures = str(error), self._num_failures + 1
                self._is_given_up.wait(PAUSE_S)
        if left:
            return
        if not self._scratch.is_drivers:
            shutil.rmtree(folder, ignore_errors=True)
        self._is_done.set()
