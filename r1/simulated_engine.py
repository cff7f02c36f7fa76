"""An engine on a fake clock: what decodes together takes its time together. No torch, no vLLM.

It jumps from the end of one completion to the next: between two ends nothing changes, so nothing has to be stepped through.
"""

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSpeed:
    """How fast one engine is.

    >>> EngineSpeed(iteration_s=0.02, sequence_s=0.0001).seconds_per_iteration(100)
    0.03
    """

    iteration_s: float
    """Seconds of one token for every running completion, however many there are: reading the weights, mostly."""
    sequence_s: float
    """Seconds that each running completion adds to that."""
    prefill_token_s: float = 0.0
    """Seconds of one prompt token; decoding stands still meanwhile."""

    def seconds_per_iteration(self, num_running: int) -> float:
        return self.iteration_s + self.sequence_s * num_running

    def tokens_per_s(self, num_running: int) -> float:
        return num_running / self.seconds_per_iteration(num_running)


class SimulatedEngine:
    """Groups go in with the lengths that their completions are going to have, tickets come out when they are whole.

    >>> engine = SimulatedEngine(EngineSpeed(iteration_s=1.0, sequence_s=0.0), max_num_seqs=8)
    >>> engine.add(ticket=0, lengths=[2, 5], prompt_tokens=3)
    >>> engine.next_s()
    5.0
    >>> engine.advance(5.0)
    >>> engine.take_finished()
    [0]
    """

    def __init__(self, speed: EngineSpeed, max_num_seqs: int) -> None:
        self._speed, self._max_num_seqs = speed, max_num_seqs
        self.now_s = 0.0
        self.is_stopped = False
        """Does not decode: its weights are being loaded."""
        self.busy_s = 0.0
        """Seconds in which anything was decoded or prefilled."""
        self.slot_s = 0.0
        """Completions that were being decoded, summed over time: completion-seconds."""
        self._iteration = 0.0
        """Tokens that a completion which had run from the start would have by now."""
        self._prefill_s = 0.0
        """Seconds of prefill that are still to be done."""
        self._running: list[tuple[float, float]] = []
        """(iteration of its last token, iteration before its first) of each running completion; the first to end stands last."""
        self._waiting: deque[tuple[int, int]] = deque()
        """(ticket, length) of completions for which the batch has no place yet."""
        self._ends: list[tuple[float, int]] = []
        """(iteration of the last token, ticket) of each group whose completions all run, a heap."""
        self._begun: dict[int, tuple[int, float]] = {}
        """Ticket -> (completions that wait for a place, last iteration of those that run) of the other groups."""
        self._prompt_tokens: dict[int, int] = {}
        """Ticket -> tokens of its prompt, of all groups that are not whole."""

    def add(self, ticket: int, lengths: Sequence[int], prompt_tokens: int) -> None:
        """Begin a group now. Its prompt is computed once: siblings share the prefix cache."""
        self._prefill_s += self._speed.prefill_token_s * prompt_tokens
        self._prompt_tokens[ticket] = prompt_tokens
        if self._waiting or len(self._running) + len(lengths) > self._max_num_seqs:
            self._begun[ticket] = (len(lengths), 0.0)
            self._waiting.extend((ticket, length) for length in lengths)
            self._fill()
            return
        start = self._iteration
        self._running.extend((start + length, start) for length in lengths)
        self._running.sort(reverse=True)
        heapq.heappush(self._ends, (start + max(lengths), ticket))

    def forget_cache(self) -> None:
        """Compute the keys and values of what runs anew, prompts and completions so far."""
        produced = sum(self._iteration - start for _, start in self._running)
        self._prefill_s += self._speed.prefill_token_s * (produced + sum(self._prompt_tokens.values()))

    def next_s(self) -> float:
        """When it has to be looked at again if nothing is added: a group is whole, or a completion gets a place."""
        if self.is_stopped:
            return math.inf
        if self._ends and self._ends[0][0] <= self._iteration:
            return self.now_s
        if not self._running:
            return math.inf
        stop = self._ends[0][0] if self._ends else math.inf
        if self._waiting:
            stop = min(stop, self._running[-1][0])
        # The very sums of `advance`, in its order: the two must agree to the last bit, or an end would be missed.
        now_s, iteration = self.now_s + self._prefill_s, self._iteration
        iteration_s, sequence_s = self._speed.iteration_s, self._speed.sequence_s
        for num_running in range(len(self._running), 0, -1):
            end = self._running[num_running - 1][0]
            now_s += (end - iteration) * (iteration_s + sequence_s * num_running)
            iteration = end
            if end >= stop:
                return now_s
        raise AssertionError("a group that runs has an end")

    def advance(self, until_s: float) -> None:
        """Decode up to a time, which must not lie beyond `next_s`."""
        if self.is_stopped or not self._running:
            self.now_s = until_s
            return
        self.busy_s += until_s - self.now_s
        prefill_s = self._prefill_s
        if self.now_s + prefill_s > until_s:
            self._prefill_s -= until_s - self.now_s
            self.now_s = until_s
            return
        self._prefill_s = 0.0
        now_s, iteration, slot_s, running = self.now_s + prefill_s, self._iteration, self.slot_s, self._running
        iteration_s, sequence_s = self._speed.iteration_s, self._speed.sequence_s
        for num_running in range(len(running), 0, -1):
            end = running[-1][0]
            seconds = iteration_s + sequence_s * num_running
            end_s = now_s + (end - iteration) * seconds
            if end_s > until_s:
                slot_s += (until_s - now_s) * num_running
                iteration += (until_s - now_s) / seconds
                break
            slot_s += (end_s - now_s) * num_running
            now_s, iteration = end_s, end
            running.pop()
        self.now_s, self._iteration, self.slot_s = until_s, iteration, slot_s
        self._fill()

    def take_finished(self) -> list[int]:
        """Return the tickets of the groups that have become whole."""
        finished = []
        while self._ends and self._ends[0][0] <= self._iteration:
            finished.append(heapq.heappop(self._ends)[1])
            del self._prompt_tokens[finished[-1]]
        return finished

    @property
    def num_unfinished(self) -> int:
        """Groups that are not whole."""
        return len(self._prompt_tokens)

    def _fill(self) -> None:
        """Give places in the batch to what waits, first come, first served."""
        if not self._waiting:
            return
        while self._waiting and len(self._running) < self._max_num_seqs:
            ticket, length = self._waiting.popleft()
            end = self._iteration + length
            self._running.append((end, self._iteration))
            num_left, last = self._begun[ticket]
            self._begun[ticket] = (num_left - 1, max(last, end))
            if num_left == 1:
                heapq.heappush(self._ends, (self._begun.pop(ticket)[1], ticket))
        self._running.sort(reverse=True)
