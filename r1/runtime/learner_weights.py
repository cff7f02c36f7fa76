"""A learner rank's part in weight syncs: what engines elsewhere need of it, see r1.runtime.transports."""

import socket
from typing import TYPE_CHECKING, Any

import ray

from r1.learner import Learner
from r1.types import WeightManifest
from r1.weight_buckets import read_bucket

if TYPE_CHECKING:
    from r1.rollout.vllm_sender import IpcSender, NcclSender


class SendsWeights:
    """Mixed into `LearnerWorker`. vLLM is imported by the first call that sends from a GPU: it takes 8 to 10 s."""

    _learner: Learner
    _nccl: "NcclSender | None" = None
    _ipc: "IpcSender | None" = None

    def meeting_point(self) -> str:
        """Where processes can meet: a free port of this node."""
        with socket.socket() as free:
            free.bind(("", 0))
            return f"tcp://{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"

    def publish_file(self) -> WeightManifest | None:
        return self._learner.publish_file()

    def put_bucket(self, manifest: WeightManifest, index: int) -> list[Any]:
        """Put a piece of the published file into the object store; the list keeps Ray from fetching it for the driver."""
        return [ray.put(read_bucket(manifest, index))]

    def join_transfer(self, meeting_point: str, world_size: int) -> None:
        """Meet the engines that this rank will send to; returns when all of them are there."""
        from r1.rollout.vllm_sender import NcclSender

        if self._nccl is not None:
            self._nccl.close()
        self._nccl = NcclSender(meeting_point, world_size, self._learner.ranks.rank, self._learner.wire_tensors)

    def send_weights(self, manifest: WeightManifest) -> None:
        """Broadcast to all engines, which receive at the same time; ranks but the first help to gather."""
        assert self._nccl is not None, "join_transfer comes first"
        self._nccl.send(manifest)

    def next_bucket(self, manifest: WeightManifest, index: int) -> dict[str, Any] | None:
        """Fill this rank's shared bucket and say how to read it; None when all tensors were in one. Index 0 starts anew."""
        from r1.rollout.vllm_sender import IpcSender

        if index == 0:
            self._ipc = IpcSender(manifest, self._learner.wire_tensors())
        assert self._ipc is not None, "bucket 0 comes first"
        return self._ipc.next_bucket()

    def end_transfer(self) -> None:
        """Give the shared bucket back: the engines have let go of it."""
        if self._ipc is not None:
            self._ipc.close()
            self._ipc = None
