"""The rollout workers behind the `Sampler` protocol: groups go to whoever is free, and a worker that fails is replaced.

One thread does it all: while the driver waits for anything (a group, an update, scores) it hands out what waits, takes in what
is finished and looks for workers that are dead or late. So nothing here is shared between threads, and one worker with the
same seeds gets the same groups in the same order, run after run.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray

from r1.config import RunConfig
from r1.errors import PublisherLost, RunError, SyncError, UserError, WorkerLost
from r1.faults import FaultLog
from r1.protocols import Sampler
from r1.rollout.engine import requests_of
from r1.rollout.scheduler import GroupScheduler
from r1.runtime.calls import TICK_S, Failure, Worker, call_each, result_of, where
from r1.runtime.cluster import Resources, kill
from r1.runtime.rollout_worker import rollout_actor
from r1.runtime.weight_sync import WeightSync
from r1.types import FinishedGroup, PromptBatch, RolloutGroup, WeightManifest

SLICE_S = 0.5
"""Longest time that a worker goes on without looking up: for new groups, and for new weights."""
IN_FLIGHT_SLICE_S = 0.1
"""The same where weights are loaded in the middle of completions: the learner waits for the end of the slice."""
MAX_FAILURES_IN_A_ROW = 3
"""Failures of one worker without a group in between after which the run stops: replacing it does not help."""
MAX_LOSSES_IN_A_ROW = 12
"""The same where it died or hung, which may be the machine's doing and none of its own."""
STALLED_DEADLINES = 3
"""A step of which no group comes back for so many times deadline_s ends the run."""


@dataclass
class _Call:
    worker: Worker
    phase: str
    """start, or sample"""
    about: str
    """At which version, for messages."""
    since: float


@dataclass
class _Pending:
    """A batch that is being sampled."""

    num_left: int
    finished: deque[RolloutGroup] = field(default_factory=deque)


_BatchKey = tuple[int, int, int]


def _key(batch: PromptBatch) -> _BatchKey:
    return batch.seed, batch.step, batch.round


class RolloutPool(Sampler):
    """Starts the rollout workers, hands them groups, and keeps them at the learner's version."""

    def __init__(
        self, config: RunConfig, resources: Resources, faults: FaultLog, weights: WeightSync | None = None
    ) -> None:
        """weights: how they reach the workers; by default all are on the learner's node."""
        self._config = config
        self._faults = faults
        self._weights = weights or WeightSync(verify=config.sync.verify == "on", deadline_s=config.deadline_s)
        self._spawn = rollout_actor(config, resources)
        self._scheduler = GroupScheduler(max(1, config.rollout.max_num_seqs // config.rollout.group_size))
        self._next_ticket = 0
        self._in_flight = config.sync.in_flight
        self._slice_s = IN_FLIGHT_SLICE_S if self._in_flight else SLICE_S
        self._batches: dict[_BatchKey, _Pending] = {}
        self._batch_of: dict[int, _BatchKey] = {}
        self._calls: dict[Any, _Call] = {}
        self._unsent: dict[str, list[Any]] = {}
        self._cancelled: dict[str, list[int]] = {}
        self.on_group: Callable[[RolloutGroup], None] = lambda group: None
        """Called with each group as soon as it is there, whatever the driver is waiting for."""
        self._manifest: WeightManifest | None = None
        self._behind: set[str] = set()
        """Workers that are up, and wait until the learner has time to bring them to the current version."""
        self._is_paused = False
        self._num_failures: Counter[str] = Counter()
        self._last_progress: dict[str, float] = {}
        """Worker -> when it last finished a group, or got one while it had none; time.monotonic()."""
        self.workers: dict[str, Worker] = {}
        self._index = {f"rollout worker {index}": index for index in range(resources.count)}
        self._takes_turns = resources.colocated
        self._is_asleep = self._takes_turns
        """Whether the devices are the learner's now, which has loaded its model before the first engine starts."""
        self._absent = list(self._index)
        """Who is to be started when the devices are free."""
        if not self._is_asleep:
            self._start_absent()

    # What the loop calls.

    def wait_until_ready(self) -> None:
        """Block until every engine is up; an engine that does not start ends the run here."""
        self._is_asleep = False
        self._start_absent()
        while self._num_starting():
            self._pump()

    def submit(self, batch: PromptBatch) -> None:
        """Begin to sample a batch; `collect` gets it."""
        requests = requests_of(batch, first_ticket=self._next_ticket)
        self._next_ticket += len(requests)
        key = _key(batch)
        assert key not in self._batches, f"step {batch.step}, round {batch.round} is being sampled already"
        self._batches[key] = _Pending(num_left=len(requests))
        self._batch_of |= {request.ticket: key for request in requests}
        self._scheduler.submit(requests)
        self._send()

    def collect(self, batch: PromptBatch) -> Iterator[RolloutGroup]:
        """Yield the groups of a submitted batch as they are finished."""
        pending = self._batches[_key(batch)]
        while pending.finished or pending.num_left:
            start = time.monotonic()
            while not pending.finished:
                self._pump()
                self._check_stall(batch, time.monotonic() - start)
            yield pending.finished.popleft()
        del self._batches[_key(batch)]

    def cut_off(self, batch: PromptBatch) -> None:
        """Drop what is left of a submitted batch; workers are told with their next call."""
        del self._batches[_key(batch)]
        dropped = {ticket for ticket, key in self._batch_of.items() if key == _key(batch)}
        for ticket in dropped:
            del self._batch_of[ticket]
        for name, tickets in self._scheduler.cancel(dropped).items():
            self._cancelled.setdefault(name, []).extend(tickets)
            self._unsent[name] = [request for request in self._unsent.get(name, []) if request.ticket not in dropped]
        self._send()

    def pause(self) -> None:
        """Hand nothing out any more and let what is in hand be finished, with the old weights.

        With `sync.in_flight` it stays in hand, and goes on with the new ones: only the calls that are under way are awaited.
        Engines that share the learner's devices then sleep until the next weights; one that is just starting is waited for,
        so that none comes up while the learner has the memory.
        """
        self._is_paused = True
        while self._is_sampling() if self._in_flight else self._scheduler.num_in_hand():
            self._pump()
        while self._takes_turns and self._num_starting():
            self._pump()
        if self._takes_turns and not self._is_asleep:
            self._is_asleep = True
            self._call_ready("sleep")

    def load_weights(self, manifest: WeightManifest) -> None:
        """Bring every worker to the published version and go on; returns when all have proved it.

        A worker that fails is replaced, and its replacement brought to this version. When all fail in the same way the
        fault is not theirs, and the run ends; or goes on with another learner, when this one was killed after it published.
        """
        is_first, self._manifest = self._manifest is None, manifest
        ready = self._ready()
        failed = self._weights(ready, manifest, wake=self._takes_turns)
        if ready and len(failed) == len(ready) and all(isinstance(error, SyncError) for error in failed.values()):
            error = next(iter(failed.values()))
            if isinstance(error, PublisherLost) and not is_first:
                raise WorkerLost(str(error))  # the loop starts another learner
            raise error
        self._is_asleep = False
        for name, error in failed.items():
            self._replace(name, error)
        self._start_absent()
        for name in sorted(self._behind):
            self._admit(name)
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
        self._cancelled.clear()
        # A call that is under way ends by itself; what it returns belongs to no batch.
        self._call_ready("abort")

    # While the driver waits for something else: r1.runtime.calls.Background.

    def references(self) -> Sequence[Any]:
        return list(self._calls)

    def attend(self, ready: Sequence[Any]) -> None:
        """Take in what is ready, replace who is late, hand out what waits."""
        self._take_in(ready)
        for name in sorted(self._behind):
            self._catch_up(name)
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
        elif self._in_flight:
            return
        busy = {one.worker.name for one in self._calls.values()}
        for name, worker in self.workers.items():
            if name not in busy and (self._scheduler.num_in_hand(name) or self._cancelled.get(name)):
                requests, cancelled = self._unsent.pop(name, []), self._cancelled.pop(name, [])
                if len(requests) == self._scheduler.num_in_hand(name):
                    self._last_progress[name] = time.monotonic()
                self._call(worker, "sample", worker.handle.advance.remote(requests, self._slice_s, cancelled))

    def _take_in(self, ready: Sequence[Any]) -> None:
        """Handle calls that are finished and those that are overdue."""
        for reference in ready:
            if reference not in self._calls:
                continue  # of a worker that was replaced a moment ago
            one = self._calls.pop(reference)
            result = result_of(reference, one.worker, one.phase, one.about, one.since)
            if isinstance(result, Failure):
                self._replace(one.worker.name, result.error)
            elif one.phase == "start":
                self._join(one.worker, result)
            else:
                self._receive(one.worker, result)
        for one in list(self._calls.values()):
            self._replace_if_late(one.worker.name, one.phase, one.since, "no answer")
        for name in list(self.workers):
            if self._scheduler.num_in_hand(name) and name in self._last_progress:
                self._replace_if_late(name, "sample", self._last_progress[name], "no group finished")

    def _replace_if_late(self, name: str, phase: str, since: float, what: str) -> None:
        waited_s = time.monotonic() - since
        if waited_s > self._config.deadline_s:
            here = where(name, phase, self._about())
            self._replace(name, WorkerLost(f"{here}: {what} within the deadline, for {waited_s:.0f} s"))

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
            self._last_progress[worker.name] = time.monotonic()
            pending = self._batches[self._batch_of.pop(one.ticket)]
            pending.finished.append(one.group)
            pending.num_left -= 1
            self.on_group(one.group)

    def _join(self, worker: Worker, place: tuple[int, str, tuple[str, ...]]) -> None:
        """A worker is up: bring it to the current version and let it work."""
        pid, host, devices = place
        self.workers[worker.name] = replace(worker, pid=pid, host=host, devices=devices)
        self._behind.add(worker.name)
        self._catch_up(worker.name)

    def _call_ready(self, method: str) -> None:
        """Call a method on all workers that are up, and replace those where it fails."""
        ready = self._ready()
        results = call_each(ready, method, phase=method, deadline_s=self._config.deadline_s)
        for worker, result in zip(ready, results, strict=True):
            if isinstance(result, Failure):
                self._replace(worker.name, result.error)

    def _catch_up(self, name: str) -> None:
        worker, manifest = self.workers[name], self._manifest
        if manifest is not None:
            if not self._weights.can_reach(worker, manifest):
                return
            failed = self._weights([worker], manifest, is_join=True, wake=self._takes_turns)
            if failed:
                self._replace(name, failed[name])
                if isinstance(failed[name], PublisherLost):
                    raise WorkerLost(str(failed[name]))  # the loop starts another learner
                return
        self._admit(name)

    def _admit(self, name: str) -> None:
        self._behind.discard(name)
        self._scheduler.add_worker(name)

    def _replace(self, name: str, error: RunError | UserError) -> None:
        """Kill a worker, put its groups back in front of those that wait, and start another in its place.

        While the engines sleep, the other one is started with the next weights.
        """
        if self._manifest is None:
            raise error  # at the start: another one would fail in the same way
        self._num_failures[name] += 1
        allowed = MAX_LOSSES_IN_A_ROW if isinstance(error, WorkerLost) else MAX_FAILURES_IN_A_ROW
        if self._num_failures[name] > allowed:
            raise RunError(f"{name} failed {self._num_failures[name]} times in a row, the last time: {error}") from error
        self._drop_calls(name)
        self._behind.discard(name)
        kill(self.workers[name])
        self._unsent.pop(name, None)
        self._cancelled.pop(name, None)
        self._last_progress.pop(name, None)
        num_groups = self._scheduler.remove_worker(name)
        self._faults.add("rollout_worker", f"{error}; it is replaced, {num_groups} groups are sampled again")
        self._absent.append(name)
        if not self._is_asleep:
            self._start_absent()

    def _start_absent(self) -> None:
        for name in self._absent:
            self.workers[name] = worker = Worker(name=name, handle=self._spawn(self._index[name]))
            self._call(worker, "start", worker.handle.ready.remote())
        self._absent.clear()

    def _call(self, worker: Worker, phase: str, reference: Any) -> None:
        self._calls[reference] = _Call(worker=worker, phase=phase, about=self._about(), since=time.monotonic())

    def _about(self) -> str:
        return f"policy version {self._manifest.policy_version}" if self._manifest else ""

    def _check_stall(self, batch: PromptBatch, waited_s: float) -> None:
        """Give a step up of which nothing comes back, however often workers are replaced."""
        if waited_s > STALLED_DEADLINES * self._config.deadline_s:
            held = [f"{name} has {self._scheduler.num_in_hand(name)}" for name in self.workers]
            raise RunError(
                f"step {batch.step}, phase sample, policy version {batch.policy_version}: no group was finished for "
                f"{waited_s:.0f} s; {self._scheduler.num_waiting} groups wait, {', '.join(held)}; raise deadline_s if that "
                "is what completions take"
            )

    def _drop_calls(self, name: str) -> None:
        self._calls = {reference: one for reference, one in self._calls.items() if one.worker.name != name}

    def _ready(self) -> list[Worker]:
        """The workers that are up."""
        return [w for w in self.workers.values() if w.name not in self._absent and not self._is_starting(w)]

    def _is_starting(self, worker: Worker) -> bool:
        return any(one.phase == "start" and one.worker.name == worker.name for one in self._calls.values())

    def _is_sampling(self) -> bool:
        return any(one.phase == "sample" for one in self._calls.values())

    def _num_starting(self) -> int:
        return sum(self._is_starting(worker) for worker in self.workers.values())
