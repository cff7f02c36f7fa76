"""Ray itself: connect, say what an actor asks for, and leave nothing behind."""

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from r1.runtime.address import join
from r1.runtime.calls import Worker
from r1.runtime.loopback import on_loopback


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What one kind of actor asks Ray for."""

    num_cpus: float
    num_gpus: float = 0.0
    count: int = 1
    """How many of these actors there are."""
    colocated: bool = False
    """Whether they share their devices with the other kind, and take turns."""
    bundles: tuple[int, ...] = ()
    """[count] the bundle of each; empty: wherever Ray likes."""
    devices: tuple[str, ...] = ()
    """[count] CUDA_VISIBLE_DEVICES of each, where they are shared; empty: Ray sets it."""
    group: Any = None
    """The placement group that the bundles are of."""

    def options(self, index: int, num_threads: int) -> dict[str, Any]:
        """Ray's options for one of the actors."""
        variables = environment(num_threads)
        if self.devices:
            # Ray leaves the variable alone in an actor that asks for no GPU.
            variables["env_vars"]["CUDA_VISIBLE_DEVICES"] = self.devices[index]
        options = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus, "runtime_env": variables}
        if self.group is not None:
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                placement_group=self.group, placement_group_bundle_index=self.bundles[index]
            )
        return options


@contextmanager
def connected(num_cpus: int = 2) -> Iterator[None]:
    """Join the cluster that RAY_ADDRESS names (set for submitted jobs), or start one in this machine; always shut down.

    num_cpus: what a cluster of one's own must offer at least; the machine may have fewer.
    """
    address = os.environ.get("RAY_ADDRESS")
    with contextlib.ExitStack() as cleanup:
        if address:
            join(address)
        else:
            cleanup.enter_context(on_loopback())
            # More CPUs than a small machine has do no harm: rollout and learner take turns.
            ray.init(
                address="local",
                num_cpus=max(num_cpus, os.cpu_count() or 1),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        cleanup.callback(ray.shutdown)
        yield


def environment(num_threads: int) -> dict[str, dict[str, str]]:
    """The environment variables of an actor that computes; they must be there before torch and vllm are imported."""
    variables = {
        "OMP_NUM_THREADS": str(num_threads),  # Ray would set it to the actor's num_cpus, 1 here
        # Threads that wait must sleep, not spin, and be free to move. Measured with the tiny model on two cores, idle and
        # beside one busy process: an update takes 1.2 s -> 3.7 s spinning and 1.8 s -> 1.9 s sleeping; sampling makes
        # 5.2k -> 2.1k tokens/s pinned and spinning, 5.8k -> 4.5k free and sleeping (2 threads).
        "OMP_WAIT_POLICY": "PASSIVE",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "TOKENIZERS_PARALLELISM": "false",
        # torch asks for 2 MB pages for large tensors: a new 200 MB tensor of logits takes 0.6k page faults and 0.02 s
        # instead of 49k and 0.12 s. docs/performance.md
        "THP_MEM_ALLOC_ENABLE": "1",
        # glibc keeps up to 256 MiB of what is freed, or the kernel clears the same pages again: a load of weights makes and
        # frees every layer's, and takes 0.35 s instead of 0.42 s for a 135M model in bfloat16.
        "MALLOC_TRIM_THRESHOLD_": str(2**28),
        "MALLOC_MMAP_THRESHOLD_": str(2**25),
    }
    return {"env_vars": variables}


def kill(worker: Worker) -> None:
    """End an actor's process, whatever state it is in; on another node Ray does it, after 5 s where it is stopped."""
    ray.kill(worker.handle)
    if worker.at.pid is not None and worker.at.node_id == ray.get_runtime_context().get_node_id():
        # Ray asks first. At once, so that the next one need not share memory and devices with it.
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.at.pid, signal.SIGKILL)
