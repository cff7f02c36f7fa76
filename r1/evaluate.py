"""Held-out evaluation with the run's own sampler and scorer: what it measures is what training optimises."""

from collections.abc import Sequence

from r1.protocols import Sampler, Scorer
from r1.step_metrics import Correctness, rollout_metrics
from r1.step_sampler import sample
from r1.types import PromptBatch, ScoredGroup


def evaluate(
    batches: Sequence[PromptBatch], sampler: Sampler, scorer: Scorer, correctness: Correctness
) -> tuple[dict[str, float], list[ScoredGroup]]:
    """Sample and score held-out prompts; returns pass@1 metrics over all completions, and the groups for the traces."""
    scored: list[ScoredGroup] = []
    for batch in batches:
        sampler.submit(batch)
    for batch in batches:
        groups = sample(batch, sampler, scorer)
        for group, scores in zip(groups, scorer.collect(groups), strict=True):
            no_advantages = (0.0,) * len(scores)
            scored.append(
                ScoredGroup(prompt=group.prompt, completions=group.completions, scores=scores, advantages=no_advantages)
            )
    metrics = rollout_metrics(scored, correctness)
    # Meaningless for one completion a problem.
    return {name: value for name, value in metrics.items() if name not in ("zero_variance_share", "duplicate_share")}, scored
