"""vLLM's worker side of a weight sync: read, reload layer by layer, re-pack what a CPU packs, and prove what it computes with.

Besides `r1.rollout.vllm_engine`, which imports this file, nothing imports vllm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from vllm.config import WeightTransferConfig
from vllm.distributed.weight_transfer.base import WeightTransferEngine, WeightTransferInitInfo, WeightTransferUpdateInfo
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.layers.attention import is_deferred_attention_layer
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from r1.device_weights import device_ids
from r1.rollout.vllm_layers import named_modules, packed_experts, tied_output_heads
from r1.rollout.vllm_load_plan import LoadPlan, layout_of, learn_plan
from r1.rollout.vllm_packing import packing_noted
from r1.rollout.vllm_proof import layers_with_other_checksums, layers_with_other_weights, rows_of_packed_layers
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
    plan: LoadPlan | None = None
    """Where vLLM's own load put everything; None: each load is vLLM's own."""
    follows: bool = False
    """Whether the last load went by the plan."""
    is_first: bool = True
    """Whether there was no whole load yet that a plan could be learnt from."""

    def init_transfer_engine(self, init_info: ShmInit) -> None:
        pass

    def start_weight_update(self) -> None:
        pass

    def receive_weights(self, update_info: ManifestUpdate) -> None:
        """Read, and compare what the proof after the load will not: where a plan is followed it covers everything."""
        self._manifest, self._verify = update_info.manifest, update_info.verify
        self.follows = self.plan is not None and self.plan.layout == layout_of(self._manifest)
        self._tensors = read_tensors(self._manifest, verify=self._verify and not self.follows)

    def finish_weight_update(self) -> None:
        plan = self.plan if self.follows else None
        rows = plan.rows if plan else rows_of_packed_layers(self.model, self._manifest)
        with packing_noted(rows if self._verify or self.is_first else {}):
            if plan:
                plan.load(dict(self._tensors))
                self.without_weights = []
            else:
                self._reload()
            repack_tied_output_heads(self.model)
            repack_experts(self.model)
        if self.is_first and not self.without_weights:
            self.plan = learn_plan(self.model, self._manifest, dict(self._tensors), rows)
            self.is_first = False
        self._tensors = []

    def _reload(self) -> None:
        """Load through vLLM's layerwise reload; `model.load_weights` on the live, packed model raises half-way.

        The reload keeps the old weights of every parameter that received none, and only warns: they are noted.
        """
        wanted = wanted_parameters(self.model)
        initialize_layerwise_reload(self.model)
        loaded = self.model.load_weights(iter(self._tensors))
        finalize_layerwise_reload(self.model, self.model_config)
        # Not raised here: vLLM would take the update for unfinished and refuse the next one.
        self.without_weights = sorted(wanted - loaded)

    def shutdown(self) -> None:
        self._tensors = []


def wanted_parameters(model: torch.nn.Module) -> set[str]:
    """The parameters that a whole update reaches."""
    # Attention layers own no weight of a checkpoint, but DeepSeek's keep matrices that they derive from one.
    derived = tuple(f"{name}." for name, layer in named_modules(model) if is_deferred_attention_layer(layer))
    return {name for name, _ in model.named_parameters() if not name.startswith(derived)}


def repack_tied_output_heads(model: torch.nn.Module) -> None:
    """Pack tied output heads again, since the layerwise reload does not.

    A CPU multiplies with a packed copy of each 2-D weight. The reload packs those layers anew that received
    weights; an `lm_head` that shares the embedding's receives none under its own name, so it would go on
    computing with the old policy's copy, silently: mean |d log-prob| 0.093 instead of 0.03 for a 135M model.
    """
    for _, head, _ in tied_output_heads(model):
        head.quant_method.process_weights_after_loading(head)


def repack_experts(model: torch.nn.Module) -> None:
    """Pack the experts of a mixture again, since vLLM's CPU kernel packs them on the first load only.

    A reload leaves the plain weights where the kernel expects packed ones, silently: mean |d log-prob| 1.1 for a tiny model.
    """
    for _, layer, kernel in packed_experts(model):
        kernel.process_weights_after_loading(layer)


class WorkerExtension:
    """Methods that vLLM adds to its worker, for `collective_rpc`."""

    _next_to_probe = 0
    _names: frozenset[str] = frozenset()
    """What was published when all of it was proved for the first time."""

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

    def stale_weights(self, manifest: WeightManifest) -> list[str]:
        """Parameters that received nothing, and layers that compute with other weights than the published ones."""
        model: torch.nn.Module = self.model_runner.model  # type: ignore[attr-defined]
        if manifest.checksum_kind == "device":
            stale = layers_with_other_checksums(model, manifest)
        else:
            plan = self.weight_transfer_engine.plan
            stale, self._next_to_probe = layers_with_other_weights(
                model, manifest, self._next_to_probe, packed_in_place=self.weight_transfer_engine.follows
            )
            stale += plan.other_than(manifest) if plan else []
        names = frozenset(spec.name for spec in manifest.tensors)
        # vLLM takes a fused layer for loaded when some part of it has come.
        stale = [*self.weight_transfer_engine.without_weights, *stale] or sorted(self._names - names)
        self._names = self._names or (frozenset() if stale else names)
        return stale


if ShmWeightTransfer.NAME not in WeightTransferEngineFactory._registry:
    WeightTransferEngineFactory.register_engine(ShmWeightTransfer.NAME, ShmWeightTransfer)
