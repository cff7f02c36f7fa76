"""What went wrong in a run and was put right: one line in the log each, counters in the metrics, a list in the summary."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One event.

    >>> Fault(time_s=0.0, kind="rollout_worker", text="rollout worker 1 died; 3 groups are sampled again").kind
    'rollout_worker'
    """

    time_s: float
    """time.time()"""
    kind: str
    """rollout_worker, reward_worker, reward_child, learner, tracker, storage or display: the counter in the metrics is
    `faults/<kind>`."""
    text: str
    """Who, what, and what was done about it."""


class FaultLog:
    """Collects faults; `say` is told each one at once."""

    def __init__(self, say: Callable[[str], None] = lambda text: None) -> None:
        self.faults: list[Fault] = []
        self._say = say

    def add(self, kind: str, text: str) -> None:
        self.faults.append(Fault(time_s=time.time(), kind=kind, text=text))
        self._say(f"fault: {text}")

    def counts(self) -> dict[str, float]:
        """Metrics: `faults/<kind>` -> how many there were so far in this process."""
        return {f"faults/{kind}": float(count) for kind, count in Counter(fault.kind for fault in self.faults).items()}
