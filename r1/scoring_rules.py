"""What a reward function is given, and what its values become: the pure part of `r1.scoring`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1.errors import ScoringError
from r1.types import FinishReason, RolloutGroup, Score
from rewards.base import AnswerForm

MAX_ERROR_RATE = 0.02
"""Share of failed scores in a step above which the run stops."""
MIN_SAMPLE = 200
"""Scores over which MAX_ERROR_RATE is taken at least. A step may have 16 completions, of which one that times
out is 6 %: too few to tell a broken reward function from a hard case."""
FORMAT_GATE = "reasoning_format"
"""The reward whose 0.0 keeps the correctness reward from counting."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewarding:
    """How the completions of one task are rewarded."""

    weights: Mapping[str, float]
    """Reward name -> weight, in the order in which they are called."""
    correctness: str | None = None
    """The one of them that the format gate may close; None: no gate."""


def with_context(
    reference: Mapping[str, Any],
    *,
    answer_form: AnswerForm,
    num_tokens: int,
    max_tokens: int | None,
    finish_reason: FinishReason,
    question: str,
) -> dict[str, Any]:
    """Return the reference that a reward function gets: a problem's own, and facts of the sample (see rewards/base.py).

    What the problem has under one of these names stays, so that a data set can carry its own `answer_form`.
    max_tokens: None leaves it out.

    >>> with_context({"answer": "72", "answer_form": "box"}, answer_form="any", num_tokens=9, max_tokens=None,
    ...              finish_reason="stop", question="8*9=")
    {'answer_form': 'box', 'num_tokens': 9, 'finish_reason': 'stop', 'question': '8*9=', 'answer': '72'}
    """
    context: dict[str, Any] = {"answer_form": answer_form, "num_tokens": num_tokens}
    if max_tokens is not None:
        context["max_tokens"] = max_tokens
    return {**context, "finish_reason": finish_reason, "question": question, **reference}


def weighted_sum(breakdown: Mapping[str, float | None], weights: Mapping[str, float], gated: str | None) -> float | None:
    """Return the reward of a completion; None when one of its parts is None, even behind a closed gate.

    gated: the reward that earns nothing where FORMAT_GATE is 0.0; None when no reward is.

    >>> weights = {"math_answer": 1.0, "reasoning_format": 0.1}
    >>> weighted_sum({"math_answer": 1.0, "reasoning_format": 1.0}, weights, "math_answer")
    1.1
    >>> weighted_sum({"math_answer": 1.0, "reasoning_format": 0.0}, weights, "math_answer")
    0.0
    """
    is_closed = breakdown.get(FORMAT_GATE) == 0.0
    total = 0.0
    for name, weight in weights.items():
        value = breakdown[name]
        if value is None:  # what cannot be judged is not wrong, whatever its format
            return None
        # A penalty stays: leaving the tags out must not be a way round it.
        total += min(0.0, weight * value) if is_closed and name == gated else weight * value
    return total


def check_error_rate(problem_ids: Sequence[str], scores: Sequence[Score]) -> None:
    """Raise ScoringError with examples when more of a step's scores failed than `MAX_ERROR_RATE` allows."""
    failed = [f"{problem_id}: {score.error}" for problem_id, score in zip(problem_ids, scores, strict=True) if score.error]
    allowed = MAX_ERROR_RATE * max(len(scores), MIN_SAMPLE)
    if len(failed) > allowed:
        raise ScoringError(
            f"{len(failed)} of {len(scores)} scores failed, more than the {allowed:g} that may: "
            f"{'; '.join(failed[:3])}{'; ...' if len(failed) > 3 else ''}"
        )


def check_scores(groups: Sequence[RolloutGroup], scores: Sequence[Sequence[Score]]) -> None:
    """`check_error_rate` over a step's groups."""
    problem_ids = [group.prompt.problem.problem_id for group in groups for _ in group.completions]
    check_error_rate(problem_ids, [score for of_group in scores for score in of_group])
