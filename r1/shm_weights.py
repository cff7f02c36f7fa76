"""Weights through shared memory: the learner writes one file in /dev/shm, engines on the same node map it.

Both sides compute a checksum of every tensor's bytes. The writer's go into the manifest, which travels by
another way (a Ray call), so bytes that change in between, a file that is cut off or a manifest of another
publish are all noticed before a single weight is loaded.
"""

import math
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
import xxhash

from r1.errors import SyncError
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
        self._buffer: torch.Tensor | None = None

    @torch.no_grad()
    def publish(self, policy_version: int, tensors: Iterable[tuple[str, torch.Tensor]]) -> WeightManifest:
        """Copy all tensors into the file and return where each one lies, with its checksum."""
        named = list(tensors)
        offsets, num_bytes = [], 0
        for _, tensor in named:
            offsets.append(num_bytes)
            num_bytes += math.ceil(tensor.numel() * self._wire_dtype(tensor).itemsize / ALIGNMENT) * ALIGNMENT
        buffer = self._map(num_bytes)
        specs = []
        for (name, tensor), offset in zip(named, offsets, strict=True):
            dtype = self._wire_dtype(tensor)
            wire = buffer[offset : offset + tensor.numel() * dtype.itemsize]
            wire.view(dtype).view(tensor.shape).copy_(tensor)
            dtype_name = str(dtype).removeprefix("torch.")
            specs.append(
                TensorSpec(name=name, dtype=dtype_name, shape=tuple(tensor.shape), offset=offset, checksum=checksum(wire))
            )
        return WeightManifest(policy_version=policy_version, path=str(self.path), num_bytes=num_bytes, tensors=tuple(specs))

    def close(self) -> None:
        """Remove the file; readers that mapped it keep their pages until they let go."""
        self._buffer = None
        self.path.unlink(missing_ok=True)

    def _wire_dtype(self, tensor: torch.Tensor) -> torch.dtype:
        return self.dtype if tensor.is_floating_point() else tensor.dtype

    def _map(self, num_bytes: int) -> torch.Tensor:
        if self._buffer is None or self._buffer.numel() != num_bytes:
            with self.path.open("wb") as file:
                if hasattr(os, "posix_fallocate"):
                    # Not truncate: a full /dev/shm is an error here, and not a SIGBUS at the first write.
                    os.posix_fallocate(file.fileno(), 0, num_bytes)
                else:
                    file.truncate(num_bytes)  # macOS
            self._buffer = _map_file(self.path, num_bytes)
        return self._buffer


def read_tensors(manifest: WeightManifest, *, verify: bool = True) -> list[tuple[str, torch.Tensor]]:
    """Map a published file and return (name, tensor) views into it, in the order of the manifest.

    With `verify`, raises `SyncError` naming every tensor whose bytes differ from those that were published.
    The views are only valid until the next publish: load them, do not keep them.
    """
    where = f"weight sync, phase transfer, version {manifest.policy_version}"
    try:
        size = os.stat(manifest.path).st_size
    except FileNotFoundError as error:
        raise SyncError(f"{where}: {manifest.path} does not exist; the learner and this worker must share a node") from error
    if size != manifest.num_bytes:
        raise SyncError(f"{where}: {manifest.path} has {size} bytes, the manifest says {manifest.num_bytes}")
    buffer = _map_file(Path(manifest.path), manifest.num_bytes)
    if verify:
        damaged = [spec.name for spec in manifest.tensors if checksum(_wire(buffer, spec)) != spec.checksum]
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
