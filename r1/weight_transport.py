"""Which way weights travel from the learner to an engine: decided by where the two are, never by an option."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

Transport = Literal["shm", "object_store", "nccl", "ipc"]

BUCKET_BYTES = 256 * 2**20
"""Weights travel in pieces of about this size, so that nobody holds the model twice on the way. A larger tensor is a bucket
of its own where buckets are made of whole tensors (nccl, ipc)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a process is.

    >>> Place(node_id="5bd8c9f2a1", devices=("GPU-5f2b",)).node_id
    '5bd8c9f2a1'
    """

    node_id: str = ""
    """Of the Ray node: processes with the same one share /dev/shm."""
    devices: tuple[str, ...] = ()
    """The unique ids of the GPUs that take or give weights, one per tensor-parallel worker; () on a CPU."""


def choose_transport(engine: Place, learner: Sequence[Place]) -> Transport:
    """Return how an engine gets its weights from a learner, given rank by rank; its first rank writes and sends.

    ipc           the engine shares its GPUs with learner ranks: it reads their memory
    nccl          it has GPUs of its own: the first rank broadcasts
    shm           one of the two is on a CPU (or the engine cannot take weights on its GPU), same node: a shared file
    object_store  the same on another node: Ray carries a copy of that file there

    >>> near, far = Place(node_id="a"), Place(node_id="b")
    >>> choose_transport(near, [near]), choose_transport(far, [near])
    ('shm', 'object_store')
    """
    first, gpus = learner[0], {gpu for rank in learner for gpu in rank.devices}
    if engine.devices and first.devices:
        if gpus.issuperset(engine.devices):
            return "ipc"
        # NCCL refuses two members on one GPU.
        if not set(first.devices) & set(engine.devices):
            return "nccl"
    return "shm" if engine.node_id == first.node_id else "object_store"


def rank_offsets(num_devices: Sequence[int]) -> tuple[list[int], int]:
    """(first rank of each engine, ranks in all) of a broadcast group in which rank 0 is the learner.

    num_devices: tensor-parallel workers of each engine.

    >>> rank_offsets([2, 1, 4])
    ([1, 3, 4], 8)
    """
    *offsets, world_size = accumulate(num_devices, initial=1)
    return offsets, world_size
