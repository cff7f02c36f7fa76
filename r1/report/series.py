"""One metric of a run over its steps, as it is drawn."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1.curves import smooth


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """A metric where it was recorded.

    >>> Series(steps=[1, 2, 3], values=[0.5, None, 0.75]).gaps
    [2]
    """

    steps: Sequence[int]
    values: Sequence[float | None]
    """[N] None where it was not finite: a gap in the line."""

    def __bool__(self) -> bool:
        return bool(self.steps)

    @property
    def known(self) -> list[float]:
        return [value for value in self.values if value is not None]

    @property
    def gaps(self) -> list[int]:
        """The steps whose value was not finite."""
        return [step for step, value in zip(self.steps, self.values, strict=True) if value is None]

    def is_always(self, constant: float) -> bool:
        """Whether it says nothing: every value is `constant`, and none is missing."""
        return all(value == constant for value in self.values)


def series_of(events: Sequence[Mapping[str, Any]], metric: str) -> Series:
    """The metric in these events; empty where none of them has it."""
    having = [event for event in events if metric in event["metrics"]]
    return Series(steps=[event["step"] for event in having], values=[event["metrics"][metric] for event in having])


def smoothing_window(num_values: int) -> int:
    """As in r1.curves: a tenth of the run, odd; 1, which is no smoothing, below three values."""
    return 1 if num_values < 3 else max(3, math.ceil(num_values / 10) | 1)


def smoothed(series: Series, window: int) -> Series:
    """The centred mean over `window` known values; gaps stay gaps."""
    means = iter(smooth(series.known, window))
    return Series(steps=series.steps, values=[None if value is None else next(means) for value in series.values])


def smoothed_over(series: Series, window: int) -> list[int | None]:
    """[N] Of how many values each of `smoothed` is the mean: fewer than the window at both ends.

    >>> smoothed_over(Series(steps=[1, 2, 3, 4], values=[0.5, None, 0.75, 0.5]), window=3)
    [2, None, 3, 2]
    """
    num_known = len(series.known)
    reach, order = window // 2, iter(range(num_known))
    places = [None if value is None else next(order) for value in series.values]
    return [None if at is None else min(at, reach) + 1 + min(num_known - 1 - at, reach) for at in places]


def rounded(value: float | None) -> float | None:
    """Six significant digits: what a figure can show, in a third of the file's size.

    >>> rounded(0.30468749999), rounded(1.5204929313131246e-08)
    (0.304687, 1.52049e-08)
    """
    return None if value is None else float(f"{value:.6g}")


def say_steps(steps: Sequence[int], at_most: int = 12) -> str:
    """Name steps, runs of neighbours as one.

    >>> say_steps([3, 4, 5, 9])
    '3-5, 9'
    """
    spans: list[list[int]] = []
    for step in steps:
        if spans and step == spans[-1][1] + 1:
            spans[-1][1] = step
        else:
            spans.append([step, step])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in spans]
    more = f" and {len(texts) - at_most} more" if len(texts) > at_most else ""
    return ", ".join(texts[:at_most]) + more
