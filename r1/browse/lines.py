"""One line of each list: a run, a step, a group, a completion; and the columns that the screens show of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from r1.browse.listing import Column
from tasks.base import Split


@dataclass(frozen=True, slots=True, order=True)
class StepKey:
    """One trace file. Sorts in the order of time: the held-out evaluation of a step comes after it."""

    step: int
    """0: before training."""
    is_heldout: bool
    """A held-out evaluation instead of a training step."""

    @property
    def split(self) -> Split:
        """As the trace store calls it."""
        return "heldout" if self.is_heldout else "train"

    def __str__(self) -> str:
        return f"step {self.step} {'held-out' if self.is_heldout else 'training'}"


CompletionKey = tuple[int, int]
"""(group_id, sample_id)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLine:
    """A run folder in one line."""

    key: Path
    """The folder."""
    last_step: int | None
    """The last that has traces or metrics."""
    reward: float | None
    """Mean of the last step on record."""
    heldout_accuracy: float | None
    """Of the last evaluation on record."""
    written_s: float
    """Seconds since something was written, at the time of reading."""
    unreadable: str = ""
    """The file whose numbers are missing because it is damaged."""
    num_errors: int = 0
    num_truncated: float = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class StepLine:
    """A trace file in one line; what is None is not known, or not yet."""

    key: StepKey
    num_completions: int | None = None
    reward: float | None = None
    parts: Mapping[str, float | None] = field(default_factory=dict)
    """Name of a reward function -> its mean unweighted value; and "accuracy"."""
    tokens: float | None = None
    """Mean length of a completion."""
    num_truncated: float | None = None
    """Share that was cut off."""
    num_errors: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletionLine:
    """A completion in one line."""

    key: CompletionKey
    reward: float | None
    parts: Mapping[str, float | None]
    """Name of a reward function -> its unweighted value."""
    advantage: float | None
    tokens: int
    """Length, end-of-sequence token included."""
    finish_reason: str
    error: str | None

    @property
    def num_errors(self) -> int:
        """1 when it could not be judged."""
        return int(self.error is not None)

    @property
    def num_truncated(self) -> int:
        """1 when it was cut off."""
        return int(self.finish_reason == "length")


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupLine:
    """A group in one line."""

    key: int
    """group_id."""
    task: str
    problem_id: str
    question: str
    completions: Sequence[CompletionLine]
    """By rising sample_id; at least one."""
    reward: float | None
    """Mean of those that were judged."""
    spread: float | None
    """Sample standard deviation, as GRPO divides by; None with fewer than two rewards."""
    best: float | None
    tokens: float
    """Mean length of a completion."""
    num_truncated: int
    num_errors: int
    is_learnt: bool


def group_line(
    group_id: int, task: str, problem_id: str, question: str, is_learnt: bool, completions: Sequence[CompletionLine]
) -> GroupLine:
    """Sum a group up."""
    rewards = [line.reward for line in completions if line.reward is not None]
    mean = sum(rewards) / len(rewards) if rewards else None
    squares = 0.0 if mean is None else sum((reward - mean) ** 2 for reward in rewards)
    return GroupLine(
        key=group_id,
        task=task,
        problem_id=problem_id,
        question=question,
        completions=completions,
        reward=mean,
        spread=math.sqrt(squares / (len(rewards) - 1)) if len(rewards) > 1 else None,
        best=max(rewards, default=None),
        tokens=sum(line.tokens for line in completions) / len(completions),
        num_truncated=sum(line.num_truncated for line in completions),
        num_errors=sum(line.num_errors for line in completions),
        is_learnt=is_learnt,
    )


def run_columns(lines: Sequence[RunLine]) -> list[Column[RunLine]]:
    """The columns of the list of runs; "not readable" only where some run has a damaged file."""
    unreadable: Column[RunLine] = Column(
        title="not readable", value=lambda line: line.unreadable, is_text=True, style=lambda _: "#ff8787"
    )
    return [
        Column(title="run", value=lambda line: line.key.name, is_wide=True),
        Column(title="last step", value=lambda line: line.last_step),
        Column(title="reward", value=lambda line: line.reward, spec=".2f"),
        Column(title="held-out accuracy", value=lambda line: line.heldout_accuracy, spec=".2f"),
        Column(title="written", value=lambda line: line.written_s, show=lambda line: f"{_duration(line.written_s)} ago"),
        *([unreadable] if any(line.unreadable for line in lines) else []),
    ]


def step_columns(lines: Sequence[StepLine]) -> list[Column[StepLine]]:
    """The columns of the list of steps, with one for each reward function that any of them knows."""

    def split_style(line: StepLine) -> str:
        return "#d787ff" if line.key.is_heldout else ""

    return [
        Column(title="step", value=lambda line: line.key.step),
        Column(title="split", value=lambda line: line.key.split, is_text=True, style=split_style),
        Column(title="completions", value=lambda line: line.num_completions),
        Column(title="reward", value=lambda line: line.reward, spec=".2f", style=lambda _: "#87d787"),
        *_part_columns(lines),
        Column(title="tokens", value=lambda line: line.tokens, spec=".1f"),
        Column(title="truncated", value=lambda line: line.num_truncated, spec=".2f"),
        Column(title="errors", value=lambda line: line.num_errors, style=lambda line: "#ff8787" if line.num_errors else ""),
    ]


def group_columns(lines: Sequence[GroupLine]) -> list[Column[GroupLine]]:
    """The columns of the groups of a step; "learnt" only where some group is not."""
    learnt: Column[GroupLine] = Column(title="learnt", value=lambda line: "yes" if line.is_learnt else "no", is_text=True)
    errors: Column[GroupLine] = Column(title="errors", value=lambda line: line.num_errors, style=lambda _: "#ff8787")
    return [
        Column(title="group", value=lambda line: line.key),
        Column(title="task", value=lambda line: line.task, is_text=True),
        Column(title="problem", value=lambda line: line.problem_id, is_text=True),
        Column(title="reward", value=lambda line: line.reward, spec=".2f", style=lambda _: "#87d787"),
        Column(title="spread", value=lambda line: line.spread, spec=".2f", style=lambda line: "" if line.spread else "dim"),
        Column(title="best", value=lambda line: line.best, spec=".2f"),
        Column(title="tokens", value=lambda line: line.tokens, spec=".1f"),
        Column(title="truncated", value=lambda line: line.num_truncated, style=_truncated_style),
        *([] if all(line.is_learnt for line in lines) else [learnt]),
        *([errors] if any(line.num_errors for line in lines) else []),
        Column(title="question", value=lambda line: line.question, is_wide=True),
    ]


def completion_columns(lines: Sequence[CompletionLine]) -> list[Column[CompletionLine]]:
    """The columns of the completions of a group, with one for each reward function."""
    error: Column[CompletionLine] = Column(title="error", value=lambda line: line.error, is_text=True, style=lambda _: "#ff8787")
    return [
        Column(title="sample", value=lambda line: line.key[1]),
        Column(title="reward", value=lambda line: line.reward, spec=".2f", style=lambda _: "#87d787"),
        *_part_columns(lines),
        Column(title="advantage", value=lambda line: line.advantage, spec="+.2f"),
        Column(title="tokens", value=lambda line: line.tokens),
        Column(title="finish", value=lambda line: line.finish_reason, is_text=True, style=_truncated_style),
        *([error] if any(line.num_errors for line in lines) else []),
    ]


def _part_columns(lines: "Sequence[StepLine] | Sequence[CompletionLine]") -> list[Column]:  # type: ignore[type-arg]
    def column(name: str) -> Column:  # type: ignore[type-arg]
        return Column(title=name, value=lambda line: line.parts.get(name), spec=".2f")

    return [column(name) for name in dict.fromkeys(name for line in lines for name in line.parts)]


def _truncated_style(line: "GroupLine | CompletionLine") -> str:
    return "#d7d787" if line.num_truncated else ""


def _duration(seconds: float) -> str:
    """A duration in its largest unit.

    >>> [_duration(seconds) for seconds in (59, 61, 7200, 200_000)]
    ['59 s', '1 min', '2 h', '2 days']
    """
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size * (2 if unit == "days" else 1):
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
