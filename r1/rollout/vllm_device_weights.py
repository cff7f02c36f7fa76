"""vLLM's NCCL and CUDA IPC transfers, with every tensor checked on the GPU. Never run on one yet: docs/gpu-checklist.md.

vLLM loads these bucket by bucket as they come, so a sync that fails leaves the engine with some old and some new weights:
the pool replaces it.
"""

from collections.abc import Iterable
from typing import Any

import torch
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.distributed.weight_transfer.ipc_engine import IPCWeightTransferEngine, IPCWeightTransferUpdateInfo
from vllm.distributed.weight_transfer.nccl_common import NCCLWeightTransferInitInfo
from vllm.distributed.weight_transfer.nccl_engine import NCCLWeightTransferEngine, NCCLWeightTransferUpdateInfo

from r1.device_weights import wrong_tensors
from r1.errors import SyncError
from r1.rollout.vllm_weights import ManifestUpdate, wanted_parameters
from r1.types import WeightManifest


class CheckedModel:
    """Stands in for the model while its weights arrive: what is not the manifest's next tensor, bit by bit, is not loaded.

    After the first wrong tensor, or an error while loading, nothing more is loaded, but all the rest is received and
    thrown away: in a broadcast everybody else would wait for a member that leaves.
    """

    def __init__(self, model: Any, manifest: WeightManifest, *, verify: bool) -> None:
        self.loaded: set[str] = set()
        """Parameters of the model that have got their weights."""
        self._model = model
        self._manifest = manifest
        self._verify = verify
        self._num_received = 0
        self._wrong: list[str] = []
        self._error: Exception | None = None

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Called by vLLM with the tensors of one bucket."""
        received = list(weights)
        expected = self._manifest.tensors[self._num_received : self._num_received + len(received)]
        self._num_received += len(received)
        if self._wrong or self._error:
            return
        self._wrong = wrong_tensors(expected, received, verify=self._verify)
        if not self._wrong:
            try:
                self.loaded |= self._model.load_weights(received)
            except Exception as error:  # noqa: BLE001  raised by `check`, when nobody waits for this engine any more
                self._error = error

    def check(self, *, is_last: bool) -> None:
        """Raise what was wrong so far. is_last: all tensors should have come."""
        where = f"weight sync, phase transfer, version {self._manifest.policy_version}"
        if self._error:
            raise self._error
        if self._wrong:
            raise SyncError(f"{where}: {len(self._wrong)} tensors are wrong: {', '.join(self._wrong[:3])}")
        if is_last and self._num_received != len(self._manifest.tensors):
            raise SyncError(f"{where}: {self._num_received} of {len(self._manifest.tensors)} tensors have come")


class NcclWeightTransfer(NCCLWeightTransferEngine):
    """Receives a broadcast from the learner's first rank; several engines are in one group, each at ranks of its own."""

    NAME = "r1_nccl"
    update_info_cls = ManifestUpdate
    without_weights: list[str] = []  # noqa: RUF012  replaced, never changed

    def init_transfer_engine(self, init_info: NCCLWeightTransferInitInfo) -> None:
        self.shutdown()  # of a group with other members
        super().init_transfer_engine(init_info)

    def start_weight_update(self) -> None:
        self._wanted = wanted_parameters(self.model)
        super().start_weight_update()

    def receive_weights(self, update_info: ManifestUpdate) -> None:
        """Receive all tensors, then raise `SyncError` if any was wrong."""
        specs = update_info.manifest.tensors
        model, checked = self.model, CheckedModel(self.model, update_info.manifest, verify=update_info.verify)
        announced = NCCLWeightTransferUpdateInfo(
            names=[spec.name for spec in specs],
            dtype_names=[spec.dtype for spec in specs],
            shapes=[list(spec.shape) for spec in specs],
        )
        self.set_weight_update_target(checked, self.model_config)
        try:
            super().receive_weights(announced)
        finally:
            self.set_weight_update_target(model, self.model_config)
        checked.check(is_last=True)
        self.without_weights = sorted(self._wanted - checked.loaded)


class IpcWeightTransfer(IPCWeightTransferEngine):
    """Reads buckets in the learner's memory on the same GPU; each is copied before it is checked and loaded."""

    NAME = "r1_ipc"
    update_info_cls = ManifestUpdate
    without_weights: list[str] = []  # noqa: RUF012  replaced, never changed

    def start_weight_update(self) -> None:
        self.packed = True
        self._wanted = wanted_parameters(self.model)
        self._checked: CheckedModel | None = None
        super().start_weight_update()

    def receive_weights(self, update_info: ManifestUpdate) -> None:
        """Take one bucket; without one, see whether all have come. Raises `SyncError` for tensors that are wrong or missing."""
        if self._checked is None:
            self._checked = CheckedModel(self.model, update_info.manifest, verify=update_info.verify)
        if update_info.bucket is None:
            self._checked.check(is_last=True)
            self.without_weights = sorted(self._wanted - self._checked.loaded)
            return
        model = self.model
        self.set_weight_update_target(self._checked, self.model_config)
        try:
            super().receive_weights(IPCWeightTransferUpdateInfo(**update_info.bucket))
        finally:
            self.set_weight_update_target(model, self.model_config)
        self._checked.check(is_last=False)


for _transfer in (NcclWeightTransfer, IpcWeightTransfer):
    if _transfer.NAME not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(_transfer.NAME, _transfer)
