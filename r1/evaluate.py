"""Held-out evaluation with the run's own sampler and scorer: what it measures is what training optimises."""

from collections.abc import Sequence
from contextlib import ExitStack

from r1.evaluation.majority import MATH, ONE_RIGHT_ANSWER, MathAnswers, never_the_same
from r1.evaluation.metrics import flat, task_metrics
from r1.evaluation.samples import evaluated
from r1.protocols import Sampler, Scorer
from r1.step_metrics import Correctness, rollout_metrics
from r1.step_sampler import sample
from r1.types import PromptBatch, ScoredGroup


def evaluate(
    batches: Sequence[PromptBatch], sampler: Sampler, scorer: Scorer, correctness: Correctness
) -> tuple[dict[str, float], list[ScoredGroup]]:
    """Sample and score held-out prompts; returns pass@1 metrics over all completions, and the groups for the traces.

    The engines stop for nothing: the batches wait together, in front of those of later steps that are begun already.
    """
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


def sample_statistics(groups: Sequence[ScoredGroup], correctness: Correctness, deadline_s: float) -> dict[str, float]:
    """What `launch.evaluate` says of the same completions: accuracy_error, and with k > 1 samples a problem pass@k and maj@k.

    accuracy_error: half of the 95 % confidence interval over problems; absent for a single problem. Of several tasks each has
    its own, as NAME/TASK. deadline_s: for comparing two answers.
    """
    tasks = sorted({group.prompt.task for group in groups})
    statistics: dict[str, float] = {}
    for task in tasks:
        name = correctness if isinstance(correctness, str) else correctness[task]
        problems = [evaluated(group, name) for group in groups if group.prompt.task == task]
        k = len(problems[0].samples)
        with ExitStack() as cleanup:
            needs_grader = k > 1 and name == MATH
            same = cleanup.enter_context(MathAnswers(deadline_s)) if needs_grader else never_the_same
            values = flat(task_metrics(problems, same, one_right_answer=name in ONE_RIGHT_ANSWER))
        suffix = f"/{task}" if len(tasks) > 1 else ""
        of_several = ("pass@", "maj@") if k > 1 else ()
        statistics |= {
            f"{key}{suffix}": value for key, value in values.items() if key == "accuracy_error" or key.startswith(of_several)
        }
    return statistics
