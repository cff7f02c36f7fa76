"""Weights through shared memory: the learner writes one file in /dev/shm, engines on the same node map it.

On Linux the file has no name, and is reached through the learner's /proc/PID/fd: nothing is left of it when the learner ends.

Both sides compute a checksum of every tensor's bytes. The writer's go into the manifest, which travels by
another way (a Ray call), so bytes that change in between, a file that is cut off or a manifest of another
publish are all noticed before a single weight is loaded.
"""

import math
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BufferedRandom
from pathlib import Path

import torch
import xxhash

from r1.errors import PublisherLost, SyncError
from r1.types import TensorSpec, WeightManifest

ALIGNMENT = 64
"""Bytes; a cache line, so that copies stay aligned."""


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
        self._cast = torch.empty(0, dtype=torch.uint8)
        self._file: BufferedRandom | None = None
        self.published_path = str(path)
        """Where readers find it."""

    @torch.no_grad()
    def publish(self, policy_version: int, tensors: Iterable[tuple[str, torch.Tensor]]) -> WeightManifest:
        """Copy the tensors into the file and return where each one lies, with its checksum.

        Each is written before the next one is asked for: of weights that are gathered or merged on their way, few exist at
        a time.
        """
        specs, end = [], 0
        # In place: who has mapped the file sees the new version. Written, not mapped: a full /dev/shm is an error, no SIGBUS.
        file = self._file = self._file or self._open()
        file.seek(0)
        with ThreadPoolExecutor(1) as hasher:
            for name, tensor in tensors:
                dtype = self.dtype if tensor.is_floating_point() else tensor.dtype
                wire = self._wire(tensor, dtype)
                written = hasher.submit(checksum, wire)  # beside the writing: both let go of Python's lock
                start, end = end, end + math.ceil(wire.numel() / ALIGNMENT) * ALIGNMENT
                file.write(wire.numpy().data)
                file.write(bytes(end - file.tell()))
                dtype_name, shape = str(dtype).removeprefix("torch."), tuple(tensor.shape)
                specs.append(TensorSpec(name=name, dtype=dtype_name, shape=shape, offset=start, checksum=written.result()))
        file.flush()
        file.truncate(end)
        return WeightManifest(policy_version=policy_version, path=self.published_path, num_bytes=end, tensors=tuple(specs))

    def _wire(self, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The tensor's bytes as they are written; valid until the next one."""
        if tensor.device.type == "cpu" and tensor.dtype == dtype:
            return tensor.contiguous().view(-1).view(torch.uint8)
        # Always in the same memory: the kernel takes longer to clear new pages than the cast takes (135M: 0.05 and 0.03 s).
        num_bytes = tensor.numel() * dtype.itemsize
        if self._cast.numel() < num_bytes:
            self._cast = torch.empty(num_bytes, dtype=torch.uint8)
        wire = self._cast[:num_bytes]
        wire.view(dtype).view(tensor.shape).copy_(tensor)
        return wire

    def _open(self) -> BufferedRandom:
        """Make the file; on Linux it loses its name at once, so that it is gone when this process is, SIGKILL included."""
        file = self.path.open("w+b")
        if Path("/proc/self/fd").is_dir():
            self.path.unlink()
            self.published_path = f"/proc/{os.getpid()}/fd/{file.fileno()}"
        return file

    def close(self) -> None:
        """Remove the file; readers that mapped it keep their pages until they let go."""
        if self._file is not None:
            self._file.close()
        self.path.unlink(missing_ok=True)


def read_tensors(manifest: WeightManifest, *, verify: bool = True) -> list[tuple[str, torch.Tensor]]:
    """Map a published file and return (name, tensor) views into it, in the order of the manifest.

    With `verify`, raises `SyncError` naming every tensor whose bytes differ from those that were published.
    The views are only valid until the next publish: load them, do not keep them.
    """
    where = f"weight sync, phase transfer, version {manifest.policy_version}"
    try:
        size = os.stat(manifest.path).st_size
    except FileNotFoundError as error:
        raise PublisherLost(
            f"{where}: {manifest.path} does not exist; the learner has ended, or it and this worker do not share a node"
        ) from error
    if size != manifest.num_bytes:
        raise SyncError(f"{where}: {manifest.path} has {size} bytes, the manifest says {manifest.num_bytes}")
    buffer = _map_file(Path(manifest.path), manifest.num_bytes)
    if verify:
        with ThreadPoolExecutor(2) as hashers:
            checksums = hashers.map(lambda spec: checksum(_wire(buffer, spec)), manifest.tensors)
            damaged = [spec.name for spec, read in zip(manifest.tensors, checksums, strict=True) if read != spec.checksum]
        if damaged:
            raise SyncError(
                f"{where}: checksum differs for {len(damaged)} of {len(manifest.tensors)} tensors: {', '.join(damaged[:3])}"
            )
    return list(_views(buffer, manifest.tensors))


def checksum(wire: torch.Tensor) -> int:
    """64-bit XXH3 of a contiguous uint8 tensor on the CPU."""
    return xxhash.xxh3_64_intdigest(wire.numpy().data)


def _wire(buffer: torch.Tensor, spec: TensorSpec) -> torch.Tensor:
    itemsize = getattr(torch, spec.dtype).itemsize
    return buffer[spec.offset : spec.offset + math.prod(spec.shape) * itemsize]


def _views(buffer: torch.Tensor, specs: Iterable[TensorSpec]) -> Iterator[tuple[str, torch.Tensor]]:
    for spec in specs:
        yield spec.name, _wire(buffer, spec).view(getattr(torch, spec.dtype)).view(spec.shape)


def _map_file(path: Path, num_bytes: int) -> torch.Tensor:
    return torch.from_file(str(path), shared=True, size=num_bytes, dtype=torch.uint8)
