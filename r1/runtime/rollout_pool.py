"""The rollout workers behind the `Sampler` protocol: groups go to whoever is free, and a worker that fails is replaced.

One thread does it all: while the driver waits for anything (a group, an update, scores) it hands out what waits, takes in what
is finished and looks for workers that are dead or late. So nothing here is shared between threads, and one worker with the
same seeds gets the same groups in the same order, run after run.
"""

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray

from r1.config import RunConfig
from r1.errors import PublisherLost, RunError, SyncError, UserError, WorkerLost
from r1.faults import FaultLog
from r1.loop import Sampler
from r1.rollout.engine import requests_of
from r1.rollout.scheduler import GroupScheduler
from r1.runtime.calls import TICK_S, Failure, Worker, call_each, result_of, where
from r1.runtime.cluster import Resources, kill
from r1.runtime.rollout_worker import rollout_actor
from r1.runtime.weight_sync import sync_weights
from r1.types import FinishedGroup, PromptBatch, RolloutGroup, WeightManifest

SLICE_S = 0.5
"""Longest time that a worker goes on without looking up: for new groups, and for new weights."""
MAX_FAILURES_IN_A_ROW = 3
"""Failures of one worker without a group in between after which the run stops: replacing it does not help."""
MAX_LOSSES_IN_A_ROW = 12
"""The same where it died or hung, which may be the machine's doing and none of its own."""


@dataclass
class _Call:
    worker: Worker
    phase: str
    """start, or sample"""
    since: float


@dataclass
class _Pending:
    """A batch that is being sampled."""

    num_left: int
    finished: deque[RolloutGroup] = field(default_factory=deque)


class RolloutPool(Sampler):
    """Starts the rollout workers, hands them groups, and keeps them at the learner's version."""

    def __init__(self, config: RunConfig, resources: Resources, faults: FaultLog) -> None:
        self._config = config
        self._faults = faults
        self._spawn = rollout_actor(config, resources)
        self._scheduler = GroupScheduler(max(1, config.rollout.max_num_seqs // config.rollout.group_size))
        self._next_ticket = 0
        self._batches: dict[tuple[int, int], _Pending] = {}
        self._batch_of: dict[int, tuple[int, int]] = {}
        self._calls: dict[Any, _Call] = {}
        self._unsent: dict[str, list[Any]] = {}
        self._manifest: WeightManifest | None = None
        self._is_paused = False
        self._num_failures: Counter[str] = Counter()
        self.workers: dict[str, Worker] = {}
        for index in range(resources.count):
            self._start(f"rollout worker {index}")

    # What the loop calls.

    def wait_until_ready(self) -> None:
        """Block until every engine is up; an engine that does not start ends the run here."""
        while self._num_starting():
            self._pump()

    def submit(self, batch: PromptBatch) -> None:
        """Begin to sample a batch; `collect` gets it."""
        requests = requests_of(batch, first_ticket=self._next_ticket)
        self._next_ticket += len(requests)
        key = (batch.seed, batch.step)
        assert key not in self._batches, f"step {batch.step} is being sampled already"
        self._batches[key] = _Pending(num_left=len(requests))
        self._batch_of |= {request.ticket: key for request in requests}
        self._scheduler.submit(requests)
        self._send()

    def collect(self, batch: PromptBatch) -> Iterator[RolloutGroup]:
        """Yield the groups of a submitted batch as they are finished."""
        pending = self._batches[batch.seed, batch.step]
        while pending.finished or pending.num_left:
            while not pending.finished:
                self._pump()
            yield pending.finished.popleft()
        del self._batches[batch.seed, batch.step]

    def pause(self) -> None:
        """Hand nothing out any more and let what is in hand be finished, with the old weights."""
        self._is_paused = True
        while self._scheduler.num_in_hand():
            self._pump()

    def load_weights(self, manifest: WeightManifest) -> None:
        """Bring every worker to the published version and go on; returns when all have proved it.

        A worker that fails is replaced, and its replacement brought to this version. When all fail in the same way the
        fault is not theirs, and the run ends; or goes on with another learner, when this one was killed after it published.
        """
        is_first, self._manifest = self._manifest is None, manifest
        ready = [worker for worker in self.workers.values() if not self._is_starting(worker)]
        failed = self._sync(ready, manifest)
        if ready and len(failed) == len(ready) and all(isinstance(error, SyncError) for error in failed.values()):
            error = next(iter(failed.values()))
            if isinstance(error, PublisherLost) and not is_first:
                raise WorkerLost(str(error))  # the loop starts another learner
            raise error
        for name, error in failed.items():
            self._replace(name, error)
        while self._num_starting() == len(self.workers):
            self._pump()
        self._is_paused = False
        self._send()

    def forget(self) -> None:
        """Drop everything that is being sampled."""
        self._scheduler.forget()
        self._batches.clear()
        self._batch_of.clear()
        self._unsent.clear()
        # A call that is under way ends by itself; what it returns belongs to no batch.
        ready = [worker for worker in self.workers.values() if not self._is_starting(worker)]
        results = call_each(ready, "abort", phase="abort", deadline_s=self._config.deadline_s)
        for worker, result in zip(ready, results, strict=True):
            if isinstance(result, Failure):
                self._replace(worker.name, result.error)

    # While the driver waits for something else: r1.runtime.calls.Background.

    def references(self) -> Sequence[Any]:
        return list(self._calls)

    def attend(self, ready: Sequence[Any]) -> None:
        """Take in what is ready, replace who is late, hand out what waits."""
        self._take_in(ready)
        self._send()

    # Inside.

    def _pump(self) -> None:
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=TICK_S)
        self.attend(ready)

    def _send(self) -> None:
        """Give idle workers what they have to do."""
        if not self._is_paused:
            for name, requests in self._scheduler.hand_out().items():
                self._unsent.setdefault(name, []).extend(requests)
        busy = {one.worker.name for one in self._calls.values()}
        for name, worker in self.workers.items():
            if name not in busy and self._scheduler.num_in_hand(name):
                reference = worker.handle.advance.remote(self._unsent.pop(name, []), SLICE_S)
                self._calls[reference] = _Call(worker=worker, phase="sample", since=time.monotonic())

    def _take_in(self, ready: Sequence[Any]) -> None:
        """Handle calls that are finished and those that are overdue."""
        for reference in ready:
            if reference not in self._calls:
                continue  # of a worker that was replaced a moment ago
            one = self._calls.pop(reference)
            result = result_of(reference, one.worker, one.phase, "", one.since)
            if isinstance(result, Failure):
                self._replace(one.worker.name, result.error)
            elif one.phase == "start":
                self._join(one.worker, result)
            else:
                self._receive(one.worker, result)
        for one in list(self._calls.values()):
            waited_s = time.monotonic() - one.since
            if waited_s > self._config.deadline_s:
                here = where(one.worker.name, one.phase, "")
                self._replace(one.worker.name, WorkerLost(f"{here}: no answer within the deadline of {waited_s:.0f} s"))

    def _receive(self, worker: Worker, finished: Sequence[FinishedGroup]) -> None:
        for one in finished:
            request = self._scheduler.finish(worker.name, one.ticket)
            if request is None:
                continue  # of a batch that was dropped
            oldest = request.policy_version - request.max_staleness
            versions = {completion.policy_version for completion in one.group.completions}
            if not all(oldest <= version <= request.policy_version for version in versions):
                self._scheduler.submit([request])
                error = f"step {request.step}: sampled by policy version {sorted(versions)}, wanted {request.policy_version}"
                self._replace(worker.name, SyncError(f"{worker.name}, phase sample: {error}"))
                return
            self._num_failures[worker.name] = 0
            pending = self._batches[self._batch_of.pop(one.ticket)]
            pending.finished.append(one.group)
            pending.num_left -= 1

    def _join(self, worker: Worker, place: tuple[int, str]) -> None:
        """A worker is up: bring it to the current version and let it work."""
        self.workers[worker.name] = worker = replace(worker, pid=place[0], host=place[1])
        if self._manifest is not None:
            failed = self._sync([worker], self._manifest)
            if failed:
                self._replace(worker.name, failed[worker.name])
                if isinstance(failed[worker.name], PublisherLost):
                    raise WorkerLost(str(failed[worker.name]))  # the loop starts another learner
                return
        self._scheduler.add_worker(worker.name)

    def _sync(self, workers: Sequence[Worker], manifest: WeightManifest) -> dict[str, RunError | UserError]:
        verify = self._config.sync.verify == "on"
        return sync_weights(workers, manifest, verify=verify, deadline_s=self._config.deadline_s)

    def _replace(self, name: str, error: RunError | UserError) -> None:
        """Kill a worker, put its groups back in front of those that wait, and start another in its place."""
        if self._manifest is None:
            raise error  # at the start: another one would fail in the same way
        self._num_failures[name] += 1
        allowed = MAX_LOSSES_IN_A_ROW if isinstance(error, WorkerLost) else MAX_FAILURES_IN_A_ROW
        if self._num_failures[name] > allowed:
            raise RunError(f"{name} failed {self._num_failures[name]} times in a row, the last time: {error}") from error
        self._drop_calls(name)
        kill(self.workers[name])
        self._unsent.pop(name, None)
        num_groups = self._scheduler.remove_worker(name)
        self._faults.add("rollout_worker", f"{error}; it is replaced, {num_groups} groups are sampled again")
        self._start(name)

    def _start(self, name: str) -> None:
        self.workers[name] = worker = Worker(name=name, handle=self._spawn())
        self._calls[worker.handle.ready.remote()] = _Call(worker=worker, phase="start", since=time.monotonic())

    def _drop_calls(self, name: str) -> None:
        self._calls = {reference: one for reference, one in self._calls.items() if one.worker.name != name}

    def _is_starting(self, worker: Worker) -> bool:
        return any(one.phase == "start" and one.worker.name == worker.name for one in self._calls.values())

    def _num_starting(self) -> int:
        return sum(self._is_starting(worker) for worker in self.workers.values())
