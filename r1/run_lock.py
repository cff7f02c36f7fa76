"""One writer for a run folder: a lock that the kernel lets go of when the process ends, however it does."""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from r1.errors import UserError

FILE = ".lock"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""What a shared file system answers that knows no locks."""


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
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"run folder {str(run_dir)!r} is being written by {_holder(descriptor)}; wait for it, or stop it first (SIGTERM "
                "or Ctrl-C: it saves its last step)"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            say(f"the file system of {run_dir} has no locks ({error.strerror}): see to it that one run at a time writes there")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def holder_of(run_dir: Path) -> str | None:
    """Who writes the folder now; None for nobody."""
    with contextlib.suppress(OSError):
        descriptor = os.open(run_dir / FILE, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(descriptor)
        finally:
            os.close(descriptor)
    return None


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
