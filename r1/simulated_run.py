"""A run on a fake clock: how long a step takes, who waits, and how stale the samples are. No GPU, no Ray, no torch.

`GroupScheduler` is the rollout pool's own, prompts become requests by the pool's own function; engines, learner and weight
sync are seconds. docs/scaling.md says what is modelled, what is left out, and how well it predicts.

    submit    as soon as the engines hold version e, the batches of the steps up to e + 1 + max_staleness
    sample    groups go to the workers that are free, behind those that were submitted before
    update    of step s, once its batch is complete and the sync of step s - 1 is done; the engines go on meanwhile
    sync      strict, and with draining: what is in hand is finished first; in flight: at the engines' next look-up
"""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from r1.rollout.engine import requests_of
from r1.rollout.scheduler import GroupScheduler
from r1.simulated_engine import EngineSpeed, SimulatedEngine
from r1.types import GroupRequest, Prompt, PromptBatch
from tasks.base import Problem

LengthsOf = Callable[[int, int], Sequence[int]]
"""(step, group_id) -> [G] the tokens of each completion of that group."""

_PROMPT = Prompt(
    group_id=0,
    task="simulated",
    problem=Problem(problem_id="", question="", reference={}),
    text="",
    prefill="",
    token_ids=(),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What is simulated; seconds are wall seconds."""

    num_engines: int
    max_num_seqs: int
    """Completions that one engine decodes at the same time."""
    num_prompts: int
    """Per step, over all engines."""
    group_size: int
    speed: EngineSpeed
    prompt_tokens: int = 0
    update_s: float
    """Of one step's update, whatever the batch is."""
    update_token_s: float = 0.0
    """What each completion token of the batch adds to it."""
    score_s: float = 0.0
    """From a batch's last group to the start of its update: what is left to score, traces, making the batch."""
    sync_s: float
    """Publish, transfer, load, verify; no engine decodes."""
    max_staleness: int = 0
    in_flight: bool = False
    slice_s: float = 0.0
    """How long a worker decodes before it looks up for new groups and weights, if no group is finished earlier."""
    driver_group_s: float = 0.0
    """What the driver needs for a finished group. It takes one at a time, and that group's engine waits."""

    @property
    def mode(self) -> str:
        """
        >>> Setting(num_engines=1, max_num_seqs=8, num_prompts=1, group_size=8, update_s=1.0, sync_s=0.1, max_staleness=2,
        ...         speed=EngineSpeed(iteration_s=0.1, sequence_s=0.0)).mode
        'k=2, drain'
        """
        if not self.max_staleness:
            return "strict"
        return f"k={self.max_staleness}, {'in flight' if self.in_flight else 'drain'}"


@dataclass
class SimulatedBatch:
    num_left: int
    num_tokens: int = 0
    staleness_sum: int = 0
    staleness_max: int = 0


@dataclass
class _Worker:
    name: str
    engine: SimulatedEngine
    unsent: list[GroupRequest] = field(default_factory=list)
    """Handed out, not yet begun: the worker has not looked up since."""
    looked_up_s: float = 0.0
    held_by: set[str] = field(default_factory=set)
    """"sync", "driver": what it waits for instead of decoding."""
    plan: int = 0
    """Of several plans only the last one counts."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums since the start, read when a step ends."""

    now_s: float
    busy_s: float
    slot_s: float
    update_s: float


class SimulatedRun:
    """The loop and the rollout pool. Everything that happens is a call at a time; `_at` puts it on the clock."""

    def __init__(self, setting: Setting, lengths: LengthsOf, num_steps: int) -> None:
        self._setting, self._lengths, self._num_steps = setting, lengths, num_steps
        self._now_s = 0.0
        self._clock: list[tuple[float, int, Callable[[], None]]] = []
        self._num_events = 0
        self._scheduler = GroupScheduler(setting.max_num_seqs)
        self._workers = {
            name: _Worker(name=name, engine=SimulatedEngine(setting.speed, setting.max_num_seqs))
            for name in (f"rollout worker {index}" for index in range(setting.num_engines))
        }
        for name in self._workers:
            self._scheduler.add_worker(name)
        self._version = 0
        """What the engines hold."""
        self._num_submitted = 0
        """Steps whose batches were submitted."""
        self._next_ticket = 0
        self._num_in_hand = 0
        self._is_learning = False
        self._is_paused = False
        self._update_s = 0.0
        self._driver_free_s = 0.0
        self.batches: dict[int, SimulatedBatch] = {}
        self.totals: list[Totals] = [Totals(0.0, 0.0, 0.0, 0.0)]
        """At the start, and after each step's sync."""

    def go(self) -> None:
        self._submit()
        while len(self.totals) <= self._num_steps:
            time_s, _, call = heapq.heappop(self._clock)
            self._now_s = max(self._now_s, time_s)
            call()

    def _at(self, time_s: float, call: Callable[[], None]) -> None:
        self._num_events += 1  # of two at the same time the one that was planned first
        heapq.heappush(self._clock, (time_s, self._num_events, call))

    # The loop.

    def _submit(self) -> None:
        """All batches that may be sampled with the version that the engines hold."""
        while self._num_submitted < self._version + 1 + self._setting.max_staleness:
            self._num_submitted += 1
            self.batches[self._num_submitted] = SimulatedBatch(num_left=self._setting.num_prompts)
            batch = PromptBatch(
                step=self._num_submitted,
                prompts=(_PROMPT,) * self._setting.num_prompts,
                group_size=self._setting.group_size,
                policy_version=self._num_submitted - 1,
                seed=0,
                max_staleness=self._setting.max_staleness,
            )
            self._scheduler.submit(requests_of(batch, first_ticket=self._next_ticket))
            self._next_ticket += self._setting.num_prompts
        self._hand_out()

    def _learn(self) -> None:
        """Begin the next step's update, if its batch is complete and the learner is free."""
        batch = self.batches[self._version + 1]
        if self._is_learning or batch.num_left:
            return
        self._is_learning = True
        seconds = self._setting.update_s + self._setting.update_token_s * batch.num_tokens
        self._at(self._now_s + self._setting.score_s + seconds, lambda: self._updated(seconds))

    def _updated(self, seconds: float) -> None:
        self._update_s += seconds
        self._is_paused = True
        if not self._setting.in_flight:
            self._sync_when_drained()
            return
        looks_up_s = [self._looks_up_s(worker) for worker in self._workers.values()]
        for worker, time_s in zip(self._workers.values(), looks_up_s, strict=True):
            self._at(time_s, partial(self._hold, worker, "sync"))
        self._at(max(looks_up_s) + self._setting.sync_s, self._synced)

    def _sync_when_drained(self) -> None:
        if not self._num_in_hand:
            self._at(self._now_s + self._setting.sync_s, self._synced)

    def _synced(self) -> None:
        self._version += 1
        self._is_learning = self._is_paused = False
        for worker in self._workers.values():
            if "sync" in worker.held_by:
                self._let_go(worker, "sync")
                worker.engine.forget_cache()
        engines = [worker.engine for worker in self._workers.values()]
        busy_s, slot_s = sum(engine.busy_s for engine in engines), sum(engine.slot_s for engine in engines)
        self.totals.append(Totals(self._now_s, busy_s, slot_s, self._update_s))
        self._submit()
        for worker in self._workers.values():
            self._look_up(worker)
        self._learn()

    # The rollout pool.

    def _hand_out(self) -> None:
        if self._is_paused:
            return
        for name, requests in self._scheduler.hand_out().items():
            worker = self._workers[name]
            worker.unsent.extend(requests)
            self._num_in_hand += len(requests)
            if worker.engine.num_unfinished:
                self._plan(worker)
            else:
                self._look_up(worker)

    def _look_up(self, worker: _Worker) -> None:
        """Begin what was handed out meanwhile."""
        worker.looked_up_s = self._now_s
        if not worker.engine.is_stopped:
            worker.engine.advance(self._now_s)
            for request in worker.unsent:
                lengths = self._lengths(request.step, request.ticket % self._setting.num_prompts)
                worker.engine.add(request.ticket, lengths, self._setting.prompt_tokens)
                batch, staleness = self.batches[request.step], request.policy_version - self._version
                batch.num_tokens += sum(lengths)
                batch.staleness_sum += staleness
                batch.staleness_max = max(batch.staleness_max, staleness)
            worker.unsent.clear()
        self._plan(worker)

    def _plan(self, worker: _Worker) -> None:
        """Put on the clock when this worker has to be looked at again, instead of what was planned before."""
        worker.plan += 1
        plan, time_s = worker.plan, worker.engine.next_s()
        if worker.unsent and not worker.engine.is_stopped:
            time_s = min(time_s, self._slice_ends_s(worker))
        if time_s < math.inf:
            self._at(time_s, lambda: self._attend(worker, plan))

    def _slice_ends_s(self, worker: _Worker) -> float:
        """When it looks up if no group is finished before."""
        slice_s = self._setting.slice_s
        if not slice_s or not worker.engine.num_unfinished:
            return self._now_s
        return worker.looked_up_s + slice_s * (1 + (self._now_s - worker.looked_up_s) // slice_s)

    def _attend(self, worker: _Worker, plan: int) -> None:
        """A group is whole, a slice is over with groups to begin, or a completion has got a place in the batch."""
        if plan != worker.plan:
            return
        worker.engine.advance(self._now_s)
        finished = worker.engine.take_finished()
        if finished and self._setting.driver_group_s:
            self._driver_free_s = max(self._driver_free_s, self._now_s) + self._setting.driver_group_s * len(finished)
            self._hold(worker, "driver")
            self._at(self._driver_free_s, lambda: self._receive(worker, finished))
        elif finished:
            self._receive(worker, finished)
        else:
            self._look_up(worker)

    def _receive(self, worker: _Worker, finished: Sequence[int]) -> None:
        """The driver takes in finished groups, hands out what waits, and lets the worker go on."""
        self._let_go(worker, "driver")
        for ticket in finished:
            request = self._scheduler.finish(worker.name, ticket)
            assert request is not None, f"{worker.name} finished group {ticket}, which it did not have"
            self.batches[request.step].num_left -= 1
        self._num_in_hand -= len(finished)
        self._hand_out()
        self._look_up(worker)
        self._learn()
        if self._is_paused and not self._setting.in_flight:
            self._sync_when_drained()

    def _looks_up_s(self, worker: _Worker) -> float:
        """When a worker that goes on as it does looks up for new weights."""
        if worker.held_by or not worker.engine.num_unfinished:
            return self._now_s
        return min(self._slice_ends_s(worker), worker.engine.next_s())

    def _hold(self, worker: _Worker, why: str) -> None:
        worker.engine.advance(self._now_s)
        worker.held_by.add(why)
        worker.engine.is_stopped = True
        worker.plan += 1

    def _let_go(self, worker: _Worker, why: str) -> None:
        worker.engine.advance(self._now_s)
        worker.held_by.discard(why)
        worker.engine.is_stopped = bool(worker.held_by)
