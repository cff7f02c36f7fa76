"""The ways in which weights get to engines. Each brings them to some workers, and notes in the round who failed.

A transfer ends with `receive_weights` (or `receive_copy`) on every worker that is well: it says that all tensors have come,
in order, each with the checksum that the learner computed (or, of a file, that the engine will compare what it loads).
"""

from collections.abc import Sequence
from typing import Any, Protocol

from r1.errors import SyncError, WorkerLost
from r1.runtime.calls import Worker
from r1.runtime.sync_round import SyncRound
from r1.weight_buckets import num_buckets
from r1.weight_transport import Transport, rank_offsets


class WeightTransport(Protocol):
    """One way to bring weights to engines."""

    def transfer(self, sync: SyncRound, workers: Sequence[Worker]) -> None:
        """Bring the round's version to the workers; returns when each of them has all of it, or has failed."""
        ...

    def loaded(self, sync: SyncRound) -> None:
        """All engines have loaded what they received: give back what was only needed on the way."""
        ...


class SharedMemory:
    """The engines map the file that the learner wrote: r1.shm_weights."""

    def transfer(self, sync: SyncRound, workers: Sequence[Worker]) -> None:
        sync.engines("receive_weights", "transfer", sync.file(), sync.verify, only=workers)

    def loaded(self, sync: SyncRound) -> None:
        pass


class ObjectStore:
    """The same file through Ray's object store, bucket by bucket, each put there once for all workers.

    Every worker makes a copy on its own node and maps that. One bucket is on its way at a time, so no node's store holds more.
    """

    def transfer(self, sync: SyncRound, workers: Sequence[Worker]) -> None:
        manifest = sync.file()
        for index in range(num_buckets(manifest)):
            if sync.well(workers):
                [bucket] = sync.learner("put_bucket", "put bucket", manifest, index, first_only=True)
                sync.engines("write_bucket", "transfer", manifest, index, bucket, only=workers)
        sync.engines("receive_copy", "transfer", manifest, sync.verify, only=workers)

    def loaded(self, sync: SyncRound) -> None:
        pass


class Nccl:
    """The learner's first rank broadcasts to all engines with GPUs of their own, while its other ranks help to gather.

    The group of learner and engines is formed anew whenever its members have changed. Everybody in it waits for everybody
    else: an engine that dies in the middle holds up the others and the learner until the deadline, and all are replaced then.
    """

    def __init__(self) -> None:
        self._members: tuple[object, ...] = ()

    def transfer(self, sync: SyncRound, workers: Sequence[Worker]) -> None:
        # One that died since the last sync would hold up all others, and the learner, in the broadcast.
        sync.engines("ready", "connect", only=workers)
        workers = sync.well(workers)
        members = tuple((worker.name, worker.at) for worker in [*sync.ranks, *workers])
        if members != self._members:
            self._members = ()
            self._connect(sync, workers)
        if sync.well(workers) != workers:
            return
        self._members = ()  # until this has gone well
        sending = sync.begin("send_weights", "transfer", sync.manifest)
        sync.engines("receive_weights", "transfer", sync.manifest, sync.verify, only=workers)
        sync.end(sending)
        if sync.well(workers) == workers:
            self._members = members

    def loaded(self, sync: SyncRound) -> None:
        pass

    def _connect(self, sync: SyncRound, workers: Sequence[Worker]) -> None:
        [meeting_point] = sync.learner("meeting_point", "connect", first_only=True)
        offsets, world_size = rank_offsets([len(worker.at.devices) for worker in workers])
        joining = sync.begin("join_transfer", "connect", meeting_point, world_size)
        each = [(meeting_point, world_size, offset) for offset in offsets]
        sync.engines("join_transfer", "connect", only=workers, each=each)
        sync.end(joining)
        missing = [worker.name for worker in workers if worker.name in sync.failed]
        for worker in sync.well(workers) if missing else ():
            sync.fail(worker, WorkerLost(f"{worker.name}, phase connect: its group needs {', '.join(missing)} too"))


class Ipc:
    """Engines on the learner's GPUs read each bucket from its memory; the next one takes its place when all have."""

    def transfer(self, sync: SyncRound, workers: Sequence[Worker]) -> None:
        index = 0
        while buckets := self._next_bucket(sync, index):
            sync.engines("receive_bucket", "transfer", sync.manifest, sync.verify, index, buckets, only=workers)
            index += 1
        sync.engines("receive_weights", "transfer", sync.manifest, sync.verify, only=workers)

    def loaded(self, sync: SyncRound) -> None:
        sync.learner("end_transfer", "load")

    def _next_bucket(self, sync: SyncRound, index: int) -> dict[str, Any] | None:
        """The same tensors lie in the memory of every rank: an engine picks the handle of the GPU that it shares."""
        parts = sync.learner("next_bucket", "transfer", sync.manifest, index)
        if any((part is None) != (parts[0] is None) or (part and part["names"] != parts[0]["names"]) for part in parts):
            version = sync.manifest.policy_version
            raise SyncError(f"weight sync, phase transfer, version {version}: the learner's ranks gather in different orders")
        if parts[0] is None:
            return None
        return {**parts[0], "ipc_handles": {gpu: handle for part in parts for gpu, handle in part["ipc_handles"].items()}}


def new_transports() -> dict[Transport, WeightTransport]:
    """One of each; what they remember between syncs is theirs."""
    return {"shm": SharedMemory(), "object_store": ObjectStore(), "nccl": Nccl(), "ipc": Ipc()}
