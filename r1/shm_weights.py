"""Weights through shared memory: the learner writes one file in /dev/shm, engines on the same node map it.

On Linux the file has no name, and is reached through the learner's /proc/PID/fd: nothing is left of it when the learner ends.

Both sides compute a checksum of every tensor's bytes. The writer's go into the manifest, which travels by
another way (a Ray call), so bytes that change in between, a file that is cut off or a manifest of another
publish are all noticed: with `verify` before a single weight is loaded, else by whoever compares what it has loaded
(r1.rollout.vllm_proof).
"""

import math
import os
import tempfile
import uuid
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from io import FileIO
from pathlib import Path

import torch
import xxhash

from r1.errors import PublisherLost, SyncError
from r1.types import TensorSpec, WeightManifest

ALIGNMENT = 64
"""Bytes; a cache line, so that copies stay aligned."""
GROWTH = 2**23
"""Bytes by which the file grows at least while the first version is published; what is too much is cut off at its end."""


def new_buffer_path() -> str:
    """A path that nobody else uses, in memory where the platform has /dev/shm (Linux), else in the temporary folder."""
    folder = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
    return str(folder / f"r1-weights-{uuid.uuid4().hex}")


class ShmPublisher:
    """Writes a policy's tensors into one shared file, again and again in the same place.

    Only one version exists at a time: publish the next one after every reader has loaded the last.
    """

    def __init__(self, path: str | Path, dtype: torch.dtype) -> None:
        """dtype: what floating-point tensors are cast to on the way (the engine's), e.g. fp32 masters to bf16."""
        self.path = Path(path)
        self.dtype = dtype
        self._file: FileIO | None = None
        self._buffer = torch.empty(0, dtype=torch.uint8)
        self.published_path = str(path)
        """Where readers find it."""

    @torch.no_grad()
    def publish(self, policy_version: int, tensors: Iterable[tuple[str, torch.Tensor]]) -> WeightManifest:
        """Copy the tensors into the file and return where each one lies, with its checksum.

        Each is copied before the next one is asked for: of weights that are gathered or merged on their way, few exist at
        a time.
        """
        specs, end = [], 0
        # In place: who has mapped the file sees the new version.
        file = self._file = self._file or self._open()
        for name, tensor in tensors:
            dtype = self.dtype if tensor.is_floating_point() else tensor.dtype
            start, num_bytes = end, tensor.numel() * dtype.itemsize
            end += math.ceil(num_bytes / ALIGNMENT) * ALIGNMENT
            self._make_room(file, end)
            # Cast into the mapped file: 0.06 s for a 135M model, where a cast and a write take 0.12 s.
            wire = self._buffer[start : start + num_bytes]
            wire.view(dtype).view(tensor.shape).copy_(tensor)
            dtype_name, shape = str(dtype).removeprefix("torch."), tuple(tensor.shape)
            specs.append(TensorSpec(name=name, dtype=dtype_name, shape=shape, offset=start, checksum=checksum(wire)))
        file.truncate(end)
        return WeightManifest(policy_version=policy_version, path=self.published_path, num_bytes=end, tensors=tuple(specs))

    def _open(self) -> FileIO:
        """Make the file; on Linux it loses its name at once, so that it is gone when this process is, SIGKILL included."""
        file = FileIO(self.path, "w+b", opener=lambda path, flags: os.open(path, flags, 0o600))  # for this user alone
        if Path("/proc/self/fd").is_dir():
            self.path.unlink()
            self.published_path = f"/proc/{os.getpid()}/fd/{file.fileno()}"
        return file

    def _make_room(self, file: FileIO, end: int) -> None:
        """Let file and mapping reach to `end`. Who writes to mapped memory that a full /dev/shm cannot give is killed (SIGBUS),
        so it is reserved first, which is an error then."""
        size = os.fstat(file.fileno()).st_size
        if end > size:
            more = max(end - size, GROWTH)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), size, more)
            else:
                file.truncate(size + more)
            size += more
        if end > len(self._buffer):
            self._buffer = torch.from_file(self.published_path, shared=True, size=size, dtype=torch.uint8)

    def close(self) -> None:
        """Remove the file; readers that mapped it keep their pages until they let go."""
        if self._file is not None:
            self._file.close()
        self.path.unlink(missing_ok=True)


def read_tensors(
    manifest: WeightManifest, *, verify: bool = True, only: Collection[str] | None = None
) -> list[tuple[str, torch.Tensor]]:
    """Map a published file and return (name, tensor) views into it, in the order of the manifest.

    only: names; the others are left out (a view takes 0.01 ms).

    With `verify`, raises `SyncError` naming every tensor whose bytes differ from those that were published.
    The views are only valid until the next publish: load them, do not keep them.
    """
    where = f"weight sync, phase transfer, version {manifest.policy_version}"
    try:
        found = os.stat(manifest.path)
    except (FileNotFoundError, PermissionError) as error:  # the second one while the kernel takes the learner's process apart
        raise PublisherLost(
            f"{where}: {manifest.path} does not exist; the learner has ended, or it and this worker do not share a node"
        ) from error
    if found.st_size != manifest.num_bytes:
        raise SyncError(f"{where}: {manifest.path} has {found.st_size} bytes, the manifest says {manifest.num_bytes}")
    buffer = _mapped(manifest.path, manifest.num_bytes, found.st_dev, found.st_ino)
    if verify:
        with ThreadPoolExecutor(2) as hashers:
            checksums = hashers.map(lambda spec: checksum(_wire(buffer, spec)), manifest.tensors)
            damaged = [spec.name for spec, read in zip(manifest.tensors, checksums, strict=True) if read != spec.checksum]
        if damaged:
            raise SyncError(
                f"{where}: checksum differs for {len(damaged)} of {len(manifest.tensors)} tensors: {', '.join(damaged[:3])}"
            )
    return list(_views(buffer, (spec for spec in manifest.tensors if only is None or spec.name in only)))


def checksum(wire: torch.Tensor) -> int:
    """64-bit XXH3 of a contiguous uint8 tensor on the CPU."""
    return xxhash.xxh3_64_intdigest(wire.numpy().data)


def _wire(buffer: torch.Tensor, spec: TensorSpec) -> torch.Tensor:
    itemsize = getattr(torch, spec.dtype).itemsize
    return buffer[spec.offset : spec.offset + math.prod(spec.shape) * itemsize]


def _views(buffer: torch.Tensor, specs: Iterable[TensorSpec]) -> Iterator[tuple[str, torch.Tensor]]:
    for spec in specs:
        yield spec.name, _wire(buffer, spec).view(getattr(torch, spec.dtype)).view(spec.shape)


@lru_cache(maxsize=1)
def _mapped(path: str, num_bytes: int, device: int, inode: int) -> torch.Tensor:
    """The file, mapped once for all its versions: 63,000 page faults for 257 MiB take as long as its checksums.

    device, inode: which file it is; another learner's may have the same path.
    """
    return torch.from_file(path, shared=True, size=num_bytes, dtype=torch.uint8)
