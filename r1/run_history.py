"""A run's record up to some step, as the rules that warn of it read it (r1/sample_warnings.py, r1/learner_warnings.py)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from r1.config import RunConfig

RECENT = 10
"""Steps of a mean: the share of a single step is noisy, a step may have 16 prompts."""
FEWEST = 3
"""A mean over fewer steps says nothing yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunHistory:
    """What a rule may look at."""

    steps: Sequence[Mapping[str, Any]]
    """Events of `r1.metrics.read_metrics`, of steps alone, in order; at least one."""
    heldout: Sequence[Mapping[str, Any]] = ()
    """Events of the evaluations."""
    config: RunConfig | None = None
    """None: not known, and neither are its bounds."""
    window_means: dict[str, list[float | None]] = field(default_factory=dict)
    """What `windows` keeps: whoever follows a run step by step passes the same one, or each step reads the whole run again."""

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Of the last step; None stands for what was not finite."""
        metrics: Mapping[str, float | None] = self.steps[-1]["metrics"]
        return metrics

    def values(self, name: str, num: int, before: int = 0) -> list[float]:
        """The known values of a metric in the `num` steps before the last `before` ones."""
        end = max(0, len(self.steps) - before)
        return known_values(self.steps[max(0, end - num) : end], name)

    def mean(self, name: str, num: int = RECENT, before: int = 0) -> float | None:
        """Their mean; None for fewer than FEWEST."""
        values = self.values(name, num, before)
        return fmean(values) if len(values) >= FEWEST else None

    def windows(self, name: str) -> list[float | None]:
        """Means over steps 1 to RECENT, the RECENT after them and so on, without the last RECENT steps."""
        means = self.window_means.setdefault(name, [])
        num_windows = max(0, len(self.steps) // RECENT - 1)
        for start in range(len(means) * RECENT, num_windows * RECENT, RECENT):
            values = known_values(self.steps[start : start + RECENT], name)
            means.append(fmean(values) if values else None)
        return means

    def step_of_window(self, index: int) -> int:
        """The last step of one of `windows`."""
        step: int = self.steps[(index + 1) * RECENT - 1]["step"]
        return step

    def rise(self, name: str, num: int, apart: int) -> float | None:
        """By how much the mean over `num` steps is above that of `apart` steps ago."""
        now, then = self.mean(name, num), self.mean(name, num, before=apart)
        return None if now is None or then is None else now - then


Rule = Callable[[RunHistory], str | None]
"""What is wrong after the last step, in one sentence: the figure, what it means, what to do. None: nothing."""


def mismatch_is_bounded(config: RunConfig) -> bool:
    """Whether sync.max_logprob_diff holds for all tokens: over stale ones the mismatch says how far the policy has moved."""
    return config.rollout.max_staleness == 0


def one_of(*remedies: str | None) -> str:
    """Those that there are, of which the reader may choose.

    >>> one_of("dtype=float32", None, "a lower learner.learning_rate")
    'dtype=float32 or a lower learner.learning_rate'
    """
    *others, last = [remedy for remedy in remedies if remedy is not None]
    return f"{', '.join(others)} or {last}" if others else last


def known_values(events: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """The values of a metric, without events that lack it or where it was not finite."""
    return [value for event in events if (value := event["metrics"].get(name)) is not None]


def percent(share: float, digits: int = 0) -> str:
    """
    >>> percent(0.8203), percent(0.0131, 1)
    ('82 %', '1.3 %')
    """
    return f"{100 * share:.{digits}f} %"
