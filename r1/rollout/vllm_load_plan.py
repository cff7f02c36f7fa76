"""Where each published tensor goes in vLLM's model on a CPU: learnt from vLLM's own load, then followed without it.

vLLM's layerwise reload takes 0.35 s for the 272 tensors of a 135M model in bfloat16, of which the bytes need 0.15 s: the rest is
its bookkeeping for each tensor. Where a load has left every tensor's very bits in a known place, the next ones put them there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch

from r1.rollout.vllm_layers import is_turned, packed_experts, parts_by_layer, tied_output_heads
from r1.rollout.vllm_packing import packed_from, part_checksums
from r1.types import WeightManifest

Layout = tuple[tuple[str, str, tuple[int, ...]], ...]


def layout_of(manifest: WeightManifest) -> Layout:
    return tuple((spec.name, spec.dtype, spec.shape) for spec in manifest.tensors)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadPlan:
    """What a load of one layout does."""

    layout: Layout
    packed: Sequence[tuple[Any, Sequence[str]]]
    """Layers that keep nothing but the packed copy of their weight, and the tensors that the weight is made of."""
    copied: Sequence[tuple[Sequence[tuple[torch.Tensor, str]], Any | None]]
    """Memory of the model with the tensors that it holds, and the layer that packs it then, if any."""
    rows: Mapping[Any, Sequence[int]]
    """Of what each packed layer is to leave a note: r1.rollout.vllm_packing."""
    beside_weights: Sequence[tuple[torch.Tensor, str]]
    """What is copied and no layer's `weight`, biases mostly: the proof of layers leaves them out."""

    @torch.no_grad()
    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        for layer, parts in self.packed:
            # A copy, also of a single part: nothing may go on reading the published memory after the load.
            layer.weight = torch.nn.Parameter(torch.cat([tensors[part] for part in parts]), requires_grad=False)
            layer.quant_method.process_weights_after_loading(layer)
        for held_parts, layer in self.copied:
            for held, name in held_parts:
                held.copy_(tensors[name])
            if layer is not None:  # at once: the copy is still in the CPU's caches
                layer.quant_method.process_weights_after_loading(layer)

    def other_than(self, manifest: WeightManifest) -> list[str]:
        """Of `beside_weights`, what is not as published."""
        checksums = {spec.name: spec.checksum for spec in manifest.tensors}
        return [name for held, name in self.beside_weights if part_checksums(held, [len(held)]) != [checksums.get(name)]]


def learn_plan(
    model: torch.nn.Module,
    manifest: WeightManifest,
    tensors: Mapping[str, torch.Tensor],
    rows: Mapping[Any, Sequence[int]],
) -> LoadPlan | None:
    """The plan of a load that has just been done, with notes of what was packed; None where not all of it is understood.

    Bit by bit: a tensor that vLLM turns, scales or splits on its way has no place in a plan, and so the model has none.
    """
    if is_turned(model) or packed_experts(model):
        return None
    checksums = {spec.name: spec.checksum for spec in manifest.tensors}
    tied = [head for _, head, _ in tied_output_heads(model)]  # packed again after every load
    packed, packs, of_layers = list[tuple[Any, list[str]]](), dict[str, Any](), set[str]()
    for name, layer, parts in parts_by_layer(model):
        of_layers.update(parts)
        if layer in tied or not hasattr(layer, "cpu_linear"):
            continue
        if packed_from(layer) != [checksums.get(part) for part in parts]:
            return None  # also of a kernel without a note: the proof would only probe it
        if layer.weight.numel():
            packs[f"{name}.weight"] = layer
        else:
            packed.append((layer, parts))
    held_by = _held_by(model, tensors)
    if any(name not in held_by for name, parameter in model.named_parameters() if parameter.numel()):
        return None
    copied = [pair for pairs in held_by.values() for pair in pairs]
    planned = sorted([name for _, parts in packed for name in parts] + [name for _, name in copied])
    if planned != sorted(tensors) or not all(_same_bits(held, tensors[name]) for held, name in copied):
        return None
    return LoadPlan(
        layout=layout_of(manifest),
        packed=packed,
        copied=[(pairs, packs.get(name)) for name, pairs in held_by.items()],
        rows=rows,
        beside_weights=[(held, name) for held, name in copied if name not in of_layers],
    )


def _same_bits(held: torch.Tensor, published: torch.Tensor) -> bool:
    return held.device == published.device and held.dtype == published.dtype and torch.equal(held, published)


def _held_by(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> dict[str, list[tuple[torch.Tensor, str]]]:
    """Parameter -> its rows, and the tensors of its name or, of a fused layer, of its parts' names."""
    fused = getattr(model, "packed_modules_mapping", {})
    found = dict[str, list[tuple[torch.Tensor, str]]]()
    for name, parameter in model.named_parameters():
        module, _, own = name.rpartition(".")
        parent, dot, layer = module.rpartition(".")
        parts = [f"{parent}{dot}{part}.{own}" for part in fused.get(layer, [layer])] if module else [name]
        if not parameter.numel() or not parameter.ndim or not all(part in tensors for part in parts):
            continue
        ends = list(accumulate((len(tensors[part]) for part in parts), initial=0))
        rows = parameter.detach().as_subclass(torch.Tensor)
        held = [rows[start:end] for start, end in pairwise(ends)]  # an embedding is padded below its rows
        if any(memory.shape != tensors[part].shape for memory, part in zip(held, parts, strict=True)):
            return {}
        found[name] = list(zip(held, parts, strict=True))
    return found
