"""vLLM's worker side of a weight sync: read, reload layer by layer, re-pack what a CPU packs, and prove what it computes with.

Besides `r1.rollout.vllm_engine`, which imports this file, nothing imports vllm.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from vllm._custom_ops import cpu_prepack_moe_weight
from vllm.distributed.weight_transfer.base import WeightTransferEngine, WeightTransferInitInfo, WeightTransferUpdateInfo
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.layers.attention import is_deferred_attention_layer
from vllm.model_executor.layers.fused_moe.experts.cpu_moe import CPUUnquantizedExperts
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from r1.rollout.vllm_packing import (
    PROBE_COLUMNS,
    columns_by_layer,
    is_multiplied_with,
    packed_from,
    packing_noted,
    part_checksums,
)
from r1.shm_weights import read_tensors
from r1.types import WeightManifest


@dataclass
class ShmInit(WeightTransferInitInfo):
    """Nothing to agree on beforehand: each update carries its whole manifest."""


@dataclass
class ShmUpdate(WeightTransferUpdateInfo):
    manifest: WeightManifest
    verify: bool


class ShmWeightTransfer(WeightTransferEngine[ShmInit, ShmUpdate]):
    """vLLM's worker side of a sync: read the shared file, reload layer by layer, re-pack what a CPU packs."""

    NAME = "r1_shm"
    init_info_cls = ShmInit
    update_info_cls = ShmUpdate
    without_weights: Sequence[str] = ()
    """The parameters that the last update did not reach."""

    def init_transfer_engine(self, init_info: ShmInit) -> None:
        pass

    def start_weight_update(self) -> None:
        pass

    def receive_weights(self, update_info: ShmUpdate) -> None:
        """Only read and compare: damaged bytes must be refused before any layer has changed."""
        self._tensors = read_tensors(update_info.manifest, verify=update_info.verify)
        self._manifest = update_info.manifest if update_info.verify else None

    def finish_weight_update(self) -> None:
        """Load through vLLM's layerwise reload; `model.load_weights` on the live, packed model raises half-way.

        The reload keeps the old weights of every parameter that received none, and only warns: they are noted.
        """
        # Attention layers own no weight of a checkpoint, but DeepSeek's keep matrices that they derive from one.
        derived = tuple(f"{name}." for name, layer in self.model.named_modules() if is_deferred_attention_layer(layer))
        wanted = {name for name, _ in self.model.named_parameters() if not name.startswith(derived)}
        with packing_noted(_rows_of_packed_layers(self.model, self._manifest) if self._manifest else {}):
            initialize_layerwise_reload(self.model)
            loaded = self.model.load_weights(iter(self._tensors))
            finalize_layerwise_reload(self.model, self.model_config)
            self._tensors = []
            repack_tied_output_heads(self.model)
            repack_experts(self.model)
        # Not raised here: vLLM would take the update for unfinished and refuse the next one.
        self.without_weights = sorted(wanted - loaded)

    def shutdown(self) -> None:
        self._tensors = []


def repack_tied_output_heads(model: torch.nn.Module) -> None:
    """Pack tied output heads again, since the layerwise reload does not.

    A CPU multiplies with a packed copy of each 2-D weight. The reload packs those layers anew that received
    weights; an `lm_head` that shares the embedding's receives none under its own name, so it would go on
    computing with the old policy's copy, silently: mean |d log-prob| 0.093 instead of 0.03 for a 135M model.
    """
    for _, head, _ in _tied_output_heads(model):
        head.quant_method.process_weights_after_loading(head)


def _tied_output_heads(model: torch.nn.Module) -> list[tuple[str, ParallelLMHead, str]]:
    """(name, module, embedding's name) of the output heads with a packed copy whose weight belongs to an embedding."""
    embeddings = [(name, module) for name, module in model.named_modules() if isinstance(module, VocabParallelEmbedding)]
    shared = {id(module.weight): name for name, module in embeddings if not isinstance(module, ParallelLMHead)}
    return [
        (name, module, shared[id(module.weight)])
        for name, module in embeddings
        if isinstance(module, ParallelLMHead) and hasattr(module, "cpu_linear") and id(module.weight) in shared
    ]


def repack_experts(model: torch.nn.Module) -> None:
    """Pack the experts of a mixture again, since vLLM's CPU kernel packs them on the first load only.

    A reload leaves the plain weights where the kernel expects packed ones, silently: mean |d log-prob| 1.1 for a tiny model.
    """
    for _, layer, kernel in _packed_experts(model):
        kernel.process_weights_after_loading(layer)


def _packed_experts(model: torch.nn.Module) -> list[tuple[str, Any, CPUUnquantizedExperts]]:
    """(name, layer, kernel) of the layers that hold experts in a CPU's packing."""
    kernels = [
        (name, layer, getattr(getattr(getattr(layer, "quant_method", None), "moe_kernel", None), "fused_experts", None))
        for name, layer in model.named_modules()
    ]
    return [(name, layer, kernel) for name, layer, kernel in kernels if isinstance(kernel, CPUUnquantizedExperts)]


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


class WorkerExtension:
    """Methods that vLLM adds to its worker, for `collective_rpc`."""

    _next_to_probe = 0

    def layers_with_other_weights(self, manifest: WeightManifest) -> list[str]:
        """Parameters that received nothing, and layers whose weight is not, bit by bit, the published one.

        A fused layer's weight is its published parts in a row. Where a CPU has packed a weight there is nothing left to
        read: `r1.rollout.vllm_packing` noted of which bits it was packed, and kernels are asked in turn for some columns of
        what they multiply with. Where nothing was noted all are asked; an optimizer step changes some bit in 16 columns.

        Says nothing of biases, of experts on a GPU, and of weights whose names differ from the published ones: those rest on
        the checksums and on vLLM's own count of what it loaded.
        """
        model: torch.nn.Module = self.model_runner.model  # type: ignore[attr-defined]
        published, specs = dict(read_tensors(manifest, verify=False)), {spec.name: spec for spec in manifest.tensors}
        for module in model.modules():
            transpose = getattr(module, "_transpose_conv1d", None)
            if transpose is not None:  # GPT-2's files hold its matrices transposed; vLLM turns them when it loads
                published = dict(transpose(published.items()))
        layers = [(name, layer, [part for part in parts if part in specs]) for name, layer, parts in _parts_by_layer(model)]
        numels = {name: sum(published[p].numel() for p in parts) for name, layer, parts in layers if parts and packed_from(layer)}
        columns, self._next_to_probe = columns_by_layer(numels, self._next_to_probe)
        stale = list(self.weight_transfer_engine.without_weights)  # type: ignore[attr-defined]
        for name, layer, parts in layers:
            wanted, noted = [published[part] for part in parts], packed_from(layer)
            if not parts:
                holds = True  # nothing under its name was published
            elif noted:
                holds = noted == [specs[part].checksum for part in parts]
                holds = holds and (name not in columns or is_multiplied_with(layer, torch.cat(wanted), columns[name]))
            elif hasattr(layer, "cpu_linear"):
                holds = is_multiplied_with(layer, torch.cat(wanted), PROBE_COLUMNS)
            else:
                # Checksums, since torch.equal takes 0.2 s for an embedding of 28M weights.
                held = part_checksums(layer.weight.detach().cpu(), [len(part) for part in wanted])
                holds = held == [part_checksums(part, [len(part)])[0] for part in wanted]
            if not holds:
                stale.append(name)
        stale += [name for name, layer, kernel in _packed_experts(model) if not _experts_hold(name, layer, kernel, published)]
        return stale


def _rows_of_packed_layers(model: torch.nn.Module, manifest: WeightManifest) -> dict[Any, list[int]]:
    """Packed layer -> rows of each published tensor whose very bits are packed; vLLM turns GPT-2's matrices on their way."""
    if any(hasattr(module, "_transpose_conv1d") for module in model.modules()):
        return {}
    specs = {spec.name: spec for spec in manifest.tensors}
    found = {}
    for _, layer, parts in _parts_by_layer(model):
        own = [specs[part] for part in parts if part in specs]
        dtype = str(layer.weight.dtype).removeprefix("torch.")
        if own and hasattr(layer, "cpu_linear") and all(spec.dtype == dtype for spec in own):
            found[layer] = [spec.shape[0] for spec in own]
    return found


def _parts_by_layer(model: torch.nn.Module) -> list[tuple[str, Any, list[str]]]:
    """(name, layer, the published weights it is made of): "...qkv_proj" of q, k and v; a tied head of the embedding."""
    tied = {name: embedding for name, _, embedding in _tied_output_heads(model)}
    fused = getattr(model, "packed_modules_mapping", {})
    found = []
    for name, layer in model.named_modules():
        if getattr(layer, "weight", None) is None:
            continue
        parent, dot, own = name.rpartition(".")
        parts = [tied[name]] if name in tied else [f"{parent}{dot}{part}" for part in fused.get(own, [own])]
        found.append((name, layer, [f"{part}.weight" for part in parts]))
    return found


if ShmWeightTransfer.NAME not in WeightTransferEngineFactory._registry:
    WeightTransferEngineFactory.register_engine(ShmWeightTransfer.NAME, ShmWeightTransfer)
