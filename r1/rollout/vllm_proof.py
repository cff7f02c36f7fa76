"""The proof after a load: which of vLLM's layers do not compute with the published weights, bit by bit.

It says nothing of biases (where a plan is followed, the plan does: r1.rollout.vllm_load_plan), of experts on a GPU or shared by
several processes, of shared layers of an unknown kind (`held_share`), and of weights whose names differ from the published
ones: those rest on the checksums of what arrived and on vLLM's own count of what it loaded.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from vllm._custom_ops import cpu_prepack_moe_weight
from vllm.distributed import get_tensor_model_parallel_world_size
from vllm.model_executor.layers.fused_moe.experts.cpu_moe import CPUUnquantizedExperts
from vllm.model_executor.layers.linear import ReplicatedLinear

from r1.device_weights import device_checksums
from r1.rollout.vllm_layers import is_only_packed, is_turned, packed_experts, parts_by_layer, turned
from r1.rollout.vllm_packing import PROBE_COLUMNS, columns_by_layer, is_multiplied_with, packed_from, part_checksums
from r1.rollout.vllm_parallel import held_share
from r1.shm_weights import read_tensors
from r1.types import TensorSpec, WeightManifest


def layers_with_other_weights(
    model: torch.nn.Module, manifest: WeightManifest, first_to_probe: int, *, packed_in_place: bool = False
) -> tuple[list[str], int]:
    """Where the published bytes are at hand. Returns the layers, and which one is to be probed first the next time.

    A fused layer's weight is its published parts in a row; of a layer that several processes share, each compares what it
    holds. Where a CPU has packed a weight there is nothing left to read: `r1.rollout.vllm_packing` noted of which bits it was
    packed, and kernels are asked in turn for some columns of what they multiply with. Where nothing was noted all are asked;
    an optimizer step changes some bit in 16 columns.

    packed_in_place: notes were taken of the very memory that embeddings are looked up in, as a plan's load does; vLLM's reload
    packs one tensor and copies it into another.
    """
    specs = {spec.name: spec for spec in manifest.tensors}
    published_parts = [(name, layer, [p for p in parts if p in specs]) for name, layer, parts in parts_by_layer(model)]
    layers = [(name, layer, parts) for name, layer, parts in published_parts if parts]
    numels = {name: sum(math.prod(specs[p].shape) for p in parts) for name, layer, parts in layers if packed_from(layer)}
    columns, next_to_probe = columns_by_layer(numels, first_to_probe)
    are_whole, stale = not is_turned(model), list[str]()
    to_read: list[tuple[str, Any, list[str]]] = []
    """The layers for which checksums are not enough."""
    for name, layer, parts in layers:
        wanted, noted = [specs[part].checksum for part in parts], packed_from(layer)
        is_one = len(parts) == 1 and are_whole and not _is_shared(layer)
        holds = noted is None or noted == wanted
        if holds and is_one and not is_only_packed(layer) and not (noted and packed_in_place):
            holds = _checksum_of(layer, specs[parts[0]]) == wanted[0]
        if not holds:
            stale.append(name)
        elif name in columns or (noted is None and (hasattr(layer, "cpu_linear") or not is_one)):
            to_read.append((name, layer, parts))
    experts = packed_experts(model) if get_tensor_model_parallel_world_size() == 1 else []
    names = None if experts else {part for _, _, parts in to_read for part in parts}
    published = turned(model, dict(read_tensors(manifest, verify=False, only=names)))
    for name, layer, parts in to_read:
        if not _holds(layer, [published[part] for part in parts], columns.get(name, PROBE_COLUMNS)):
            stale.append(name)
    stale += [name for name, layer, kernel in experts if not _experts_hold(name, layer, kernel, published)]
    return stale, next_to_probe


def layers_with_other_checksums(model: torch.nn.Module, manifest: WeightManifest) -> list[str]:
    """The same where the published bytes are gone: on a GPU, which packs nothing, by the checksums of its weights.

    A fused layer's weight is cut into the shapes that were published. Of a layer that several processes share each holds a
    part, of which a checksum of the whole says nothing: it is left out, and rests on the checksums of what arrived.
    """
    specs = {spec.name: spec for spec in manifest.tensors}
    shapes = turned(model, {spec.name: torch.empty(spec.shape, device="meta") for spec in manifest.tensors})
    stale = []
    for name, layer, all_parts in parts_by_layer(model):
        parts = [part for part in all_parts if part in specs]
        if not parts or _is_shared(layer):
            continue
        num_rows = [len(shapes[part]) for part in parts]
        if len(layer.weight) < sum(num_rows):
            stale.append(name)
            continue
        pieces = layer.weight[: sum(num_rows)].split(num_rows)  # an embedding is padded to a multiple of 64 rows
        held = {part: piece.to(getattr(torch, specs[part].dtype)) for part, piece in zip(parts, pieces, strict=True)}
        as_published = turned(model, held)
        if device_checksums(as_published.values()) != [specs[part].checksum for part in parts]:
            stale.append(name)
    return stale


def rows_of_packed_layers(model: torch.nn.Module, manifest: WeightManifest) -> dict[Any, list[int]]:
    """Packed layer -> rows of each published tensor whose very bits are packed; vLLM turns GPT-2's matrices on their way."""
    if is_turned(model):
        return {}
    specs = {spec.name: spec for spec in manifest.tensors}
    found = {}
    for _, layer, parts in parts_by_layer(model):
        own = [specs[part] for part in parts if part in specs]
        dtype = str(layer.weight.dtype).removeprefix("torch.")
        if own and hasattr(layer, "cpu_linear") and not _is_shared(layer) and all(spec.dtype == dtype for spec in own):
            found[layer] = [spec.shape[0] for spec in own]
    return found


def _checksum_of(layer: Any, spec: TensorSpec) -> int | None:
    """Of what a layer holds of a whole published tensor, in the published type; None when it is smaller.

    Below its rows an embedding is padded. vLLM may hold a weight in a wider type (a mixture's router): back in the published
    one it is the same.
    """
    held = layer.weight.detach().cpu().to(getattr(torch, spec.dtype))
    return part_checksums(held, spec.shape[:1])[0] if len(held) >= spec.shape[0] else None


def _holds(layer: Any, parts: Sequence[torch.Tensor], num_columns: int) -> bool:
    """Whether a layer computes with this process's share of the published parts; True where the share is unknown."""
    wanted = held_share(layer, parts)
    if wanted is None:
        return True
    if hasattr(layer, "cpu_linear") and not is_multiplied_with(layer, wanted, num_columns):
        return False
    if is_only_packed(layer):
        return True
    # Checksums, since torch.equal takes 0.2 s for an embedding of 28M weights.
    num_rows, held = [len(wanted)], layer.weight.detach().cpu().to(wanted.dtype)
    return len(held) >= len(wanted) and part_checksums(held, num_rows) == part_checksums(wanted, num_rows)


def _is_shared(layer: Any) -> bool:
    """Whether several processes hold a part of the layer each."""
    return getattr(layer, "tp_size", 1) > 1 and not isinstance(layer, ReplicatedLinear)


def _experts_hold(name: str, layer: Any, kernel: CPUUnquantizedExperts, published: Mapping[str, torch.Tensor]) -> bool:
    """Whether a layer's packed experts are the published ones, bit by bit: they are packed again and compared."""
    prefix = name.removesuffix("experts.routed_experts")
    parts: dict[str, dict[int, list[torch.Tensor]]] = {"w13_weight": defaultdict(list), "w2_weight": defaultdict(list)}
    # ("experts.w13_", "experts.0.gate_proj.", 0, "w1"), gate before up
    for parameter, part, expert, _ in layer.get_expert_mapping():
        parts[f"{parameter.removeprefix('experts.')}weight"][expert].append(published[f"{prefix}{part}weight"])
    return all(
        torch.equal(
            cpu_prepack_moe_weight(torch.stack([torch.cat(of_expert[e]) for e in sorted(of_expert)]), kernel.isa),
            getattr(layer, parameter),
        )
        for parameter, of_expert in parts.items()
    )
