"""The learner behind the `PolicyLearner` protocol: one actor a rank."""

import math
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import torch

from r1.batching import SampleKey, TrainBatch
from r1.checkpoint import begin_checkpoint, finish_checkpoint, has_checkpoint, latest_checkpoint, remove_old_checkpoints
from r1.config import RunConfig
from r1.device_weights import device_ids
from r1.errors import RunError, WorkerLost
from r1.faults import FaultLog
from r1.files import written
from r1.learner import Learner
from r1.metrics import heldout_accuracy
from r1.protocols import PolicyLearner
from r1.runtime.calls import Background, Worker, call
from r1.runtime.cluster import Resources, kill
from r1.runtime.learner_nodes import HasScratch, LearnerNodes
from r1.runtime.learner_weights import SendsWeights
from r1.runtime.places import nodes_of, wait_for_places
from r1.runtime.whereabouts import Whereabouts, whereabouts
from r1.storage import Storage, StorageError
from r1.types import Progress, TokenValues, WeightManifest

MAX_RESTARTS = 10
"""Of the learner, in a run."""


class LearnerWorker(SendsWeights, HasScratch):
    """One learner rank in a process of its own. A plain class; `ray.remote` wraps it where it is spawned."""

    def start(
        self, config: RunConfig, publish_path: str, rank: int, num_ranks: int, meeting_point: str | None
    ) -> Whereabouts:
        """Load the model, with the other ranks."""
        self._learner = Learner(config, publish_path, rank=rank, num_ranks=num_ranks, meeting_point=meeting_point)
        return whereabouts(device_ids())

    def update(self, batch: TrainBatch) -> dict[str, float]:
        return self._learner.update(batch)

    def token_values(self, group_ids: Collection[int]) -> dict[SampleKey, TokenValues]:
        return self._learner.tokens.values(group_ids)

    def publish_weights(self) -> WeightManifest | None:
        return self._learner.publish_weights()

    def give_memory_back(self) -> None:
        """What torch keeps for the next update of a GPU's memory is what the engines beside it need now."""
        torch.cuda.empty_cache()

    def start_save(self, folder: Path) -> None:
        self._learner.start_save(self.scratch.begin(folder) if self.scratch else folder)

    def finish_save(self, wait: bool) -> bool:
        return self._learner.finish_save(wait=wait)

    def load(self, folder: Path) -> None:
        self._learner.load(self.scratch.folder / folder if self.scratch else folder)


class LearnerGroup(PolicyLearner):
    """Starts the learner ranks and passes the loop's calls on to all of them."""

    def __init__(
        self,
        config: RunConfig,
        resources: Resources,
        run_dir: Path,
        publish_path: str,
        faults: FaultLog,
        beside: Background | None = None,
        storage: Storage | None = None,
        send_checkpoint: Callable[[Path], None] = lambda checkpoint: None,
    ) -> None:
        """beside: what goes on while the ranks update, e.g. sampling. storage: of a run at a URL, whose scratch run_dir is.

        send_checkpoint: see `LearnerNodes`.
        """
        self._send_checkpoint = send_checkpoint
        self._beside = beside
        self._faults = faults
        self._resources = resources
        self._actor = ray.remote(LearnerWorker)
        self._config = config
        self._run_dir, self._storage = run_dir, storage
        self._nodes: LearnerNodes | None = None
        self._publish_path = Path(publish_path)
        self._policy_version = 0
        self._is_busy = False
        self._saving: tuple[Path, Progress] | None = None
        self._num_restarts = 0
        self._nodes_of_devices = nodes_of(resources) if resources.devices else []
        """Whose GPUs `resources.devices` are."""
        self._spawn()

    def _spawn(self) -> None:
        num_ranks = self._config.learner.num_ranks
        names = ["learner"] if num_ranks == 1 else [f"learner rank {rank}" for rank in range(num_ranks)]
        num_threads = self._config.num_threads
        self.workers = [
            Worker(name=name, handle=self._actor.options(**self._resources.options(rank, num_threads)).remote())
            for rank, name in enumerate(names)
        ]

    def wait_until_ready(self) -> None:
        """Block until the model is loaded on all ranks."""
        meeting_point = None
        if len(self.workers) > 1:
            [meeting_point] = call(self.workers[:1], "meeting_point", phase="start", deadline_s=self._config.deadline_s)
        arguments = [
            (self._config, str(self._publish_path), rank, len(self.workers), meeting_point) for rank in range(len(self.workers))
        ]
        places = call(self.workers, "start", each=arguments, phase="start", deadline_s=self._config.deadline_s)
        self.workers = [replace(worker, at=at) for worker, at in zip(self.workers, places, strict=True)]
        if self._storage is not None:
            deadline_s = self._config.deadline_s
            self._nodes = LearnerNodes(self.workers, self._storage, self._run_dir, deadline_s, self._send_checkpoint)

    def restore(self, checkpoint: Path, progress: Progress) -> None:
        """Go on from a checkpoint."""
        self._policy_version = progress.policy_version
        if self._nodes is not None:
            self._nodes.fetch(checkpoint)
        self._call("load", self._named(checkpoint), phase="restore")
        if self._nodes is not None:
            self._nodes.drop(checkpoint)

    def recover(self, lost: WorkerLost) -> Progress:
        """Start all ranks anew from the last checkpoint, or from the beginning where there is none."""
        self._num_restarts += 1
        if self._num_restarts > MAX_RESTARTS:
            raise RunError(f"the learner was started again {MAX_RESTARTS} times; the last time: {lost}") from lost
        for worker in self.workers:
            kill(worker)
        self._saving = None
        wait_for_places(self._resources, "learner ranks", self._config.deadline_s)
        if self._nodes_of_devices and nodes_of(self._resources) != self._nodes_of_devices:
            raise RunError(
                f"{lost}: its node is gone, and the GPUs that learner and engines share are others now; go on from the last "
                "checkpoint with --resume RUN"
            )
        self._spawn()
        self.wait_until_ready()
        progress, self._policy_version = Progress(), 0
        if has_checkpoint(self._run_dir):
            checkpoint, progress = latest_checkpoint(self._run_dir)
            self.restore(checkpoint, progress)
        self._faults.add("learner", f"{lost}; the learner is started again, the run goes on after step {progress.step}")
        return progress

    def update(self, batch: TrainBatch) -> dict[str, float]:
        self._is_busy = True
        try:
            metrics: dict[str, float] = self._call(
                "update",
                ray.put(batch),
                phase="update",
                about=f"step {batch.step}, policy version {batch.policy_version}",
                beside=self._beside,
            )
        finally:
            self._is_busy = False
        self._policy_version += 1
        self._finish_save(wait=False)
        return metrics

    def token_values(self, group_ids: Collection[int]) -> dict[SampleKey, TokenValues]:
        about = f"policy version {self._policy_version}"
        deadline_s = self._config.deadline_s
        of_ranks = call(self.workers, "token_values", group_ids, phase="write", deadline_s=deadline_s, about=about)
        return {key: values for of_rank in of_ranks for key, values in of_rank.items()}

    @property
    def sendable_version(self) -> int | None:
        """The version that the ranks could send to an engine now; None while they update."""
        return None if self._is_busy else self._policy_version

    def publish_weights(self) -> WeightManifest:
        self._finish_save(wait=False)
        manifest: WeightManifest = self._call("publish_weights", phase="publish", about=f"policy version {self._policy_version}")
        if self._resources.colocated:
            self._call("give_memory_back", phase="publish", about=f"policy version {self._policy_version}")
        return manifest

    def save(self, progress: Progress) -> None:
        """Have the ranks copy their state and begin to write it; the next steps need not wait for the disk."""
        problem = self._finish_save(wait=True)
        if problem is not None and self._saving is not None:
            given_up = self._saving[1].step
            self._faults.add("storage", f"the checkpoint of step {given_up} is given up: {problem}; the run goes on to the next")
        with written("the checkpoint"):
            partial = begin_checkpoint(self._run_dir, progress.step)
        self._saving = (partial, progress)
        self._call("start_save", self._named(partial), phase="checkpoint", about=f"step {progress.step}")

    def finish_save(self, limit_s: float = math.inf) -> None:
        """Wait until the checkpoint that is being written, if any, is complete; at most `limit_s`."""
        problem = self._finish_save(wait=True, limit_s=limit_s)
        if problem is not None and self._saving is not None:
            raise StorageError(f"the checkpoint of step {self._saving[1].step} is not complete: {problem}")

    def _finish_save(self, *, wait: bool, limit_s: float = math.inf) -> str | None:
        """Make a checkpoint of what the ranks have written; returns what keeps other nodes' files from the storage."""
        if self._saving is None:
            return None
        partial, progress = self._saving
        about = f"writing the checkpoint of step {progress.step}"
        deadline_s = min(self._config.deadline_s, limit_s)
        if not all(call(self.workers, "finish_save", wait, phase="checkpoint", deadline_s=deadline_s, about=about)):
            return None
        if self._nodes is not None:
            problem = self._nodes.problem_of_sending(partial, deadline_s if wait else 0.0)
            if problem is not None:
                return problem
        self._saving = None
        with written("the checkpoint"):
            finish_checkpoint(partial, progress, self._config)
            remove_old_checkpoints(self._run_dir, heldout_accuracy(self._run_dir))
        return None

    def _named(self, folder: Path) -> Path:
        """As the ranks are told of it: by its place in the run where each node has a folder of its own."""
        return folder.relative_to(self._run_dir) if self._nodes is not None else folder

    def close(self) -> None:
        """Remove the shared file; by its path, since the learner that made it may have been killed."""
        self._publish_path.unlink(missing_ok=True)

    def _call(self, method: str, *args: Any, phase: str, about: str = "", beside: Background | None = None) -> Any:
        # All ranks take part; the first one's answer stands for all.
        deadline_s = self._config.deadline_s
        return call(self.workers, method, *args, phase=phase, deadline_s=deadline_s, about=about, beside=beside)[0]
