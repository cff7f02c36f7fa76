"""The learner's side of vLLM's weight transfer between GPUs. Never run on one yet: docs/gpu-checklist.md.

Our driver calls learner and engines at the same time and watches the deadlines, so vLLM's trainer has nobody to call.
"""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import torch
from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource
from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo
from vllm.distributed.weight_transfer.packed_tensor import packed_ipc_producer

from r1.device_weights import device_ids, largest_tensor
from r1.types import WeightManifest
from r1.weight_transport import BUCKET_BYTES

NamedTensors = Iterator[tuple[str, torch.Tensor]]


class NcclSender:
    """One learner rank's end of a broadcast group: rank 0 is rank 0 of the group, the others only help to gather."""

    def __init__(self, meeting_point: str, world_size: int, rank: int, tensors: Callable[[], NamedTensors]) -> None:
        """Wait at `meeting_point` ("tcp://host:port", on rank 0's node) for all engines.

        tensors: begins a walk over the weights; all ranks walk together.
        """
        meeting = urlsplit(meeting_point)
        assert meeting.hostname is not None
        assert meeting.port is not None
        self._source = _Source(tensors)
        self._trainer = WeightTransferTrainerFactory.trainer_init(
            NCCLTrainerInitInfo(
                master_address=meeting.hostname,
                master_port=meeting.port,
                world_size=world_size,
                rank=rank,
                packed=True,
                packed_buffer_size_bytes=BUCKET_BYTES,
            ),
            client=_NobodyToCall(),
            source=self._source,
        )

    def send(self, manifest: WeightManifest) -> None:
        """Broadcast the weights; vLLM raises ValueError for a tensor that is not the manifest's next one."""
        self._source.manifest = manifest
        self._trainer.send_weights()

    def close(self) -> None:
        self._trainer.shutdown()


class IpcSender:
    """One learner rank's bucket in its GPU's memory, which engines on the same GPU read."""

    def __init__(self, manifest: WeightManifest, tensors: NamedTensors) -> None:
        [gpu] = device_ids()
        # vLLM makes room for a whole bucket at once, and no tensor may be larger.
        size = max(min(BUCKET_BYTES, manifest.num_bytes), largest_tensor(manifest))
        self._chunks: Iterator[Any] | None = packed_ipc_producer(tensors, gpu, lambda item: item[1], size)

    def next_bucket(self) -> dict[str, Any] | None:
        """Put the next tensors into the bucket: what vLLM's engines are told of it, or None after the last one.

        Nobody may read the one before any more.
        """
        assert self._chunks is not None
        chunk = next(self._chunks, None)
        if chunk is None:
            return None
        return {
            "names": chunk.names,
            "dtype_names": chunk.dtype_names,
            "shapes": chunk.shapes,
            "tensor_sizes": chunk.tensor_sizes,
            "ipc_handles": chunk.ipc_handle,
        }

    def close(self) -> None:
        """Free the bucket; the engines have closed their ends."""
        self._chunks = None
        torch.cuda.ipc_collect()  # type: ignore[no-untyped-call]


class _Source(WeightSource):
    """vLLM's view of the learner: what the manifest announces, and a walk over the tensors."""

    def __init__(self, tensors: Callable[[], NamedTensors]) -> None:
        self._tensors = tensors
        self.manifest: WeightManifest | None = None

    def metadata(self) -> list[ParamMeta]:
        assert self.manifest is not None, "set before each send"
        return [ParamMeta(spec.name, getattr(torch, spec.dtype), spec.shape) for spec in self.manifest.tensors]

    def __iter__(self) -> NamedTensors:
        return self._tensors()


class _NobodyToCall:
    """A `VLLMWeightSyncClient` for a trainer whose engines are called by somebody else."""

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        pass

    def start_weight_update(self) -> None:
        pass

    def update_weights(self, update_info: Any) -> None:
        pass

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        pass
