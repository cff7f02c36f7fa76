"""Where files go, and writing them so that a reader, or a run that is killed, finds the old one or the new one, whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from r1.errors import RunError, UserError


def nearest_existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists; a `UserError` for a run_dir that no system call takes."""
    path = path.absolute()
    try:
        # exists() raises where a folder above may not be entered, and for a name that is too long.
        return next(folder for folder in (path, *path.parents) if folder.exists())
    except OSError as error:
        raise UserError(f"option 'run_dir': cannot create {str(path)!r}: {error.strerror}; choose another folder") from error


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block succeeds, its file is flushed to disk and takes the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)  # the new name lies in the folder: without this it may be lost in a power cut
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def written(what: str) -> Iterator[None]:
    """For a block that only writes files: what the disk refuses becomes a `RunError` that says what was to be written."""
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write {what}: {error}; is the disk full? Make room, and go on with --resume") from error


def flush(path: Path) -> None:
    """Wait until a file's or a folder's content is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Flush every file and folder below, and the folder."""
    for path in [*sorted(folder.rglob("*"), reverse=True), folder]:
        flush(path)
