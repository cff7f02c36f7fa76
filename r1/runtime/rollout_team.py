"""The lives of the rollout workers: started, brought to the learner's version, advanced slice by slice, and replaced.

Each has at most one call under way. What they sample is the pool's affair (`r1.runtime.rollout_pool`), which is told when a
worker may sample and when one is lost.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from r1.config import RunConfig
from r1.errors import PublisherLost, RunError, SyncError, UserError, WorkerLost
from r1.faults import FaultLog
from r1.runtime.calls import TICK_S, Failure, Worker, call_each, result_of, where
from r1.runtime.cluster import Resources, kill
from r1.runtime.places import REMEDY, missing_places
from r1.runtime.rollout_worker import rollout_actor
from r1.runtime.weight_sync import WeightSync
from r1.runtime.whereabouts import Whereabouts
from r1.types import FinishedGroup, GroupRequest, WeightManifest

MAX_FAILURES_IN_A_ROW = 3
"""Failures of one worker without a group in between after which the run stops: replacing it does not help."""
MAX_LOSSES_IN_A_ROW = 12
"""The same where it died or hung, which may be the machine's doing and none of its own."""
LONG_LOOK_AWAY_S = 5 * TICK_S
"""Longer than this without a look at the workers is the driver's own time, and counts for no deadline of theirs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Call:
    phase: str
    """start, or sample"""
    reference: Any
    since: float
    """time.monotonic()"""


class RolloutTeam:
    """Starts the workers and keeps as many of them at work as the configuration says."""

    def __init__(
        self,
        config: RunConfig,
        resources: Resources,
        faults: FaultLog,
        weights: WeightSync,
        *,
        on_up: Callable[[str], None],
        on_lost: Callable[[str], int],
    ) -> None:
        """on_up: a worker may sample. on_lost: one is gone; returns how many groups of it are to be sampled again."""
        self._faults = faults
        self._weights = weights
        self._deadline_s = config.deadline_s
        self._spawn = rollout_actor(config, resources)
        self._resources = resources
        self._on_up, self._on_lost = on_up, on_lost
        self._manifest: WeightManifest | None = None
        """None until the first weight sync, and for ever where nobody learns: the engines keep the model's own weights."""
        self._have_been_up: set[str] = set()
        self._calls: dict[str, _Call] = {}
        self._caller_of: dict[Any, str] = {}
        self._looked_at_s = time.monotonic()
        self._num_failures: Counter[tuple[str, bool]] = Counter()
        """(worker, whether it died or hung) -> how often in a row"""
        self._last_progress: dict[str, float] = {}
        """Worker -> when it last finished a group, or got one while it had none; time.monotonic()."""
        self._behind: set[str] = set()
        """Workers that are up, and wait until the learner has time to bring them to the current version."""
        self.workers: dict[str, Worker] = {}
        self._index = {f"rollout worker {index}": index for index in range(resources.count)}
        self.takes_turns = resources.colocated
        self._is_asleep = self.takes_turns
        """Whether the devices are the learner's now, which has loaded its model before the first engine starts."""
        self._absent = list(self._index)
        """Who is to be started when the devices are free."""
        if not self._is_asleep:
            self._start_absent()

    # What they are told.

    def wake(self) -> None:
        """The devices are free: start those that are absent."""
        self._is_asleep = False
        self._start_absent()

    def sleep(self) -> None:
        """Leave the devices to the learner, where they are shared, until the next weights."""
        if self.takes_turns and not self._is_asleep:
            self._is_asleep = True
            self._call_all("sleep")

    def abort(self) -> None:
        """Drop all groups in hand. A call that is under way ends by itself."""
        self._call_all("abort")

    def advance(self, name: str, requests: Sequence[GroupRequest], slice_s: float, cancelled: Sequence[int]) -> None:
        """Let a worker that has no call under way drop and begin groups, and go on with what it has for a slice."""
        assert name not in self._calls, f"{name} is busy"
        self._call(name, "sample", self.workers[name].handle.advance.remote(requests, slice_s, cancelled))

    def load(self, manifest: WeightManifest) -> None:
        """Bring all that are up to the published version.

        A worker that fails is replaced, and its replacement brought to this version. When all fail in the same way the
        fault is not theirs, and the run ends; or goes on with another learner, when this one was killed after it published.
        """
        is_first, self._manifest = self._manifest is None, manifest
        ready = self._ready()
        failed = self._weights(ready, manifest, wake=self.takes_turns)
        if ready and len(failed) == len(ready) and all(isinstance(error, SyncError) for error in failed.values()):
            error = next(iter(failed.values()))
            if isinstance(error, PublisherLost) and not is_first:
                raise WorkerLost(str(error))  # the loop starts another learner
            if is_first or len(failed) > 1:
                raise error
        self._is_asleep = False
        for name, error in failed.items():
            self.replace(name, error)
        self._start_absent()
        for name in sorted(self._behind):
            self._admit(name)

    def replace(self, name: str, error: RunError | UserError) -> None:
        """Kill a worker and start another in its place; while the engines sleep, with the next weights."""
        if name not in self._have_been_up:
            raise error  # at the start: another one would fail in the same way
        is_lost = isinstance(error, WorkerLost)
        self._num_failures[name, is_lost] += 1
        num_failures = self._num_failures[name, is_lost]
        if num_failures > (MAX_LOSSES_IN_A_ROW if is_lost else MAX_FAILURES_IN_A_ROW):
            raise RunError(f"{name} failed {num_failures} times in a row, the last time: {error}") from error
        if name in self._calls:
            del self._caller_of[self._calls.pop(name).reference]
        self._behind.discard(name)
        self._last_progress.pop(name, None)
        kill(self.workers[name])
        self._faults.add("rollout_worker", f"{error}; it is replaced, {self._on_lost(name)} groups are sampled again")
        self._absent.append(name)
        if not self._is_asleep:
            self._start_absent()

    def note_progress(self, name: str, *, finished: bool) -> None:
        """A worker got a group while it had none, or has finished one: from now on it has `deadline_s` for the next."""
        self._last_progress[name] = time.monotonic()
        if finished:
            self._num_failures[name, True] = self._num_failures[name, False] = 0

    # What comes of it.

    def references(self) -> list[Any]:
        """Of the calls that are under way."""
        return list(self._caller_of)

    def is_busy(self, name: str) -> bool:
        return name in self._calls

    def is_sampling(self) -> bool:
        return any(call.phase == "sample" for call in self._calls.values())

    def num_starting(self) -> int:
        return sum(call.phase == "start" for call in self._calls.values())

    def take_in(self, ready: Sequence[Any]) -> list[tuple[str, list[FinishedGroup]]]:
        """Handle calls that have ended; returns (worker, groups that it has finished)."""
        finished = []
        for reference in ready:
            name = self._caller_of.pop(reference, None)
            if name is None:
                continue  # of a worker that was replaced a moment ago
            ended = self._calls.pop(name)
            result = result_of(reference, self.workers[name], ended.phase, self._about(), ended.since)
            if isinstance(result, Failure):
                self.replace(name, result.error)
            elif ended.phase == "start":
                self._join(name, result)
            else:
                finished.append((name, result))
        return finished

    def look_after(self, in_hand: Callable[[str], int]) -> None:
        """Replace who is late, and bring those that came late to the current version. in_hand: groups that a worker has."""
        for name in sorted(self._behind):
            self._catch_up(name)
        now = time.monotonic()
        not_looked_s = now - self._looked_at_s
        if not_looked_s < min(TICK_S, self._deadline_s / 10):
            return
        self._looked_at_s = now
        if not_looked_s > LONG_LOOK_AWAY_S:
            # The driver itself was held up, by one worker that hangs in a sync for example: the others are not late for that.
            self._calls = {name: replace(call, since=call.since + not_looked_s) for name, call in self._calls.items()}
            self._last_progress = {name: since + not_looked_s for name, since in self._last_progress.items()}
        for name in list(self.workers):
            if name in self._calls and not self._waits_for_place(name):
                self._replace_if_late(name, self._calls[name].phase, self._calls[name].since, "no answer")
            if name in self._last_progress and in_hand(name):
                self._replace_if_late(name, "sample", self._last_progress[name], "no group finished")

    # Inside.

    def _start_absent(self) -> None:
        for name in self._absent:
            self.workers[name] = worker = Worker(name=name, handle=self._spawn(self._index[name]))
            self._call(name, "start", worker.handle.ready.remote())
        self._absent.clear()

    def _call(self, name: str, phase: str, reference: Any) -> None:
        self._calls[name] = _Call(phase=phase, reference=reference, since=time.monotonic())
        self._caller_of[reference] = name

    def _call_all(self, method: str) -> None:
        """Call a method on all workers that are up, and replace those where it fails."""
        ready = self._ready()
        results = call_each(ready, method, phase=method, deadline_s=self._deadline_s)
        for worker, result in zip(ready, results, strict=True):
            if isinstance(result, Failure):
                self.replace(worker.name, result.error)

    def _ready(self) -> list[Worker]:
        """The workers that are up."""
        starting = {name for name, call in self._calls.items() if call.phase == "start"}
        return [worker for name, worker in self.workers.items() if name not in starting and name not in self._absent]

    def _join(self, name: str, at: Whereabouts) -> None:
        """A worker is up: bring it to the current version and let it work."""
        self.workers[name] = replace(self.workers[name], at=at)
        self._have_been_up.add(name)
        self._behind.add(name)
        self._catch_up(name)

    def _catch_up(self, name: str) -> None:
        worker, manifest = self.workers[name], self._manifest
        if manifest is not None:
            if not self._weights.can_reach(worker, manifest):
                return
            failed = self._weights([worker], manifest, is_join=True, wake=self.takes_turns)
            if failed:
                self.replace(name, failed[name])
                if isinstance(failed[name], PublisherLost):
                    raise WorkerLost(str(failed[name]))  # the loop starts another learner
                return
        self._admit(name)

    def _admit(self, name: str) -> None:
        self._behind.discard(name)
        self._on_up(name)

    def _waits_for_place(self, name: str) -> bool:
        """Whether a worker cannot start since its node is gone. Others go on without it; where none has a place the run ends."""
        call = self._calls[name]
        waited_s = time.monotonic() - call.since
        if call.phase != "start" or waited_s <= self._deadline_s:
            return False
        missing = missing_places(self._resources, name, self._index[name])
        if missing is None:
            return False
        here = f"{where(name, 'start', self._about())}, waited {waited_s:.0f} s: {missing}"
        if all(missing_places(self._resources, other, index) for other, index in self._index.items()):
            raise RunError(f"{here}; {REMEDY}")
        self._faults.add("rollout_worker", f"{here}; the run goes on without it until there is one")
        self._calls[name] = replace(call, since=time.monotonic())
        return True

    def _replace_if_late(self, name: str, phase: str, since: float, what: str) -> None:
        waited_s = time.monotonic() - since
        if waited_s > self._deadline_s:
            here = where(name, phase, self._about())
            self.replace(name, WorkerLost(f"{here}: {what} within the deadline, for {waited_s:.0f} s"))

    def _about(self) -> str:
        return f"policy version {self._manifest.policy_version}" if self._manifest else ""
