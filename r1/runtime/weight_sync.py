"""One weight sync: bring every rollout worker to a published version and prove that it got there.

The workers are idle when it begins (strict mode: nothing samples while weights change), so there is nothing
to pause. Each phase ends on all workers before the next one begins, and has its own deadline:

    transfer       map the shared file, compare every tensor's checksum with the manifest
    load           replace the live weights (on a CPU: re-pack them too)
    reset cache    forget key-value blocks of the old weights
    verify         ask the engine to prove that it computes with what it received
"""

from collections.abc import Sequence

from r1.errors import SyncError
from r1.runtime.calls import Worker, call
from r1.types import WeightManifest


def sync_weights(workers: Sequence[Worker], manifest: WeightManifest, *, verify: bool, deadline_s: float) -> None:
    """Load `manifest` on all workers; raises `SyncError` or `RunError` naming worker, phase and version."""
    about = f"policy version {manifest.policy_version}"
    call(workers, "receive_weights", manifest, verify, phase="transfer", deadline_s=deadline_s, about=about)
    versions = call(workers, "load_weights", phase="load", deadline_s=deadline_s, about=about)
    call(workers, "reset_prefix_cache", phase="reset cache", deadline_s=deadline_s, about=about)
    if not verify:
        return
    for worker, version in zip(workers, versions, strict=True):
        if version != manifest.policy_version:
            raise SyncError(f"{worker.name}, phase load: holds policy version {version} instead of {manifest.policy_version}")
    call(workers, "verify_weights", phase="verify", deadline_s=deadline_s, about=about)
