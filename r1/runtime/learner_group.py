"""The learner behind the `PolicyLearner` protocol. One rank for now."""

from pathlib import Path
from typing import Any

import ray

from r1.batching import TrainBatch
from r1.checkpoint import CheckpointState, save_checkpoint
from r1.config import RunConfig
from r1.learner import Learner
from r1.loop import PolicyLearner
from r1.runtime.calls import Worker, call
from r1.runtime.cluster import Resources, environment
from r1.types import WeightManifest


class LearnerGroup(PolicyLearner):
    """Starts the learner and passes the loop's calls on."""

    def __init__(self, config: RunConfig, resources: Resources, run_dir: Path, publish_path: str) -> None:
        actor = ray.remote(
            num_cpus=resources.num_cpus, num_gpus=resources.num_gpus, runtime_env=environment(config.learner.num_threads)
        )(Learner)
        self._config = config
        self._run_dir = run_dir
        self._publish_path = Path(publish_path)
        self._policy_version = 0
        self.workers = [Worker(name="learner", handle=actor.remote(config, publish_path))]

    def wait_until_ready(self) -> None:
        """Block until the model is loaded."""
        self._call("ready", phase="start")

    def restore(self, checkpoint: Path, policy_version: int) -> None:
        """Go on from a checkpoint."""
        self._policy_version = policy_version
        self._call("load", checkpoint, phase="restore")

    def update(self, batch: TrainBatch) -> dict[str, float]:
        metrics: dict[str, float] = self._call(
            "update", batch, phase="update", about=f"step {batch.step}, policy version {batch.policy_version}"
        )
        self._policy_version += 1
        return metrics

    def publish_weights(self) -> WeightManifest:
        manifest: WeightManifest = self._call("publish_weights", phase="publish", about=f"policy version {self._policy_version}")
        return manifest

    def save(self, step: int) -> None:
        state = CheckpointState(step=step, policy_version=self._policy_version)
        save_checkpoint(self._run_dir, state, lambda folder: self._call("save", folder, phase="checkpoint", about=f"step {step}"))

    def close(self) -> None:
        """Remove the shared file; by its path, since the learner that made it may have been killed."""
        self._publish_path.unlink(missing_ok=True)

    def _call(self, method: str, *args: Any, phase: str, about: str = "") -> Any:
        [result] = call(self.workers, method, *args, phase=phase, deadline_s=self._config.learner.deadline_s, about=about)
        return result
