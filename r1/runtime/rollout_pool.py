"""The rollout workers behind the `Sampler` protocol: groups go to whoever is free, and a worker that fails is replaced.

One thread does it all: while the driver waits for anything (a group, an update, scores) it hands out what waits, takes in what
is finished and looks for workers that are dead or late. So nothing here is shared between threads, and one worker with the
same seeds gets the same groups in the same order, run after run.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from r1.config import RunConfig
from r1.errors import RunError, SyncError
from r1.faults import FaultLog
from r1.protocols import Sampler
from r1.rollout.engine import requests_of
from r1.rollout.scheduler import GroupScheduler
from r1.runtime.calls import TICK_S, Worker
from r1.runtime.cluster import Resources
from r1.runtime.rollout_team import RolloutTeam
from r1.runtime.weight_sync import WeightSync
from r1.types import FinishedGroup, GroupRequest, PromptBatch, RolloutGroup, WeightManifest

SLICE_S = 0.5
"""Longest time that a worker goes on without looking up: for new groups, and for new weights."""
IN_FLIGHT_SLICE_S = 0.1
"""The same where weights are loaded in the middle of completions: the learner waits for the end of the slice."""
STALLED_DEADLINES = 3
"""A step of which no group comes back for so many times deadline_s ends the run."""

_BatchKey = tuple[int, int, int]


def _key(batch: PromptBatch) -> _BatchKey:
    return batch.seed, batch.step, batch.round


@dataclass
class _Pending:
    """A batch that is being sampled."""

    num_left: int
    finished: deque[RolloutGroup] = field(default_factory=deque)


@dataclass
class _ToTell:
    """What a worker hears of with its next call."""

    requests: list[GroupRequest] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)


class RolloutPool(Sampler):
    """Hands groups to the rollout workers and collects what they finish."""

    def __init__(
        self, config: RunConfig, resources: Resources, faults: FaultLog, weights: WeightSync | None = None
    ) -> None:
        """weights: how they reach the workers; by default all are on the learner's node."""
        self._config = config
        self._in_flight = config.sync.in_flight
        self._slice_s = IN_FLIGHT_SLICE_S if self._in_flight else SLICE_S
        self._scheduler = GroupScheduler(config.rollout.max_num_seqs)
        self._next_ticket = 0
        self._batches: dict[_BatchKey, _Pending] = {}
        self._batch_of: dict[int, _BatchKey] = {}
        self._to_tell: dict[str, _ToTell] = {}
        self._is_paused = False
        self.on_group: Callable[[RolloutGroup], None] = lambda group: None
        """Called with each group as soon as it is there, whatever the driver is waiting for."""
        self.on_cut_off: Callable[[RolloutGroup], None] = lambda group: None
        """Called with each group that was there, and that nobody is going to collect."""
        weights = weights or WeightSync(verify=config.sync.verify == "on", deadline_s=config.deadline_s)
        self._team = RolloutTeam(
            config, resources, faults, weights, on_up=self._scheduler.add_worker, on_lost=self._take_back
        )

    @property
    def workers(self) -> dict[str, Worker]:
        return self._team.workers

    # What the loop calls.

    def wait_until_ready(self) -> None:
        """Block until every engine is up; an engine that does not start ends the run here."""
        self._team.wake()
        while self._team.num_starting():
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
        for group in self._batches.pop(_key(batch)).finished:
            self.on_cut_off(group)
        dropped = {ticket for ticket, key in self._batch_of.items() if key == _key(batch)}
        for ticket in dropped:
            del self._batch_of[ticket]
        for name, tickets in self._scheduler.cancel(dropped).items():
            tell = self._to_tell.setdefault(name, _ToTell())
            tell.cancelled += tickets
            tell.requests = [request for request in tell.requests if request.ticket not in dropped]
        self._send()

    def pause(self) -> None:
        """Hand nothing out any more and let what is in hand be finished, with the old weights.

        With `sync.in_flight` it stays in hand, and goes on with the new ones: only the calls that are under way are awaited.
        Engines that share the learner's devices then sleep until the next weights; one that is just starting is waited for,
        so that none comes up while the learner has the memory.
        """
        self._is_paused = True
        while self._team.is_sampling() if self._in_flight else self._scheduler.num_in_hand():
            self._pump()
        # Before it can sleep, an engine has to hear of the groups that were cut off.
        while self._team.takes_turns and (self._team.is_sampling() or self._to_tell):
            self._pump()
        while self._team.takes_turns and self._team.num_starting():
            self._pump()
        self._team.sleep()

    def load_weights(self, manifest: WeightManifest) -> None:
        """Bring every worker to the published version and go on; returns when all that are up have proved it."""
        self._team.load(manifest)
        while self._team.num_starting() == len(self._team.workers):
            self._pump()
        self._is_paused = False
        self._send()

    def forget(self) -> None:
        """Drop everything that is being sampled."""
        self._scheduler.forget()
        self._batches.clear()
        self._batch_of.clear()
        self._to_tell.clear()
        self._team.abort()

    # While the driver waits for something else: r1.runtime.calls.Background.

    def references(self) -> Sequence[Any]:
        return self._team.references()

    def attend(self, ready: Sequence[Any]) -> None:
        """Take in what is ready, replace who is late, hand out what waits."""
        for name, finished in self._team.take_in(ready):
            self._receive(name, finished)
        self._team.look_after(self._scheduler.num_in_hand)
        self._send()

    # Inside.

    def _pump(self) -> None:
        ready, _ = ray.wait(self._team.references(), num_returns=1, timeout=TICK_S)
        self.attend(ready)

    def _send(self) -> None:
        """Give idle workers what they have to do."""
        if not self._is_paused:
            for name, requests in self._scheduler.hand_out().items():
                self._to_tell.setdefault(name, _ToTell()).requests += requests
        elif self._in_flight:
            return
        for name in self._team.workers:
            num_in_hand = self._scheduler.num_in_hand(name)
            if self._team.is_busy(name) or not (num_in_hand or name in self._to_tell):
                continue
            tell = self._to_tell.pop(name, _ToTell())
            if len(tell.requests) == num_in_hand:
                self._team.note_progress(name, finished=False)
            self._team.advance(name, tell.requests, self._slice_s, tell.cancelled)

    def _receive(self, name: str, finished: Sequence[FinishedGroup]) -> None:
        for one in finished:
            request = self._scheduler.finish(name, one.ticket)
            if request is None:
                continue  # of a batch that was dropped
            oldest = request.policy_version - request.max_staleness
            versions = {completion.policy_version for completion in one.group.completions}
            if not all(oldest <= version <= request.policy_version for version in versions):
                self._scheduler.submit([request])
                error = f"step {request.step}: sampled by policy version {sorted(versions)}, wanted {request.policy_version}"
                self._team.replace(name, SyncError(f"{name}, phase sample: {error}"))
                return
            self._team.note_progress(name, finished=True)
            pending = self._batches[self._batch_of.pop(one.ticket)]
            pending.finished.append(one.group)
            pending.num_left -= 1
            self.on_group(one.group)

    def _take_back(self, name: str) -> int:
        """A worker is gone: its groups go in front of those that wait."""
        self._to_tell.pop(name, None)
        return self._scheduler.remove_worker(name)

    def _check_stall(self, batch: PromptBatch, waited_s: float) -> None:
        """Give a step up of which nothing comes back, however often workers are replaced."""
        if waited_s > STALLED_DEADLINES * self._config.deadline_s:
            held = [f"{name} has {self._scheduler.num_in_hand(name)}" for name in self._team.workers]
            raise RunError(
                f"step {batch.step}, phase sample, policy version {batch.policy_version}: no group was finished for "
                f"{waited_s:.0f} s; {self._scheduler.num_waiting} groups wait, {', '.join(held)}; raise deadline_s if that "
                "is what completions take"
            )
