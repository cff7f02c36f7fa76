"""Weights that never leave the GPUs: a checksum that is computed where the bytes are, and the manifest made of such.

On a CPU `r1.shm_weights` keeps XXH3, which reads 14 GiB/s on one core where this one reads 0.8; on a GPU copying the bytes
to a CPU for XXH3 would cost more than the whole sync.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import torch

from r1.types import TensorSpec, WeightManifest

CHUNK_WORDS = 2**20
"""Words that are mixed at a time: 8 MiB, with three temporary tensors of that size."""
# Odd numbers, as signed 64-bit: multiplying by one loses nothing modulo 2^64. From splitmix64 (Steele et al. 2014).
_STEP = -0x61C8864680B583EB
_MIX_1 = -0x40A7B892E31B1A47
_MIX_2 = -0x6B2FB644ECCEEE15


def device_ids() -> tuple[str, ...]:
    """The unique id of the GPU that this process works on; () without one."""
    if not torch.cuda.is_available():
        return ()
    return (str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid),)


@torch.no_grad()
def device_checksums(tensors: Iterable[torch.Tensor]) -> list[int]:
    """64-bit checksums of the tensors' bytes, computed on their own device; waits for the device once, at the end.

    The sum, modulo 2^64, of every 8 bytes mixed with their position (splitmix64, without its last shift, of word + position x
    step). The mixing loses nothing, so a change within one word always shows; words that changed places, or the wrong tensor,
    show but for a chance of 2^-64. Alike on every device, since integers wrap everywhere and a sum knows no order.
    """
    sums = [_checksum(tensor) for tensor in tensors]
    return [value & (2**64 - 1) for value in torch.stack(sums).tolist()] if sums else []


def device_manifest(policy_version: int, tensors: Iterable[tuple[str, torch.Tensor]]) -> WeightManifest:
    """Describe tensors that stay where they are: names, dtypes, shapes and checksums, in their order."""
    named, sums, end = [], [], 0
    for name, tensor in tensors:
        named.append((name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), end))
        sums.append(_checksum(tensor))
        end += tensor.numel() * tensor.itemsize
    checksums = torch.stack(sums).tolist() if sums else []
    specs = tuple(
        TensorSpec(name=name, dtype=dtype, shape=shape, offset=offset, checksum=checksum & (2**64 - 1))
        for (name, dtype, shape, offset), checksum in zip(named, checksums, strict=True)
    )
    return WeightManifest(policy_version=policy_version, path="", num_bytes=end, tensors=specs, checksum_kind="device")


def wrong_tensors(expected: Sequence[TensorSpec], received: Sequence[tuple[str, torch.Tensor]], *, verify: bool) -> list[str]:
    """What differs between the tensors that should come next and those that came, one line each; [] is right.

    verify: compare checksums too, and not only names, dtypes and shapes.
    """
    wrong = []
    for spec, (name, tensor) in zip(expected, received, strict=False):
        got = (name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        if got != (spec.name, spec.dtype, spec.shape):
            wrong.append(f"expected {spec.name} {spec.dtype} {spec.shape}, got {got[0]} {got[1]} {got[2]}")
    if len(received) > len(expected):
        wrong.append(f"{len(received) - len(expected)} tensors more than were published")
    if wrong or not verify:
        return wrong
    checksums = device_checksums(tensor for _, tensor in received)
    return [f"checksum differs for {spec.name}" for spec, got in zip(expected, checksums, strict=False) if spec.checksum != got]


def largest_tensor(manifest: WeightManifest) -> int:
    """Bytes of the largest tensor."""
    return max((math.prod(spec.shape) * getattr(torch, spec.dtype).itemsize for spec in manifest.tensors), default=0)


def _checksum(tensor: torch.Tensor) -> torch.Tensor:
    wire = tensor.detach().contiguous().view(-1).view(torch.uint8)
    total = torch.full((), wire.numel(), dtype=torch.int64, device=wire.device)
    for first, words in _words(wire):
        mixed = torch.arange(first, first + len(words), device=wire.device).mul_(_STEP).add_(words)
        for shift, factor in ((30, _MIX_1), (27, _MIX_2)):
            # A right shift of a signed number drags its sign along, which the mask takes away.
            mixed.bitwise_xor_((mixed >> shift).bitwise_and_((1 << (64 - shift)) - 1)).mul_(factor)
        total += mixed.sum()
    return total


def _words(wire: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """(index of the first word, int64 words) chunk by chunk; the last word is filled up with zeros."""
    for start in range(0, wire.numel(), 8 * CHUNK_WORDS):
        chunk = wire[start : start + 8 * CHUNK_WORDS]
        missing = -chunk.numel() % 8
        if missing:
            chunk = torch.nn.functional.pad(chunk, (0, missing))
        elif chunk.storage_offset() % 8:
            chunk = chunk.clone()  # a tensor that was cut out of a bucket may start anywhere
        yield start // 8, chunk.view(torch.int64)
