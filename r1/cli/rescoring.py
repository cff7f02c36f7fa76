"""Judging stored completions again, for `r1 rewards rescore`: what today's reward functions say of a run's traces."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from r1.config import ScoringConfig
from r1.errors import UserError
from r1.prompts import get_template
from r1.scoring import RewardPool
from r1.scoring_rules import Rewarding, with_context
from r1.traces import StepDamaged, TraceRow, list_trace_files, read_traces, say_left_out
from r1.types import Score
from rewards import REWARDS
from tasks.base import Split

Value = float | Literal["failed", "absent"] | None
"""A reward part: None where it could not be judged, "absent" where the traces do not have it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One reward part of one completion that is not what it was."""

    row: TraceRow
    part: str
    old: Value
    new: Value
    error: str | None
    """Why the new value is "failed"."""


@dataclass(kw_only=True, slots=True)
class Tally:
    """One reward part over all completions."""

    old: list[Value] = field(default_factory=list)
    new: list[Value] = field(default_factory=list)
    """As long as `old`."""

    @property
    def num_changed(self) -> int:
        return sum(is_changed(old, new) for old, new in zip(self.old, self.new, strict=True))


def steps_to_rescore(run: Path, step: int | None, split: Split) -> list[int]:
    """Return the steps that are stored, or the one of them that is asked for."""
    stored = list(list_trace_files(run, split))
    see = "see `r1 traces ls` for what is stored"
    if not stored:
        raise UserError(f"run folder {str(run)!r} holds no {split} traces; {see}")
    if step is not None and step not in stored:
        raise UserError(f"option '--step': {str(run)!r} holds no {split} traces of step {step}; {see}")
    return stored if step is None else [step]


def rescored(run: Path, steps: Sequence[int], split: Split, rewards: Sequence[str]) -> Iterator[list[tuple[TraceRow, Score]]]:
    """Yield the completions of one step after another with their new scores; each step's file is read when it is its turn.

    A damaged one is left out, unless it is the only one.

    rewards: what to judge by; when empty, what each step's traces carry.
    """
    max_tokens = _max_completion_tokens(run)
    with ExitStack() as stack:
        pools: dict[tuple[str, ...], RewardPool] = {}
        for step in steps:
            try:
                rows = read_traces(run, step, split)
            except StepDamaged as error:
                if len(steps) == 1:
                    raise
                say_left_out(error)
                rows = []
            names = tuple(rewards) or _stored_parts(rows)
            if not names:  # nothing in the file, or nothing that was rewarded
                yield []
                continue
            if names not in pools:
                by_task = {} if rewards else {task: Rewarding(weights=weights) for task, weights in _parts_by_task(rows).items()}
                pool = RewardPool(dict.fromkeys(names, 1.0), ScoringConfig(), by_task=by_task)
                pools[names] = stack.enter_context(pool)
            items = [(row.prefill + row.completion, _reference(row, max_tokens)) for row in rows]
            scores = pools[names].score_texts(items, [row.task for row in rows])
            yield list(zip(rows, scores, strict=True))


def compare(row: TraceRow, score: Score) -> Iterator[Change]:
    """Yield every part of the new score, changed or not, beside what the trace has."""
    for part, new in score.breakdown.items():
        # Parts behind one that ran out of time were not judged either, then as now: "failed" says it of all of them.
        old: Value = row.breakdown.get(part, "absent")
        yield Change(
            row=row,
            part=part,
            old="failed" if old is None and row.error is not None else old,
            new="failed" if new is None and score.error is not None else new,
            error=score.error,
        )


def is_changed(old: Value, new: Value) -> bool:
    """Whether a value is another one than it was; a part that the traces do not have cannot have changed.

    >>> is_changed(0.1 + 0.2, 0.3), is_changed(1.0, None), is_changed("absent", 1.0), is_changed("failed", 0.0)
    (False, True, False, True)
    """
    if isinstance(old, float) and isinstance(new, float):
        return not math.isclose(old, new, rel_tol=1e-9, abs_tol=1e-9)
    return old not in (new, "absent")


def _stored_parts(rows: Sequence[TraceRow]) -> tuple[str, ...]:
    parts = tuple(dict.fromkeys(part for row in rows for part in row.breakdown))
    unknown = [part for part in parts if ":" not in part and part not in REWARDS]
    if unknown:
        raise UserError(
            f"option '--reward': the traces of step {rows[0].step} carry the reward {unknown[0]!r}, which no function has as its "
            f"name any more; choose what to judge by with --reward: {', '.join(REWARDS)}, or path/to/file.py:function"
        )
    return parts


def _parts_by_task(rows: Sequence[TraceRow]) -> dict[str, dict[str, float]]:
    """The parts that each task's completions have; a file holds several where a run mixed tasks."""
    return {
        task: dict.fromkeys((part for row in rows if row.task == task for part in row.breakdown), 1.0)
        for task in dict.fromkeys(row.task for row in rows)
    }


def _reference(row: TraceRow, max_tokens: int | None) -> dict[str, Any]:
    """What the reward functions got in training."""
    return with_context(
        row.reference,
        answer_form=get_template(row.template).answer_form,
        num_tokens=row.num_tokens,
        max_tokens=max_tokens,
        finish_reason=row.finish_reason,
        question=row.question,
    )


def _max_completion_tokens(run: Path) -> int | None:
    """The run's limit, which its traces do not carry; None when the run has no readable configuration."""
    try:
        # Not r1.config.load_config: a run of last year may have options that today's r1 does not know.
        limit = json.loads((run / "config.json").read_text(encoding="utf-8"))["rollout"]["max_completion_tokens"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return limit if isinstance(limit, int) else None
