"""A folder at a URL (`s3://bucket/run`, `gs://...`, `file:///mnt/...`), through fsspec: whole files go there and come back.

Every call has a time limit, since storage packages retry by themselves for minutes, and whatever goes wrong is a
`StorageError` of one line. Credentials are the packages' own business: they come from the environment, never from the URL.
"""

import hashlib
import os
import posixpath
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from r1.errors import RunError, UserError
from r1.files import flush

# fsspec takes 0.1 s to import, and the package behind it (s3fs) a second: imported where they are used.

Result = TypeVar("Result")

CALL_S = 60.0
"""Longest time of a call that moves no file."""
OPEN_S = 8.0
"""Longest time for a package's constructor."""
PROBE_S = 20.0
"""Longest time until storage is called unreachable; the user hears of it within 30 s."""
SLOWEST_BYTES_PER_S = 1_000_000
"""What a file may take besides CALL_S."""
_WHOLE_OBJECTS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "memory"}
"""Where a file appears when it is complete, by itself; elsewhere it is written under another name and moved."""
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class StorageError(RunError):
    """Storage did not take or give a file: what was tried, and why not."""


class NoAnswer(StorageError):
    """A call took longer than its limit; its thread may still come through."""

    def __init__(self, text: str, thread: threading.Thread) -> None:
        super().__init__(text)
        self.thread = thread


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """One file there."""

    size: int
    """Bytes."""
    version: str
    """Differs when the content does: an ETag, or the time of the last change."""


def is_url(text: object) -> bool:
    """Whether a run folder's name is a URL.

    >>> is_url("s3://bucket/run"), is_url("runs/first"), is_url(None)
    (True, False, False)
    """
    return isinstance(text, str) and _URL.match(text) is not None


def open_storage(url: str, option: str = "run_dir") -> "Storage":
    """The folder at a URL, which need not exist; nothing is sent yet. option: what named the URL, for errors."""
    from fsspec.core import url_to_fs
    from fsspec.registry import get_filesystem_class, known_implementations

    url = checked_url(url, option)
    scheme = urlsplit(url).scheme
    try:
        get_filesystem_class(scheme)  # imports the package, which a slow disk may take long for: no matter of the storage's
        filesystem, root = limited(lambda: url_to_fs(url), f"{url} cannot be opened", OPEN_S)
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        remedy = f"pip install 'r1[{extra}]'" if extra else str(error)
        package = known_implementations[scheme]["class"].partition(".")[0]
        raise UserError(f"option '{option}': {url!r} needs the package {package}, which is not installed; {remedy}") from error
    except NoAnswer as error:  # a package that looks for credentials, or for a server
        raise UserError(f"option '{option}': {error}; check the network, and the credentials in the environment") from error
    except Exception as error:  # whatever a package makes of the URL, of its own settings, of a library that it lacks
        reason = in_one_line(error.__cause__ or error)
        raise UserError(f"option '{option}': {url!r} cannot be used: {reason}; give another URL") from error
    return Storage(url, filesystem, root.rstrip("/"))


def checked_url(url: str, option: str = "run_dir") -> str:
    """The URL without a slash at its end; a `UserError` for one that holds a password, or names no folder."""
    if "::" in url:
        raise UserError(f"option '{option}': {url!r} is a chain of URLs; give a single one")
    parts = urlsplit(url)
    if parts.password is not None:
        place = parts.netloc.rpartition("@")[2]
        raise UserError(
            f"option '{option}': the URL {parts.scheme}://...@{place} holds a password, which would lie in config.json and in "
            "logs; leave it out, and give it by the environment (docs/storage.md)"
        )
    # The scratch folder takes the last name, and is emptied.
    if not (parts.netloc + parts.path).strip("/") or posixpath.basename(parts.path.rstrip("/")) in (".", ".."):
        raise UserError(f"option '{option}': {url!r} names no folder; give one, e.g. s3://bucket/runs/first")
    return url.rstrip("/")


def scratch_folder(url: str, purpose: str = "runs") -> Path:
    """The folder of this node, below TMPDIR, where the files of a URL lie; the same one each time. It is not made."""
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    # The name comes last: reports and figures call a run by it.
    return Path(tempfile.gettempdir()) / f"r1-{owner}" / purpose / digest / posixpath.basename(url)


def make_scratch(folder: Path) -> None:
    """Make it for this user alone: on a shared machine /tmp is everybody's."""
    top = folder.parents[2]
    try:
        top.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid") and (top.is_symlink() or top.stat().st_uid != os.getuid()):
            raise UserError(f"{str(top)!r} belongs to somebody else; set TMPDIR to a folder of your own")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create {str(folder)!r}: {error.strerror}; set TMPDIR to a folder with room") from error


def local_path(folder: Path, name: str) -> Path:
    """Where a file of a URL lies in the folder that stands for it; a `StorageError` for a name that leads out of it.

    Whoever can write to the URL chooses the names, and object stores take any: "traces/../../../.bashrc" too.

    >>> str(local_path(Path("node"), "traces/step-000001.parquet"))
    'node/traces/step-000001.parquet'
    """
    path = Path(name)
    if path.is_absolute() or path.drive or ".." in path.parts or not path.parts:
        raise StorageError(f"the name {name!r} of a file there leads out of the folder; remove that file")
    return folder / path


class Storage:
    """Files below a URL, by their name relative to it: "traces/step-000001.parquet". Any thread may call."""

    def __init__(self, url: str, filesystem: Any, root: str) -> None:
        self.url, self.scheme = url, urlsplit(url).scheme
        self._filesystem, self._root = filesystem, root
        self._is_whole = self.scheme in _WHOLE_OBJECTS
        self._is_local = self.scheme in ("file", "local")
        self._late: dict[str, threading.Thread] = {}
        """Name -> the call that has not ended within its limit, and may still change the file."""

    def probe(self, limit_s: float = PROBE_S) -> None:
        """Write, read and remove a tiny object; `StorageError` when that fails."""
        name, content = f".r1-probe-{uuid.uuid4().hex[:12]}", b"r1"

        def write_read_remove() -> bytes:
            self._make_parent(name)
            self._filesystem.pipe_file(self._path(name), content)
            found: bytes = self._filesystem.cat_file(self._path(name))
            self._filesystem.rm_file(self._path(name))
            return found

        if self._limited(write_read_remove, "cannot be written to", limit_s) != content:
            raise StorageError(f"{self.url} gives back other bytes than it was sent")

    def upload(self, path: Path, name: str) -> None:
        """Send a file; readers see the old one or all of the new one."""

        def put() -> None:
            self._make_parent(name)
            if self._is_whole:
                self._filesystem.put_file(str(path), self._path(name))
                return
            folder, _, last = name.rpartition("/")
            temporary = self._path(posixpath.join(folder, f".{last}.tmp"))
            self._filesystem.put_file(str(path), temporary)
            if self._is_local:
                flush(Path(temporary))
            self._filesystem.mv(temporary, self._path(name))
            if self._is_local:
                flush(Path(self._path(folder)))

        self._change([name], put, f"did not take {name}", CALL_S + path.stat().st_size / SLOWEST_BYTES_PER_S)

    def download(self, name: str, folder: Path, size: int = 0) -> None:
        """Fetch a file to its `local_path`; there is the old one or all of the new one. size: bytes, for the time limit."""
        path = local_path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            limit_s = CALL_S + size / SLOWEST_BYTES_PER_S
            self._limited(lambda: self._filesystem.get_file(self._path(name), str(temporary)), f"did not give {name}", limit_s)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def files(self, folder: str = "") -> dict[str, Stored]:
        """Name -> file of all that is complete below `folder`, in the order of the names; {} where there is nothing."""

        def find() -> dict[str, Any]:
            self._filesystem.invalidate_cache()  # packages keep listings: somebody else writes there as well
            try:
                found: dict[str, Any] = self._filesystem.find(self._path(folder), detail=True)
            except FileNotFoundError:
                return {}
            return found

        found = self._limited(find, "cannot be listed", CALL_S)
        named = {path[len(self._root) :].lstrip("/"): info for path, info in sorted(found.items()) if info["type"] == "file"}
        return {
            name: Stored(size=int(info["size"]), version=_version(info))
            for name, info in named.items()
            if not name.endswith(".tmp") and not posixpath.basename(name).startswith(".r1-probe-")
        }

    def read(self, name: str, limit_s: float = CALL_S) -> bytes | None:
        """The content of a small file; None where there is none."""

        def cat() -> bytes | None:
            try:
                content: bytes = self._filesystem.cat_file(self._path(name))
            except FileNotFoundError:
                return None
            return content

        return self._limited(cat, f"did not give {name}", limit_s)

    def write(self, name: str, content: bytes) -> None:
        """Send a few bytes."""
        with tempfile.TemporaryDirectory(prefix="r1-") as folder:
            path = Path(folder) / "content"
            path.write_bytes(content)
            self.upload(path, name)

    def remove(self, names: Sequence[str]) -> None:
        """Remove files in this order; one that is gone already is no error."""

        def rm() -> None:
            for name in names:
                try:
                    self._filesystem.rm_file(self._path(name))
                except FileNotFoundError:
                    continue

        self._change(names, rm, f"did not remove {', '.join(names[:1])}", CALL_S + len(names))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    def _make_parent(self, name: str) -> None:
        # Object stores have no folders: there it would look for the bucket, which the user may not be allowed to.
        if not self._is_whole:
            self._filesystem.makedirs(posixpath.dirname(self._path(name)), exist_ok=True)

    def _change(self, names: Sequence[str], work: Callable[[], None], what: str, limit_s: float) -> None:
        """Do it after what an earlier call still does to these files: it would undo this one."""
        deadline = time.monotonic() + limit_s
        for name in names:
            if late := self._late.get(name):
                late.join(max(0.0, deadline - time.monotonic()))
                if late.is_alive():
                    raise StorageError(f"{self.url} {what}: an earlier call for {name} has not ended within {limit_s:.0f} s")
                self._late.pop(name, None)
        try:
            self._limited(work, what, max(0.0, deadline - time.monotonic()))
        except NoAnswer as error:
            self._late.update(dict.fromkeys(names, error.thread))
            raise

    def _limited(self, work: Callable[[], Result], what: str, limit_s: float) -> Result:
        return limited(work, f"{self.url} {what}", limit_s)


def limited(work: Callable[[], Result], what: str, limit_s: float) -> Result:
    """Do the work in a thread and wait at most `limit_s` for it; the thread of a call that hangs ends with the process."""
    results: list[Result] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(work())
        # Every storage package has errors of its own, from botocore's to those of a proxy: all mean that it did not work.
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    thread = threading.Thread(target=run, name="r1-storage", daemon=True)
    thread.start()
    thread.join(limit_s)
    if errors:
        raise StorageError(f"{what}: {in_one_line(errors[0])}") from errors[0]
    if not results:
        raise NoAnswer(f"{what}: no answer within {limit_s:.0f} s", thread)
    return results[0]


def in_one_line(error: BaseException) -> str:
    """
    >>> in_one_line(FileNotFoundError("The specified bucket\\n does not exist"))
    'FileNotFoundError: The specified bucket does not exist'
    """
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _version(info: dict[str, Any]) -> str:
    keys = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "updated", "last_modified", "created")
    return next((str(info[key]) for key in keys if info.get(key) is not None), "")
