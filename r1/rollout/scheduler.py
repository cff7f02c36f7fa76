"""Which rollout worker samples which group: no clock and no Ray, so that the simulator runs this very code.

A group goes to the worker with the fewest groups in hand, one at a time, and no worker holds more than its capacity: a
worker that is held up by long completions gets no more, and what waits goes to whoever is free first.
"""

from collections import deque
from collections.abc import Collection, Sequence

from r1.types import GroupRequest


class GroupScheduler:
    """Groups that wait, and groups in hand by worker.

    >>> scheduler = GroupScheduler(capacity=2)
    >>> scheduler.hand_out()
    {}
    """

    def __init__(self, capacity: int) -> None:
        """capacity: groups that one worker may have in hand."""
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._capacity = capacity
        self._waiting: deque[GroupRequest] = deque()
        self._in_hand: dict[str, dict[int, GroupRequest]] = {}

    def submit(self, requests: Sequence[GroupRequest]) -> None:
        """Let groups of one step wait: behind those of this step and of earlier ones, before those of later steps."""
        later: list[GroupRequest] = []
        while requests and self._waiting and self._waiting[-1].step > requests[0].step:
            later.append(self._waiting.pop())
        self._waiting.extend([*requests, *reversed(later)])

    def add_worker(self, name: str) -> None:
        assert name not in self._in_hand, f"{name} is there already"
        self._in_hand[name] = {}

    def remove_worker(self, name: str) -> int:
        """Take back what the worker had in hand, to the front and in order; returns how many groups that were."""
        lost = self._in_hand.pop(name, {})
        self._waiting.extendleft(reversed(lost.values()))
        return len(lost)

    def hand_out(self) -> dict[str, list[GroupRequest]]:
        """Give what waits to workers with room; returns what each one has got now."""
        given: dict[str, list[GroupRequest]] = {}
        while self._waiting and self._in_hand:
            # Of equals the first that was added: the same groups in the same order give the same answer.
            name = min(self._in_hand, key=lambda worker: len(self._in_hand[worker]))
            if len(self._in_hand[name]) >= self._capacity:
                break
            request = self._waiting.popleft()
            self._in_hand[name][request.ticket] = request
            given.setdefault(name, []).append(request)
        return given

    def finish(self, name: str, ticket: int) -> GroupRequest | None:
        """Note that a worker has finished a group; None when it did not have it in hand (any more)."""
        return self._in_hand.get(name, {}).pop(ticket, None)

    def cancel(self, tickets: Collection[int]) -> dict[str, list[int]]:
        """Drop these groups, waiting or in hand; returns worker -> tickets that it had in hand."""
        self._waiting = deque(request for request in self._waiting if request.ticket not in tickets)
        cancelled = {name: [ticket for ticket in held if ticket in tickets] for name, held in self._in_hand.items()}
        for name, dropped in cancelled.items():
            for ticket in dropped:
                del self._in_hand[name][ticket]
        return {name: dropped for name, dropped in cancelled.items() if dropped}

    def num_in_hand(self, name: str | None = None) -> int:
        """Groups that a worker, or all together, have in hand."""
        return sum(len(held) for worker, held in self._in_hand.items() if name in (None, worker))

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def forget(self) -> None:
        """Drop everything that waits or is in hand; workers stay."""
        self._waiting.clear()
        for held in self._in_hand.values():
            held.clear()
