"""What a figure is: the metrics that it draws, how, and what it tells."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

SECTIONS: Mapping[str, str] = {
    "learning": "Learning",
    "policy": "Policy and trust",
    "groups": "Groups",
    "optimizer": "Optimizer",
    "time": "Time",
    "faults": "Faults",
    "rest": "Everything else that is recorded",
}
"""Key -> heading, in the order of the page."""


@dataclass(frozen=True, slots=True)
class Line:
    """One metric in a figure."""

    metric: str
    label: str = ""
    """What the legend calls it; "" where the figure has one line only."""
    look: Literal["main", "thin"] = "main"
    """"main": each step pale, their centred mean strong. "thin": each step as a dotted line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FigureSpec:
    """One figure over the steps."""

    key: str
    """Names it in the page; unique."""
    section: str
    """A key of SECTIONS."""
    title: str
    tells: str
    """One or two sentences beneath the title."""
    lines: tuple[Line, ...]
    heldout: tuple[Line, ...] = ()
    """Drawn as points; held-out evaluations are few."""
    is_share: bool = False
    """0 .. 1 as percent."""
    has_whole_scale: bool = False
    """The axis is 0 .. 1 whatever the values are."""
    is_log: bool = False
    """A logarithmic axis, where all values are above 0."""
    bound: str | None = None
    """The option that holds a bound on the values; drawn as a line where it does not lie far above them."""
    bound_label: str = "bound"
    """What the legend calls it, before its value."""
    unless: float | None = None
    """Left out where all values are this: nothing happened."""
