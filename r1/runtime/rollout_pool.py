"""The rollout workers behind the `Sampler` protocol. One worker for now."""

import os

import ray

from r1.config import RunConfig
from r1.loop import Sampler
from r1.rollout.engine import EngineOptions, load_engine_class
from r1.runtime.calls import Worker, call
from r1.runtime.cluster import Resources, environment
from r1.runtime.weight_sync import sync_weights
from r1.types import PromptBatch, RolloutGroup, WeightManifest


class RolloutWorker:
    """An engine in a process of its own. A plain class; `ray.remote` wraps it where it is spawned."""

    def __init__(self, engine: str, options: EngineOptions) -> None:
        self._engine = load_engine_class(engine)(options)

    def ready(self) -> int:
        """Answers once the engine is up: its process id."""
        return os.getpid()

    def generate(self, batch: PromptBatch) -> list[RolloutGroup]:
        return self._engine.generate(batch)

    def receive_weights(self, manifest: WeightManifest, verify: bool) -> None:
        self._engine.receive_weights(manifest, verify=verify)

    def load_weights(self) -> int:
        """Returns the version that the engine holds now."""
        self._engine.load_weights()
        return self._engine.policy_version

    def reset_prefix_cache(self) -> None:
        self._engine.reset_prefix_cache()

    def verify_weights(self) -> None:
        self._engine.verify_weights()


class RolloutPool(Sampler):
    """Starts the rollout workers, hands them prompts, and keeps them at the learner's version."""

    def __init__(self, config: RunConfig, resources: Resources) -> None:
        rollout = config.rollout
        options = EngineOptions(
            model_path=config.model.path,
            dtype=rollout.dtype,
            max_prompt_tokens=rollout.max_prompt_tokens,
            max_completion_tokens=rollout.max_completion_tokens,
            temperature=rollout.temperature,
            max_num_seqs=rollout.max_num_seqs,
            kv_cache_bytes=int(rollout.kv_cache_gib * 2**30),
            gpu_share=resources.num_gpus or 1.0,
        )
        actor = ray.remote(
            num_cpus=resources.num_cpus, num_gpus=resources.num_gpus, runtime_env=environment(rollout.num_threads)
        )(RolloutWorker)
        self._config = config
        self.workers = [Worker(name="rollout worker 0", handle=actor.remote(rollout.engine, options))]

    def wait_until_ready(self) -> list[int]:
        """Block until every engine is up; returns their process ids."""
        return call(self.workers, "ready", phase="start", deadline_s=self._config.deadline_s)

    def sample(self, batch: PromptBatch) -> list[RolloutGroup]:
        about = f"step {batch.step}, policy version {batch.policy_version}"
        [groups] = call(self.workers, "generate", batch, phase="sample", deadline_s=self._config.deadline_s, about=about)
        return list(groups)

    def load_weights(self, manifest: WeightManifest) -> None:
        verify = self._config.sync.verify == "on"
        sync_weights(self.workers, manifest, verify=verify, deadline_s=self._config.deadline_s)
