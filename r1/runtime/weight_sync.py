"""One weight sync: bring every rollout worker to a published version and prove that it got there.

The pool has paused the workers when it begins: nothing samples while weights change. Each phase ends on all workers
before the next one begins, and has its own deadline:

    wake           where engines and learner share devices: room for the weights again
    transfer       bring the bytes to each worker the way its place asks for (r1.runtime.transports), compare every tensor's
                   checksum with the manifest, unless the engine's proof is going to; before it, where there is a need:
                   publish, put bucket, connect
    load           replace the live weights (on a CPU: re-pack them too)
    wake           and for the key-value cache, once nothing of the transfer is left
    reset cache    forget key-value blocks of the old weights
    verify         ask the engine to prove that it computes with what it received
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from r1.errors import RunError, SyncError, UserError
from r1.runtime.calls import Worker
from r1.runtime.sync_round import SendingLearner, SyncRound
from r1.runtime.transports import WeightTransport, new_transports
from r1.types import WeightManifest
from r1.weight_transport import Transport, choose_transport


def sync_weights(
    workers: Sequence[Worker],
    manifest: WeightManifest,
    *,
    verify: bool,
    deadline_s: float,
    learner: SendingLearner | None = None,
    transports: Mapping[Transport, WeightTransport] | None = None,
    wake: bool = False,
) -> dict[str, RunError | UserError]:
    """Load `manifest` on all workers and return name -> error of those that failed; the others are at its version, proved.

    wake: wake them up on the way, if they sleep.
    Errors name worker, phase and version. A worker that failed takes no part in the phases that follow.
    Raises the learner's own error when that cannot send: nothing is known of the workers then.
    learner: without one, all workers share its node. transports: with what they remember of earlier syncs.
    """
    sync = SyncRound(workers, manifest, verify=verify, deadline_s=deadline_s, learner=learner)
    transports = transports or new_transports()
    ways = {worker.name: transport_of(worker, learner) for worker in workers}
    used = [name for name in transports if name in ways.values()]
    if wake:
        sync.engines("wake_up", "wake", "weights")
    for name in used:
        transports[name].transfer(sync, [worker for worker in workers if ways[worker.name] == name])
    versions = sync.engines("load_weights", "load")
    for name in used:
        transports[name].loaded(sync)
    if wake:
        sync.engines("wake_up", "wake", "kv_cache")
    sync.engines("reset_prefix_cache", "reset cache")
    if not verify:
        return sync.failed
    for worker in sync.well():
        if versions[worker.name] != manifest.policy_version:
            holds = f"holds policy version {versions[worker.name]} instead of {manifest.policy_version}"
            sync.fail(worker, SyncError(f"{worker.name}, phase load: {holds}"))
    sync.engines("verify_weights", "verify")
    return sync.failed


def transport_of(worker: Worker, learner: SendingLearner | None) -> Transport:
    return choose_transport(worker.place, [rank.place for rank in learner.workers]) if learner else "shm"


class WeightSync:
    """The weight syncs of a run: what they remember of each other, and what is told about them."""

    def __init__(self, *, verify: bool, deadline_s: float, say: Callable[[str], None] = lambda text: None) -> None:
        """say: told how the weights travel, at the first sync and whenever that changes."""
        self.learner: SendingLearner | None = None
        """Set once it is started, which is after the rollout workers."""
        self.metrics: dict[str, float] = {}
        """Of the last sync, for the step's record: `sync/policy_version` is what the engines hold, each has proved it."""
        self._options: dict[str, Any] = {"verify": verify, "deadline_s": deadline_s}
        self._transports = new_transports()
        self._say = say
        self._told: Counter[Transport] = Counter()

    def can_reach(self, worker: Worker, manifest: WeightManifest) -> bool:
        """Whether a worker can be brought to a published version now, or only when the learner has published the next one.

        Only a file on the worker's own node needs nothing of the learner, which is busy during an update and holds newer
        weights after it.
        """
        if self.learner is None or (manifest.path and transport_of(worker, self.learner) == "shm"):
            return True
        return self.learner.sendable_version == manifest.policy_version

    def __call__(
        self, workers: Sequence[Worker], manifest: WeightManifest, *, is_join: bool = False, wake: bool = False
    ) -> dict[str, RunError | UserError]:
        """`sync_weights` of these workers. is_join: one that came late, after the sync of all."""
        failed = sync_weights(
            workers, manifest, learner=self.learner, transports=self._transports, wake=wake, **self._options
        )
        if not is_join:
            well = [worker for worker in workers if worker.name not in failed]
            self._record(Counter(transport_of(worker, self.learner) for worker in well), manifest)
        return failed

    def _record(self, ways: Counter[Transport], manifest: WeightManifest) -> None:
        self.metrics = {"sync/mib": manifest.num_bytes / 2**20}
        if ways:
            self.metrics["sync/policy_version"] = float(manifest.policy_version)
        self.metrics |= {f"sync/workers_{name}": float(count) for name, count in ways.items()}
        if ways and ways != self._told:
            self._told = ways
            by = ", ".join(f"{count} rollout worker(s) by {name.replace('_', ' ')}" for name, count in sorted(ways.items()))
            self._say(f"weight sync: version {manifest.policy_version}, {manifest.num_bytes / 2**20:.1f} MiB, {by}")
