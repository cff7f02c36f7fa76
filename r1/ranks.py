"""The learner ranks of one run as a process group: who I am, sums over all, and a model that they share (FSDP2).

A single rank needs no group: every operation is then the identity, and torch.distributed is not touched.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """This process's place among the learner ranks.

    >>> Ranks().is_first
    True
    """

    rank: int = 0
    num_ranks: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this rank writes what only one may write."""
        return self.rank == 0

    def sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the sum of each value over the ranks; all must pass the same names."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def max(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the largest of each value over the ranks."""
        return self._reduce(values, dist.ReduceOp.MAX)

    def _reduce(self, values: Mapping[str, float], operation: Any) -> dict[str, float]:
        if self.num_ranks == 1 or not values:
            return dict(values)
        names = sorted(values)  # the order in which ranks met the names may differ
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        numbers = torch.tensor([values[name] for name in names], dtype=torch.float64, device=device)
        dist.all_reduce(numbers, op=operation)
        return dict(zip(names, numbers.tolist(), strict=True))

    def new_cpu_group(self) -> dist.ProcessGroup | None:
        """A second group of the same ranks for tensors on the CPU, whose messages never meet the first one's."""
        return dist.new_group(backend="gloo") if self.num_ranks > 1 else None

    def shard(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Bring a model from the CPU to the ranks' devices; with several ranks each gets its share of every block.

        Block by block, so that no device ever holds the whole model; each block is gathered when it computes.
        """
        if self.num_ranks == 1:
            return model.to(device)
        for block in _blocks(model):
            fully_shard(block)
        fully_shard(model)
        return model


def join_ranks(rank: int, num_ranks: int, meeting_point: str | None, deadline_s: float) -> Ranks:
    """Meet the other ranks at `meeting_point` ("tcp://host:port"): NCCL where there are GPUs, gloo elsewhere.

    deadline_s: how long one collective may wait for the others.
    """
    if num_ranks > 1:
        assert meeting_point is not None
        timeout = timedelta(seconds=deadline_s)
        dist.init_process_group(
            "nccl" if torch.cuda.is_available() else "gloo",
            store=_meet(rank, num_ranks, meeting_point, timeout),
            rank=rank,
            world_size=num_ranks,
            timeout=timeout,
        )
    return Ranks(rank=rank, num_ranks=num_ranks)


def _meet(rank: int, num_ranks: int, meeting_point: str, timeout: timedelta) -> TCPStore:
    """The store that the ranks find one another through. Left to torch, the first rank's would listen on every interface,
    whatever the address says (github.com/pytorch/pytorch/issues/173909); it asks nobody who they are."""
    meeting = urlsplit(meeting_point)
    host, port = meeting.hostname, meeting.port
    assert host, meeting_point
    assert port, meeting_point
    if rank > 0:
        return TCPStore(host, port, num_ranks, is_master=False, timeout=timeout)
    listener = socket.create_server((host, port)).detach()  # the store closes it
    return TCPStore(host, port, num_ranks, is_master=True, timeout=timeout, master_listen_fd=listener)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a sharded tensor in full, which all ranks must ask for together; any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The transformer's layers: what transformers calls unsplittable, in whichever wrapper the model is."""
    names = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    blocks = [module for module in model.modules() if type(module).__name__ in names]
    # A block within a block (an embedding that may not be split, say) is gathered with the outer one.
    inner = {id(module) for block in blocks for module in block.modules() if module is not block}
    return [block for block in blocks if id(block) not in inner]
