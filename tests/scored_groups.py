"""Scored groups written by hand, for the tests of what is stored and shown."""

from collections.abc import Mapping, Sequence

from r1.types import Completion, FinishReason, Prompt, Score, ScoredGroup
from tasks.base import Problem


def scored_group(
    texts: Sequence[str],
    rewards: Sequence[float | None],
    *,
    group_id: int = 0,
    advantages: Sequence[float] | None = None,
    breakdowns: Sequence[Mapping[str, float | None]] | None = None,
    errors: Sequence[str | None] | None = None,
    finish_reasons: Sequence[FinishReason] | None = None,
    num_tokens: Sequence[int] | None = None,
    prefill: str = "",
    question: str = "12+7=",
) -> ScoredGroup:
    """A group whose completion i has texts[i], rewards[i] and num_tokens[i] tokens (2 where not given)."""
    size = len(texts)
    lengths = num_tokens or [2] * size
    reasons = finish_reasons or ["stop"] * size
    parts = breakdowns or [{"accuracy": reward} for reward in rewards]
    problem = Problem(problem_id=f"problem-{group_id}", question=question, reference={"answer": "19"})
    return ScoredGroup(
        prompt=Prompt(
            group_id=group_id, task="arithmetic", problem=problem, text=question + prefill, prefill=prefill, token_ids=(2, 5, 6)
        ),
        completions=tuple(
            Completion(
                group_id=group_id,
                sample_id=i,
                token_ids=tuple(range(lengths[i])),
                rollout_logprobs=(-0.5,) * lengths[i],
                text=texts[i],
                finish_reason=reasons[i],
                policy_version=4,
            )
            for i in range(size)
        ),
        scores=tuple(Score(reward=rewards[i], breakdown=parts[i], error=errors[i] if errors else None) for i in range(size)),
        advantages=tuple(advantages or [0.0] * size),
    )
