"""Which bits a CPU's packed weights were made of, since nobody can read them back.

vLLM packs a weight when it is loaded, and leaves behind one function, `layer.cpu_linear`, that multiplies with the copy. While
a sync loads, that function gets a note: the checksums of the bits that it was packed from. A layer that goes on with an old
copy goes on with the old note.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import accumulate, pairwise
from types import FunctionType
from typing import Any

import torch
from xxhash import xxh3_64_intdigest

PROBE_COLUMNS = 16
"""Columns of a packed weight that one probe reads."""
PROBE_PRODUCTS = 2**24
"""Multiply-adds that one sync spends on probes: all layers of a small model, those of a large one in turn. Where bfloat16 is
emulated, probing all layers of a 135M model takes 0.62 s, and a whole sync without it 0.47 s."""


@contextmanager
def packing_noted(rows_of: Mapping[Any, Sequence[int]]) -> Iterator[None]:
    """Until it ends, each weight that is packed leaves a note on the function that multiplies with it.

    rows_of: layer -> the rows of each published tensor that its weight is made of; other layers leave none.
    """
    methods = {id(layer.quant_method): layer.quant_method for layer in rows_of}
    with ThreadPoolExecutor(1) as hasher:
        notes = list[tuple[Any, Future[list[int]]]]()
        for method in methods.values():
            pack = method.process_weights_after_loading
            method.process_weights_after_loading = partial(_pack_and_note, pack, rows_of, hasher, notes)
        try:
            yield
        finally:
            for method in methods.values():
                del method.process_weights_after_loading  # the class's own is there again
        for kernel, checksums in notes:
            kernel.packed_from = checksums.result()


def packed_from(layer: Any) -> list[int] | None:
    """The checksums of what the layer's packed weight was made of, one a published tensor; None where nothing was noted."""
    return getattr(getattr(layer, "cpu_linear", None), "packed_from", None)


def part_checksums(weight: torch.Tensor, rows: Sequence[int]) -> list[int]:
    """Checksums of the parts of a weight [N, ...] on the CPU; an embedding's padding, below the last part, has none."""
    # One plain array for all parts: vLLM's parameters are a subclass whose every operation takes a detour.
    block = weight.as_subclass(torch.Tensor).reshape(len(weight), -1).view(torch.uint8).numpy()
    ends = list(accumulate(rows, initial=0))
    return [xxh3_64_intdigest(block[start:end].data) for start, end in pairwise(ends)]


def columns_by_layer(numels: Mapping[str, int], first: int) -> tuple[dict[str, int], int]:
    """Share a sync's probes out: layer -> columns, beginning with the `first` layer; and the first one of the next sync.

    >>> columns_by_layer({"q_proj": 2**20, "lm_head": 2**25}, first=0)
    ({'q_proj': 16}, 1)
    >>> columns_by_layer({"q_proj": 2**20, "lm_head": 2**25}, first=1)
    ({'lm_head': 1}, 0)
    """
    names, columns, left = list(numels), dict[str, int](), PROBE_PRODUCTS
    for name in [*names[first:], *names[:first]]:
        if left <= 0:
            break
        columns[name] = min(PROBE_COLUMNS, max(1, left // numels[name]))
        left -= columns[name] * numels[name]
    return columns, (first + len(columns)) % max(1, len(names))


def is_multiplied_with(layer: Any, wanted: torch.Tensor, num_columns: int) -> bool:
    """Ask the layer's kernel for some columns [N, num_columns] of its packed weight, and compare them bit by bit.

    A one-hot input makes a kernel return one column of what it multiplies with, exactly (one product with 1.0, all others 0).
    Bits and not a tolerance, since an update may move a bf16 weight by one unit in the last place.
    """
    columns = torch.linspace(0, wanted.shape[1] - 1, num_columns).long()
    probes = torch.nn.functional.one_hot(columns, wanted.shape[1]).to(wanted)
    held = layer.cpu_linear(probes, layer.weight, None).T
    return torch.equal(held[: len(wanted)], wanted[:, columns])


def _pack_and_note(
    pack: Callable[[Any], None],
    rows_of: Mapping[Any, Sequence[int]],
    hasher: Executor,
    notes: list[tuple[Any, Future[list[int]]]],
    layer: Any,
) -> None:
    # Of the plain weight, which a packed layer does not keep. Beside the packing: 0.02 s for 257 MiB.
    checksums = hasher.submit(part_checksums, layer.weight.detach(), rows_of[layer]) if layer in rows_of else None
    pack(layer)
    # torch's own F.linear packs nothing, and is everybody's.
    if checksums is not None and isinstance(layer.cpu_linear, FunctionType):
        notes.append((layer.cpu_linear, checksums))
