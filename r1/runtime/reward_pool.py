"""The reward functions behind the `Scorer` protocol: `r1.scoring` in an actor, on any node's CPUs."""

import os
from collections.abc import Mapping, Sequence

import ray

from r1.config import RunConfig, ScoringConfig
from r1.loop import Scorer
from r1.runtime.calls import Worker, call
from r1.runtime.cluster import Resources
from r1.scoring import RewardPool
from r1.types import RolloutGroup, Score

DEADLINE_S = 600.0
"""For a whole step; each completion has its own deadline inside (scoring.deadline_s)."""


class RewardWorker:
    """Owns the child processes. A plain class; `ray.remote` wraps it where it is spawned."""

    def __init__(
        self, rewards: Mapping[str, float], config: ScoringConfig, *, correctness: str, max_completion_tokens: int
    ) -> None:
        self._pool = RewardPool(rewards, config, correctness=correctness, max_completion_tokens=max_completion_tokens)

    def ready(self) -> int:
        return os.getpid()

    def score(self, groups: Sequence[RolloutGroup]) -> list[tuple[Score, ...]]:
        return self._pool.score(groups)


class RayScorer(Scorer):
    """Starts the reward worker and passes the loop's calls on."""

    def __init__(self, config: RunConfig, rewards: Mapping[str, float], correctness: str, resources: Resources) -> None:
        actor = ray.remote(num_cpus=resources.num_cpus)(RewardWorker)
        handle = actor.remote(
            dict(rewards), config.scoring, correctness=correctness, max_completion_tokens=config.rollout.max_completion_tokens
        )
        self.workers = [Worker(name="reward pool", handle=handle)]

    def wait_until_ready(self) -> None:
        """Block until the child processes are up."""
        call(self.workers, "ready", phase="start", deadline_s=DEADLINE_S)

    def score(self, groups: Sequence[RolloutGroup]) -> list[tuple[Score, ...]]:
        [scores] = call(self.workers, "score", groups, phase="score", deadline_s=DEADLINE_S)
        return list(scores)
