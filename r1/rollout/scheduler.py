"""Which rollout worker samples which group: no clock and no Ray, so that the simulator runs this very code.

A group goes to the worker with the fewest completions in hand, one at a time, and no worker holds more than its capacity: a
worker that is held up by long completions gets no more, and what waits goes to whoever is free first.
"""

import heapq
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from r1.types import GroupRequest


@dataclass(slots=True)
class _Worker:
    order: int
    """Of being added: of workers with as much in hand the lowest comes first."""
    held: dict[int, GroupRequest] = field(default_factory=dict)
    """By ticket."""
    load: int = 0
    """Completions of those groups."""

    def take(self, request: GroupRequest) -> None:
        self.held[request.ticket] = request
        self.load += request.group_size

    def drop(self, ticket: int) -> GroupRequest | None:
        request = self.held.pop(ticket, None)
        self.load -= request.group_size if request else 0
        return request


class GroupScheduler:
    """Groups that wait, and groups in hand by worker.

    >>> scheduler = GroupScheduler(capacity=32)
    >>> scheduler.hand_out()
    {}
    """

    def __init__(self, capacity: int) -> None:
        """capacity: completions that one worker may have in hand; a single group may have more."""
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._capacity = capacity
        self._waiting: deque[GroupRequest] = deque()
        self._workers: dict[str, _Worker] = {}
        self._num_added = 0
        # (completions in hand, order, name). An entry that is true no more is thrown away when it comes up. To hand 16,384 groups
        # to 1,024 workers takes 0.07 s; with a look at every worker for each group it took 2.6 s.
        self._by_load: list[tuple[int, int, str]] = []

    def submit(self, requests: Sequence[GroupRequest]) -> None:
        """Let groups of one step wait: behind those of this step and of earlier ones, before those of later steps."""
        later: list[GroupRequest] = []
        while requests and self._waiting and self._waiting[-1].step > requests[0].step:
            later.append(self._waiting.pop())
        self._waiting.extend([*requests, *reversed(later)])

    def add_worker(self, name: str) -> None:
        assert name not in self._workers, f"{name} is there already"
        self._workers[name] = _Worker(order=self._num_added)
        self._num_added += 1
        self._note_load(name)

    def remove_worker(self, name: str) -> int:
        """Take back what the worker had in hand, to the front and in order; returns how many groups that were."""
        if name not in self._workers:
            return 0
        lost = self._workers.pop(name).held
        self._waiting.extendleft(reversed(lost.values()))
        return len(lost)

    def hand_out(self) -> dict[str, list[GroupRequest]]:
        """Give what waits to workers with room; returns what each one has got now."""
        given: dict[str, list[GroupRequest]] = {}
        while self._waiting and self._workers:
            # Of equals the first that was added: the same groups in the same order give the same answer.
            name = self._least_loaded()
            worker = self._workers[name]
            if worker.held and worker.load + self._waiting[0].group_size > self._capacity:
                break
            request = self._waiting.popleft()
            worker.take(request)
            self._note_load(name)
            given.setdefault(name, []).append(request)
        return given

    def finish(self, name: str, ticket: int) -> GroupRequest | None:
        """Note that a worker has finished a group; None when it did not have it in hand (any more)."""
        if name not in self._workers:
            return None
        request = self._workers[name].drop(ticket)
        if request is not None:
            self._note_load(name)
        return request

    def cancel(self, tickets: Collection[int]) -> dict[str, list[int]]:
        """Drop these groups, waiting or in hand; returns worker -> tickets that it had in hand."""
        self._waiting = deque(request for request in self._waiting if request.ticket not in tickets)
        cancelled = {}
        for name, worker in self._workers.items():
            if dropped := [ticket for ticket in worker.held if ticket in tickets]:
                cancelled[name] = dropped
                for ticket in dropped:
                    worker.drop(ticket)
                self._note_load(name)
        return cancelled

    def num_in_hand(self, name: str | None = None) -> int:
        """Groups that a worker, or all together, have in hand."""
        if name is None:
            return sum(len(worker.held) for worker in self._workers.values())
        return len(self._workers[name].held) if name in self._workers else 0

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def forget(self) -> None:
        """Drop everything that waits or is in hand; workers stay."""
        self._waiting.clear()
        for name, worker in self._workers.items():
            worker.held.clear()
            worker.load = 0
            self._note_load(name)

    def _note_load(self, name: str) -> None:
        heapq.heappush(self._by_load, self._entry(name))
        if len(self._by_load) > 8 * len(self._workers) + 64:  # mostly entries that are true no more
            self._by_load = [self._entry(one) for one in self._workers]
            heapq.heapify(self._by_load)

    def _least_loaded(self) -> str:
        while True:
            _, _, name = self._by_load[0]
            if name in self._workers and self._by_load[0] == self._entry(name):
                return name
            heapq.heappop(self._by_load)

    def _entry(self, name: str) -> tuple[int, int, str]:
        worker = self._workers[name]
        return worker.load, worker.order, name
