"""What vLLM's transfers between GPUs ask of CUDA and NCCL, in this process and on the CPU: only these calls are replaced."""

import contextlib
from collections import deque
from types import SimpleNamespace

import torch
from vllm.distributed.weight_transfer import ipc_engine, nccl_common, packed_tensor

GPU = "GPU-5f2b"


class FakeNccl:
    """Broadcast groups by meeting point; what rank 0 sends, every other rank receives in that order."""

    def __init__(self):
        self.joined = []
        """(address, port, rank, world size) in the order of joining"""
        self.spoil = lambda number, tensor: tensor
        """What happens to the n-th broadcast of a group on its way"""
        self.num_destroyed = 0
        self._queues = {}

    def join(self, address, port, rank, world_size, device):
        self.joined.append((address, port, rank, world_size))
        queues = self._queues.setdefault(port, {member: deque() for member in range(1, world_size)})
        return _Member(self, rank, queues)


class _Member:
    def __init__(self, nccl, rank, queues):
        self.nccl, self.rank, self.queues, self.num_sent = nccl, rank, queues, 0

    def broadcast(self, tensor, src, stream=None):
        assert src == 0
        if self.rank == 0:
            sent = self.nccl.spoil(self.num_sent, tensor.clone())
            self.num_sent += 1
            for queue in self.queues.values():
                queue.append(sent)
        else:
            received = self.queues[self.rank].popleft()
            assert received.shape == tensor.shape, "the two sides cut the stream differently"
            tensor.copy_(received)

    def destroy(self):
        self.nccl.num_destroyed += 1


def install(monkeypatch):
    """Replace CUDA for one test; returns the fake NCCL."""
    nccl = FakeNccl()
    monkeypatch.setattr(nccl_common, "stateless_init_process_group", nccl.join)
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: SimpleNamespace(synchronize=lambda: None))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=GPU))
    monkeypatch.setattr(torch.cuda, "ipc_collect", lambda: None)
    monkeypatch.setattr(packed_tensor, "_get_streams", lambda *_: [SimpleNamespace(synchronize=lambda: None)] * 2)
    # CUDA IPC: a handle is seven values of which the seventh is the device; here the first one names the memory.
    shared = {}

    def reduce_tensor(tensor):
        shared[id(tensor)] = tensor
        return None, (id(tensor), 1, 2, 3, 4, 5, 99)

    monkeypatch.setattr(packed_tensor, "reduce_tensor", reduce_tensor)
    rebuild = lambda key, *rest: shared[key]  # noqa: E731
    monkeypatch.setattr(torch.multiprocessing.reductions, "rebuild_cuda_tensor", rebuild)
    monkeypatch.setattr(ipc_engine, "rebuild_cuda_tensor", rebuild)
    real_empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape, **options: real_empty(*shape, **_on_cpu(options)))
    return nccl


def _on_cpu(options):
    return {**options, "device": "cpu"} if options.get("device") == "cuda" else options
