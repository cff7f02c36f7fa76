"""A published file cut into buckets, and put together again on a node that does not share it. Knows nothing of Ray."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from r1.errors import SyncError
from r1.shm_weights import new_buffer_path
from r1.types import WeightManifest
from r1.weight_transport import BUCKET_BYTES

Bytes = npt.NDArray[np.uint8]


def num_buckets(manifest: WeightManifest) -> int:
    return -(-manifest.num_bytes // BUCKET_BYTES)


def read_bucket(manifest: WeightManifest, index: int) -> Bytes:
    """The bytes of one bucket of a published file, [BUCKET_BYTES] or what is left at its end."""
    return np.fromfile(manifest.path, np.uint8, count=BUCKET_BYTES, offset=index * BUCKET_BYTES)


class WeightCopy:
    """An engine's own copy of a published file, filled bucket by bucket, in the same place for every publish."""

    def __init__(self) -> None:
        self._path, self._file = _private_file()
        self._version = -1
        self._num_received = 0

    def write(self, manifest: WeightManifest, index: int, bucket: Bytes) -> None:
        """Take in the next bucket; raises `SyncError` for one that is out of turn, cut off or too long."""
        if index == 0:
            self._version, self._num_received = manifest.policy_version, 0
            os.ftruncate(self._file, manifest.num_bytes)
        where = f"weight sync, phase transfer, version {manifest.policy_version}: bucket {index} of {num_buckets(manifest)}"
        if (manifest.policy_version, index) != (self._version, self._num_received):
            raise SyncError(f"{where} came when bucket {self._num_received} of version {self._version} was due")
        start = index * BUCKET_BYTES
        wanted = min(BUCKET_BYTES, manifest.num_bytes - start)
        if len(bucket) != wanted:
            raise SyncError(f"{where} has {len(bucket)} bytes instead of {wanted}")
        view = bucket.data
        while view:  # one call writes at most 2 GiB, or less
            num_written = os.pwrite(self._file, view, start)
            view, start = view[num_written:], start + num_written
        self._num_received += 1

    def path(self, manifest: WeightManifest) -> str:
        """Where the copy of a published file is; raises `SyncError` unless all of its buckets have come."""
        if (manifest.policy_version, num_buckets(manifest)) != (self._version, self._num_received):
            raise SyncError(
                f"weight sync, phase transfer, version {manifest.policy_version}: {self._num_received} buckets of version "
                f"{self._version} have come, {num_buckets(manifest)} of version {manifest.policy_version} were published"
            )
        return str(self._path)


def _private_file() -> tuple[Path, int]:
    """(path, descriptor) of a new file in memory."""
    if hasattr(os, "memfd_create"):
        # It has no name in any folder, so it is gone with this process, however that dies on its far node.
        descriptor = os.memfd_create("r1-weights")
        return Path(f"/proc/{os.getpid()}/fd/{descriptor}"), descriptor
    path = Path(new_buffer_path())
    return path, os.open(path, os.O_RDWR | os.O_CREAT)
