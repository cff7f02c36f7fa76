"""What the `f` key understands: `>0.5`, `=0`, `<1`, `errors`, `truncated`, and several of them together."""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from r1.errors import UserError


class Filtered(Protocol):
    """What a filter looks at."""

    @property
    def reward(self) -> float | None:
        """None passes no comparison."""

    @property
    def num_errors(self) -> int | None:
        """Completions that could not be judged; None passes no filter."""

    @property
    def num_truncated(self) -> float | None:
        """Completions that were cut off, or their share."""


def _is_close(first: float, second: float) -> bool:
    # Weighted sums: 0.1 + 0.2 should be found by =0.3.
    return math.isclose(first, second, abs_tol=1e-9)


_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": lambda reward, bound: reward > bound or _is_close(reward, bound),
    "<=": lambda reward, bound: reward < bound or _is_close(reward, bound),
    "!=": lambda reward, bound: not _is_close(reward, bound),
    "=": _is_close,
    ">": operator.gt,
    "<": operator.lt,
}
_COMPARISON = re.compile(rf"({'|'.join(_COMPARISONS)})([+-]?(?:\d+\.?\d*|\.\d+))")

Condition = Callable[[Filtered], bool]


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that an item has to meet, all of them; without any, everything passes."""

    text: str = ""
    """As it was typed, for the header."""
    conditions: tuple[Condition, ...] = ()

    def keeps(self, item: Filtered) -> bool:
        """Whether the item is shown."""
        return all(condition(item) for condition in self.conditions)


def parse_filter(text: str) -> Filter:
    """Read what was typed; raises `UserError` for what is no filter.

    >>> parse_filter("> 0.5 truncated").text
    '>0.5 truncated'
    """
    words = re.sub(r"([<>=!])\s+", r"\1", text).split()
    return Filter(" ".join(words), tuple(_condition(word) for word in words))


def _condition(word: str) -> Condition:
    if word == "errors":
        return lambda item: bool(item.num_errors)
    if word == "truncated":
        return lambda item: bool(item.num_truncated)
    match = _COMPARISON.fullmatch(word)
    if match is None:
        raise UserError(f"filter: {word!r} is none; give >0.5, >=0.5, <1, <=1, =0, !=0, errors or truncated")
    compare, bound = _COMPARISONS[match[1]], float(match[2])
    return lambda item: item.reward is not None and compare(item.reward, bound)
