"""What `launch/submit.sh` sends to a cluster: this checkout, without what no run needs."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ray._private.ray_constants import RAY_RUNTIME_ENV_IGNORE_GITIGNORE, get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

from r1.errors import UserError

EXCLUDES = ("/.git", "/.venv", "/.ci", "/runs", "/models", "/tests", "/docs", "/requirements", "__pycache__")
"""What stays here besides what .gitignore and .rayignore name; patterns are gitignore's."""
MAX_MIB = 20
"""The checkout has some 6 MiB. Ray keeps an upload in the head node's memory, and each node that takes part copies it."""
NUM_SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """The files that Ray is going to pack."""

    folder: Path
    files: Mapping[str, int]
    """Path within the folder -> bytes."""

    @property
    def num_bytes(self) -> int:
        return sum(self.files.values())

    def __str__(self) -> str:
        return f"{len(self.files)} files, {mib(self.num_bytes)}"

    def has(self, path: Path) -> bool:
        """Whether a file, or something in a folder, goes along."""
        relative = os.path.relpath(path, self.folder)
        return relative in self.files or any(name.startswith(relative + os.sep) for name in self.files)

    def check_size(self) -> None:
        """Refuse what is too large, and say what it is."""
        if self.num_bytes <= MAX_MIB * 2**20:
            return
        largest = sorted(self.files, key=lambda name: -self.files[name])[:NUM_SHOWN]
        shown = ", ".join(f"{name} ({mib(self.files[name])})" for name in largest)
        raise UserError(
            f"the upload must have at most {MAX_MIB} MiB, and {self.folder} has {self}; the largest: {shown}; move them out of "
            "the checkout, or name them in .rayignore (models and data are read by their paths on the cluster)"
        )


def measure_upload(folder: Path) -> Upload:
    """Walk the folder as Ray is going to."""
    folder, files = folder.absolute(), dict[str, int]()

    def note(path: Path) -> None:
        if path.is_file():
            files[str(path.relative_to(folder))] = path.stat().st_size

    # Ray's own functions, private as they are: what it leaves out by which rule is nobody else's to say. Ray is pinned.
    uses_gitignore = os.environ.get(RAY_RUNTIME_ENV_IGNORE_GITIGNORE, "0") != "1"
    excludes = [_get_excludes(folder, [*get_runtime_env_default_excludes(), *EXCLUDES])]
    _dir_travel(folder, excludes, note, include_gitignore=uses_gitignore, logger=logging.getLogger(__name__))
    return Upload(folder=folder, files=files)


def mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f} MiB"
