"""vLLM's worker side of a weight sync: read, reload layer by layer, re-pack what a CPU packs, and prove what it computes with.

Besides `r1.rollout.vllm_engine`, which imports this file, nothing imports vllm.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from vllm._custom_ops import cpu_prepack_moe_weight
from vllm.config import WeightTransferConfig
from vllm.distributed.weight_transfer.base import WeightTransferEngine, WeightTransferInitInfo, WeightTransferUpdateInfo
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.layers.attention import is_deferred_attention_layer
from vllm.model_executor.layers.fused_moe.experts.cpu_moe import CPUUnquantizedExperts
from vllm.model_executor.layers.linear import ReplicatedLinear
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from r1.device_weights import device_checksums, device_ids
from r1.rollout.vllm_parallel import held_share
from r1.shm_weights import read_tensors
from r1.types import WeightManifest


@dataclass
class ShmInit(WeightTransferInitInfo):
    """Nothing to agree on beforehand: each update carries its whole manifest."""


@dataclass
class ManifestUpdate(WeightTransferUpdateInfo):
    """What every transport of ours tells vLLM's worker."""

    manifest: WeightManifest
    verify: bool
    bucket: dict[str, Any] | None = None
    """Of a transfer in buckets, one of them; None when they have all been."""


class ShmWeightTransfer(WeightTransferEngine[ShmInit, ManifestUpdate]):
    """vLLM's worker side of a sync: read the shared file, reload layer by layer, re-pack what a CPU packs."""

    NAME = "r1_shm"
    init_info_cls = ShmInit
    update_info_cls = ManifestUpdate
    without_weights: Sequence[str] = ()
    """The parameters that the last update did not reach."""

    def init_transfer_engine(self, init_info: ShmInit) -> None:
        pass

    def start_weight_update(self) -> None:
        pass

    def receive_weights(self, update_info: ManifestUpdate) -> None:
        """Only read and compare: damaged bytes must be refused before any layer has changed."""
        self._tensors = read_tensors(update_info.manifest, verify=update_info.verify)

    def finish_weight_update(self) -> None:
        """Load through vLLM's layerwise reload; `model.load_weights` on the live, packed model raises half-way.

        The reload keeps the old weights of every parameter that received none, and only warns: they are noted.
        """
        wanted = wanted_parameters(self.model)
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


def wanted_parameters(model: torch.nn.Module) -> set[str]:
    """The parameters that a whole update reaches."""
    # Attention layers own no weight of a checkpoint, but DeepSeek's keep matrices that they derive from one.
    derived = tuple(f"{name}." for name, layer in model.named_modules() if is_deferred_attention_layer(layer))
    return {name for name, _ in model.named_parameters() if not name.startswith(derived)}


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
    shared = {
        id(module.weight): name
        for name, module in model.named_modules()
        if isinstance(module, VocabParallelEmbedding) and not isinstance(module, ParallelLMHead)
    }
    return [
        (name, module, shared[id(module.weight)])
        for name, module in model.named_modules()
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

    def device_id(self) -> str:
        """The unique id of this worker's GPU; "" on a CPU."""
        return "".join(device_ids())

    def use_transport(self, name: str) -> None:
        """Take the next weights by another registered transport; the connections of the last one are closed."""
        self.weight_transfer_engine.shutdown()  # type: ignore[has-type]
        self.weight_transfer_engine = WeightTransferEngineFactory.create_engine(
            WeightTransferConfig(backend=name),
            self.vllm_config,  # type: ignore[attr-defined]
            self.device,  # type: ignore[attr-defined]
            self.model_runner.model,  # type: ignore[attr-defined]
        )

    def layers_with_other_weights(self, manifest: WeightManifest) -> list[str]:
        """Parameters that received nothing, and layers whose weight is not, bit by bit, the published one.

        A fused layer's weight is its published parts in a row. Where a CPU has packed a weight there is nothing left to
        read, so the layer is asked: a one-hot input makes its kernel return one column of what it multiplies with,
        exactly (one product with 1.0, all others 0). Bits and not a tolerance, since an update may move a bf16 weight by
        one unit in the last place. 16 columns are compared; an optimizer step changes some bit in them.

        Of a layer that several processes share, each compares what it holds.

        Says nothing of biases, of experts on a GPU or shared by several processes, of shared layers of an unknown kind
        (`held_share`), and of weights whose names differ from the published ones: those rest on the checksums and on vLLM's
        own count of what it loaded.
        """
        model: torch.nn.Module = self.model_runner.model  # type: ignore[attr-defined]
        stale = list(self.weight_transfer_engine.without_weights)
        if manifest.checksum_kind == "device":
            return stale + layers_with_other_checksums(model, manifest)
        published = _turned(model, dict(read_tensors(manifest, verify=False)))
        for name, layer in model.named_modules():
            parts = [published[part] for part in published_names(model, name) if part in published]
            weight = getattr(layer, "weight", None)
            if not parts or weight is None:
                continue
            wanted = held_share(layer, parts)
            if wanted is None:
                continue
            if hasattr(layer, "cpu_linear"):
                columns = torch.linspace(0, wanted.shape[1] - 1, 16).long()
                probes = torch.nn.functional.one_hot(columns, wanted.shape[1]).to(wanted)
                held, wanted = layer.cpu_linear(probes, weight, None).T, wanted[:, columns]
            else:
                held = weight.cpu()
            # An embedding is padded to a multiple of 64 rows.
            if not torch.equal(held[: len(wanted)], wanted):
                stale.append(name)
        if self.parallel_config.tensor_parallel_size == 1:  # type: ignore[attr-defined]
            experts = _packed_experts(model)
            stale += [name for name, layer, kernel in experts if not _experts_hold(name, layer, kernel, published)]
        return stale


def layers_with_other_checksums(model: torch.nn.Module, manifest: WeightManifest) -> list[str]:
    """The same where the published bytes are gone: on a GPU, which packs nothing, by the checksums of its weights.

    A fused layer's weight is cut into the shapes that were published. Of a layer that several processes share each holds a
    part, of which a checksum of the whole says nothing: it is left out, and rests on the checksums of what arrived.
    """
    specs = {spec.name: spec for spec in manifest.tensors}
    shapes = _turned(model, {spec.name: torch.empty(spec.shape, device="meta") for spec in manifest.tensors})
    stale = []
    for name, layer in model.named_modules():
        parts = [part for part in published_names(model, name) if part in specs]
        weight = getattr(layer, "weight", None)
        is_shared = getattr(layer, "tp_size", 1) > 1 and not isinstance(layer, ReplicatedLinear)
        if not parts or weight is None or is_shared:
            continue
        num_rows = [len(shapes[part]) for part in parts]
        if len(weight) < sum(num_rows):
            stale.append(name)
            continue
        # vLLM may hold a weight in a wider type (a mixture's router): back in the published one it is the same.
        pieces = weight[: sum(num_rows)].split(num_rows)  # an embedding is padded to a multiple of 64 rows
        held = {part: piece.to(getattr(torch, specs[part].dtype)) for part, piece in zip(parts, pieces, strict=True)}
        as_published = _turned(model, held)
        if device_checksums(as_published.values()) != [specs[part].checksum for part in parts]:
            stale.append(name)
    return stale


def _turned(model: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """GPT-2's files hold its matrices transposed, and vLLM turns them when it loads; from here to there and back alike."""
    for module in model.modules():
        transpose = getattr(module, "_transpose_conv1d", None)
        if transpose is not None:
            tensors = dict(transpose(tensors.items()))
    return tensors


def published_names(model: torch.nn.Module, layer_name: str) -> list[str]:
    """The published weights that a vLLM layer is made of: "...qkv_proj" -> q, k and v; a tied head -> the embedding."""
    for name, _, embedding in _tied_output_heads(model):
        if layer_name == name:
            return [f"{embedding}.weight"]
    parent, _, own = layer_name.rpartition(".")
    parts = getattr(model, "packed_modules_mapping", {}).get(own, [own])
    return [f"{parent}.{part}.weight" if parent else f"{part}.weight" for part in parts]


if ShmWeightTransfer.NAME not in WeightTransferEngineFactory._registry:
    WeightTransferEngineFactory.register_engine(ShmWeightTransfer.NAME, ShmWeightTransfer)
