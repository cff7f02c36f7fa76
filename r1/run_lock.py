"""One writer for a run folder: a lock that the kernel lets go of when the process ends, however it does."""

import errno
import fcntl
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from r1.errors import UserError

FILE = ".r1-lock"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""What a shared file system answers that knows no locks. There the file's text stands for one: a clean end empties it."""
_TEXT = re.compile(r"process (\d+) on (.+)")


@contextmanager
def locked(run_dir: Path, say: Callable[[str], None] = lambda text: None) -> Iterator[None]:
    """Keep the folder to this process; a `UserError` when another one has it."""
    if not run_dir.is_dir():
        raise UserError(f"run folder {str(run_dir)!r} does not exist; give a folder that a run wrote")
    try:
        descriptor = os.open(run_dir / FILE, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f"run folder {str(run_dir)!r} cannot be written to: {error.strerror}; run as its owner") from error
    try:
        if holder := _take(descriptor, run_dir, say):
            raise UserError(
                f"run folder {str(run_dir)!r} is being written by {holder}; wait for it, or stop it first (SIGTERM or Ctrl-C: it "
                "saves its last step)"
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder_of(run_dir: Path) -> str | None:
    """Who writes the folder now; None for nobody."""
    try:
        descriptor = os.open(run_dir / FILE, os.O_RDWR)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"perhaps: {FILE} cannot be opened, {error.strerror}"
    try:
        return _take(descriptor, run_dir)
    finally:
        os.close(descriptor)


def _take(descriptor: int, run_dir: Path, say: Callable[[str], None] = lambda text: None) -> str | None:
    """Lock the open file until it is closed; returns who has it already."""
    text = os.pread(descriptor, 200, 0).decode(errors="replace")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return text or "another process"
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        if _may_live(text):
            return f"{text}, or was when that was killed: this file system has no locks; if it is gone, remove {run_dir / FILE}"
        say(f"the file system of {run_dir} has no locks ({error.strerror}): see to it that one run at a time writes there")
        return None


def _may_live(text: str) -> bool:
    """Whether the process that has written this may still be there: of another host's nothing is known."""
    named = _TEXT.fullmatch(text)
    if not named or named[2] != socket.gethostname():
        return bool(text)
    number = int(named[1])
    return number != os.getpid() and psutil.pid_exists(number)  # ours: of a container before this one, with the same numbers
