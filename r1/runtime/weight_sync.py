"""One weight sync: bring every rollout worker to a published version and prove that it got there.

The pool has paused the workers when it begins: nothing samples while weights change. Each phase ends on all workers
before the next one begins, and has its own deadline:

    wake           where engines and learner share devices: room for the weights again
    transfer       map the shared file, compare every tensor's checksum with the manifest
    load           replace the live weights (on a CPU: re-pack them too)
    wake           and for the key-value cache, once nothing of the transfer is left
    reset cache    forget key-value blocks of the old weights
    verify         ask the engine to prove that it computes with what it received
"""

from collections.abc import Sequence

from r1.errors import RunError, SyncError, UserError
from r1.runtime.calls import Failure, Worker, call_each
from r1.types import WeightManifest


def sync_weights(
    workers: Sequence[Worker], manifest: WeightManifest, *, verify: bool, deadline_s: float, wake: bool = False
) -> dict[str, RunError | UserError]:
    """Load `manifest` on all workers and return name -> error of those that failed; the others are at its version, proved.

    wake: wake them up on the way, if they sleep.
    Errors name worker, phase and version. A worker that failed takes no part in the phases that follow.
    """
    about = f"policy version {manifest.policy_version}"
    well, failed = list(workers), dict[str, RunError | UserError]()

    def phase(method: str, name: str, *args: object) -> dict[str, object]:
        results = dict(zip(well, call_each(well, method, *args, phase=name, deadline_s=deadline_s, about=about), strict=True))
        failed.update({worker.name: result.error for worker, result in results.items() if isinstance(result, Failure)})
        well[:] = [worker for worker in well if worker.name not in failed]
        return {worker.name: result for worker, result in results.items()}

    if wake:
        phase("wake_up", "wake", "weights")
    phase("receive_weights", "transfer", manifest, verify)
    versions = phase("load_weights", "load")
    if wake:
        phase("wake_up", "wake", "kv_cache")
    phase("reset_prefix_cache", "reset cache")
    if not verify:
        return failed
    for worker in list(well):
        if versions[worker.name] != manifest.policy_version:
            holds = f"holds policy version {versions[worker.name]} instead of {manifest.policy_version}"
            failed[worker.name] = SyncError(f"{worker.name}, phase load: {holds}")
            well.remove(worker)
    phase("verify_weights", "verify")
    return failed
