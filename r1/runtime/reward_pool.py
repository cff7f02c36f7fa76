"""The reward functions behind the `Scorer` protocol: `r1.scoring` in an actor, on the node with most CPUs to spare."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from r1.config import RunConfig, ScoringConfig
from r1.errors import RunError, WorkerLost
from r1.faults import FaultLog
from r1.protocols import Scorer
from r1.runtime.calls import Background, Failure, Worker, wait_for
from r1.runtime.cluster import Resources, kill
from r1.runtime.places import node_for_rewards
from r1.runtime.whereabouts import Whereabouts, whereabouts
from r1.scoring import RewardPool
from r1.scoring_rules import Rewarding, check_scores
from r1.types import RolloutGroup, Score

MAX_RESTARTS = 20
"""Of the whole reward pool, in a run. A child of it may die as often as it likes."""
MAX_CHILDREN = 16
"""Processes that run reward functions; half of the node's cores where it has fewer than twice as many, and at least 2."""


class RewardWorker:
    """Owns the child processes. A plain class; `ray.remote` wraps it where it is spawned."""

    def __init__(
        self,
        rewards: Mapping[str, float],
        config: ScoringConfig,
        *,
        correctness: str,
        by_task: Mapping[str, Rewarding],
        max_completion_tokens: int,
    ) -> None:
        # Of the node that it is on: the engines' and the learner's work is on other devices, or waits for the scores.
        num_children = min(MAX_CHILDREN, max(2, (os.cpu_count() or 2) // 2))
        self._pool = RewardPool(
            rewards,
            config,
            correctness=correctness,
            by_task=by_task,
            max_completion_tokens=max_completion_tokens,
            num_children=num_children,
        )

    def ready(self) -> Whereabouts:
        """Answers once the children are up."""
        return whereabouts()

    def judge(self, group: RolloutGroup) -> tuple[tuple[Score, ...], int]:
        """Returns the scores, and how many children have been replaced so far."""
        [scores] = self._pool.judge([group])
        return scores, self._pool.num_restarts


class RayScorer(Scorer):
    """Starts the reward worker, hands it groups as they come, and starts another when it dies.

    Its children are its own affair: a child that dies or is late is replaced there, within a group.
    """

    def __init__(
        self,
        config: RunConfig,
        rewards: Mapping[str, float],
        correctness: str,
        resources: Resources,
        faults: FaultLog,
        beside: Background | None = None,
        by_task: Mapping[str, Rewarding] | None = None,
        stops_on_errors: bool = True,
    ) -> None:
        """beside: what goes on while scores are awaited, e.g. sampling. by_task: as `RewardPool` has it.

        stops_on_errors: whether too many failed scores end the run; an evaluation only reports them.
        """
        self._stops_on_errors = stops_on_errors
        self._config = config
        self._faults = faults
        actor = ray.remote(RewardWorker)
        self._spawn: Callable[[], Any] = lambda: actor.options(**_options(resources)).remote(
            dict(rewards),
            config.scoring,
            correctness=correctness,
            by_task=dict(by_task or {}),
            max_completion_tokens=config.rollout.max_completion_tokens,
        )
        self._start()
        self._waiting: dict[int, tuple[RolloutGroup, Any]] = {}
        """id(group) -> the group, and the reference of its scores."""
        self._beside = beside
        self._num_restarts = 0
        self._num_replaced = 0
        """Children, by the present worker."""

    def _start(self) -> None:
        self.worker = Worker(name="reward pool", handle=self._spawn())
        self._starting = self.worker.handle.ready.remote()
        """Answers before any group is judged; None once it has been heard."""

    def wait_until_ready(self) -> None:
        """Block until the child processes are up."""
        if self._starting is not None:
            at = wait_for(self._starting, self.worker, phase="start", deadline_s=self._config.deadline_s)
            if isinstance(at, Failure):
                raise at.error from at.cause
            self.worker, self._starting = replace(self.worker, at=at), None

    def submit(self, group: RolloutGroup) -> None:
        if id(group) not in self._waiting:
            self._waiting[id(group)] = (group, self.worker.handle.judge.remote(group))

    def collect(self, groups: Sequence[RolloutGroup]) -> list[tuple[Score, ...]]:
        start = time.monotonic()
        scores: list[tuple[Score, ...]] = []
        while len(scores) < len(groups):
            _, reference = self._waiting[id(groups[len(scores)])]
            left_s = max(0.0, self._config.deadline_s - (time.monotonic() - start))
            result = wait_for(reference, self.worker, phase="score", deadline_s=left_s, beside=self._beside)
            if not isinstance(result, Failure):
                self.wait_until_ready()
                of_group, num_replaced = result
                del self._waiting[id(groups[len(scores)])]
                scores.append(of_group)
                for _ in range(num_replaced - self._num_replaced):
                    self._faults.add("reward_child", "a reward child died or was late; it is replaced")
                self._num_replaced = max(self._num_replaced, num_replaced)  # groups are asked for in another order
                start = time.monotonic()
            elif isinstance(result.error, WorkerLost):
                self._restart(result.error)
                start = time.monotonic()
            else:
                raise result.error from result.cause
        if self._stops_on_errors:
            check_scores(groups, scores)
        return scores

    def drop(self, group: RolloutGroup) -> None:
        """Nobody is going to ask for the scores of this group."""
        self._waiting.pop(id(group), None)

    def forget(self) -> None:
        self._waiting.clear()

    def close(self) -> None:
        """End the worker and its children, for an evaluation that goes on with another task; a run's end with Ray's."""
        self.forget()
        kill(self.worker)

    def _restart(self, error: WorkerLost) -> None:
        """Another worker in place of one that is lost; it gets the groups that have no scores yet."""
        self._num_restarts += 1
        if self._num_restarts > MAX_RESTARTS:
            raise RunError(f"the reward pool was restarted {MAX_RESTARTS} times; the last time: {error}") from error
        lost = [group for group, _ in self._waiting.values()]
        self._faults.add("reward_worker", f"{error}; it is replaced, {len(lost)} groups are scored again")
        kill(self.worker)
        self._num_replaced = 0
        self._start()
        self._waiting = {id(group): (group, self.worker.handle.judge.remote(group)) for group in lost}


def _options(resources: Resources) -> dict[str, Any]:
    """Ray's options for the reward worker: its children want CPUs that engines and learner have not reserved."""
    # Not soft: Ray 2.60 put 5 of 10 actors that ask for no CPU elsewhere then. Another worker looks for a node anew.
    where_to = NodeAffinitySchedulingStrategy(node_for_rewards(resources.group), soft=False)
    return {"num_cpus": resources.num_cpus, "scheduling_strategy": where_to}
