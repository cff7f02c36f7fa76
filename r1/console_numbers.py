"""The numbers of a step as the console writes them, from the events of metrics.jsonl."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from r1.cli.printing import format_number
from r1.metrics import FORMAT_KEY, PHASES
from r1.run_history import RECENT

Event = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """One of them."""

    label: str
    text: str
    change: str = ""
    """Against the mean of the steps before, with its sign; "" for the first step, or where there is nothing to compare."""


# Label, metric, format, whether a line of a step has it; in the order of the panel's columns.
_NUMBERS = (
    ("reward", "reward", ".2f", True),
    ("accuracy", "accuracy", ".2f", True),
    ("format", FORMAT_KEY, ".2f", True),
    ("tokens", "completion_tokens", ".1f", True),
    ("truncated", "truncated_share", ".2f", False),
    ("entropy", "entropy", ".3f", False),
    ("zero-variance", "zero_variance_share", ".2f", True),
    ("clip", "clip_share", ".2f", True),
    ("mismatch", "mismatch", ".1e", True),
    ("kl", "kl", ".3f", False),
)


def line_numbers(event: Event) -> list[Number]:
    """What a line says of a step or an evaluation; what was not measured is left out, what was not finite is nan."""
    return [number for number, in_line in _numbers(event, []) if in_line]


def panel_numbers(event: Event, before: Sequence[Event]) -> list[Number]:
    """What the panel says of a step; before: the steps before it, of which the last RECENT count."""
    return [number for number, _ in _numbers(event, before[-RECENT:])]


def heldout_text(last: Event, first: Event) -> str:
    """What the panel says of the last evaluation, against the first one."""
    parts = [f"accuracy {_with_error(last)} after step {last['step']}"]
    if first["step"] != last["step"]:
        parts.append(f"{_with_error(first)} after step {first['step']}")
    others = [number for number in line_numbers(last) if number.label not in ("reward", "accuracy")]
    return ", ".join([*parts, *(f"{number.label} {number.text}" for number in others)])


def step_seconds(event: Event) -> float:
    """All phases of a step together. Not the time between two events: evaluations and checkpoints are no steps."""
    return sum(seconds or 0.0 for seconds in event["timings_s"].values())


def phase_seconds(event: Event) -> list[Number]:
    """The seconds of each phase that the step had."""
    timings = event["timings_s"]
    return [Number(label=phase, text=f"{timings[phase] or 0.0:.1f}s") for phase in PHASES if phase in timings]


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours from one hour on.

    >>> clock(115.2), clock(3725)
    ('1:55', '1:02:05')
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _with_error(event: Event) -> str:
    """The accuracy, with half of its 95 % interval where there is one."""
    accuracy, error = event["metrics"].get("accuracy"), event["metrics"].get("accuracy_error")
    return f"{format_number(accuracy)}{'' if error is None else f' +- {error:.2f}'}"


def _numbers(event: Event, before: Sequence[Event]) -> list[tuple[Number, bool]]:
    metrics, earlier = _with_clip_share(event["metrics"]), [_with_clip_share(other["metrics"]) for other in before]
    shown = []
    for label, name, spec, in_line in _NUMBERS:
        if name in metrics:
            known = [value for other in earlier if (value := other.get(name)) is not None]
            shown.append((_number(label, metrics[name], known, spec), in_line))
    return shown


def _number(label: str, value: float | None, before: Sequence[float], spec: str) -> Number:
    if value is None:
        return Number(label=label, text="nan")
    change = format(value - fmean(before), f"+{spec}") if before else ""
    if change and float(change) == 0:
        change = change.replace("-", "+", 1)  # what is rounded to nothing has no direction
    return Number(label=label, text=format(value, spec), change=change)


def _with_clip_share(metrics: Mapping[str, float | None]) -> Mapping[str, float | None]:
    parts = [metrics[name] for name in ("clip_low_share", "clip_high_share") if name in metrics]
    if not parts:
        return metrics
    known = [part for part in parts if part is not None]
    return {**metrics, "clip_share": sum(known) if len(known) == len(parts) else None}
