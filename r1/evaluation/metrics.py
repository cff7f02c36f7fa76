"""The numbers of one task: pass@1, pass@k, maj@k, lengths, and accuracy against a budget of tokens."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from r1.evaluation.majority import SameAnswers, majority_labels
from r1.evaluation.samples import EvaluatedProblem, Sample
from r1.sample_statistics import Estimate, estimate, majority_accuracy, pass_at_k


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetPoint:
    """Accuracy where a completion may have so many tokens."""

    budget: int
    """Tokens."""
    accuracy: Estimate
    unfinished_share: float
    """Completions that are longer than that, or were cut off."""
    completion_tokens: float
    """Mean tokens up to the budget; with those of the forced answers, where answers are forced."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskMetrics:
    """What an evaluation says of one task. Shares and means are over completions, estimates over problems."""

    num_problems: int
    num_samples: int
    """k, of each problem."""
    accuracy: Estimate
    """pass@1, which is avg@k: the share of right completions; those that could not be judged count as wrong."""
    pass_at: dict[int, Estimate]
    """k' -> pass@k', for the powers of two up to k, and k."""
    maj_at_k: Estimate
    completion_tokens: float
    truncated_share: float
    """Cut off at the token limit."""
    format_share: float | None
    """The mean of reasoning_format; None where it was never measured."""
    unjudged_share: float
    """Without a value of the correctness reward."""
    reward_errors: dict[str, int]
    """Reward name -> completions that it failed on."""
    budget_curve: list[BudgetPoint]
    """By rising budget: what a limit of so many tokens would have left, of these same completions."""
    forced_curve: list[BudgetPoint]
    """The same where those that are unfinished are made to answer (r1.evaluation.forcing); empty where none was."""


ForcedSamples = Mapping[int, Sequence[Sample]]
"""Budget -> the forced answers, one for each unfinished completion, in the order of the problems and their samples."""


def task_metrics(
    problems: Sequence[EvaluatedProblem],
    same: SameAnswers,
    budgets: Sequence[int] = (),
    forced: ForcedSamples | None = None,
    *,
    one_right_answer: bool = True,
) -> TaskMetrics:
    """Return the metrics of a task's problems, of which each has the same number of samples.

    same, one_right_answer: compare answers, see r1.evaluation.majority. budgets: tokens, rising. forced: for the forced curve.
    """
    if not problems:
        raise ValueError("there are no metrics of no problems")
    sizes = {len(problem.samples) for problem in problems}
    if len(sizes) > 1 or 0 in sizes:
        raise ValueError(f"each problem must have the same number of samples, got {sorted(sizes)}")
    [k] = sizes
    samples = [sample for problem in problems for sample in problem.samples]
    formats = [sample.format for sample in samples if sample.format is not None]
    pass_at = {
        smaller: estimate([pass_at_k(k, problem.num_right, smaller) for problem in problems]) for smaller in sample_counts(k)
    }
    return TaskMetrics(
        num_problems=len(problems),
        num_samples=k,
        accuracy=pass_at[1],
        pass_at=pass_at,
        maj_at_k=_majority(problems, same, one_right_answer),
        completion_tokens=fmean(sample.num_tokens for sample in samples),
        truncated_share=fmean(sample.is_truncated for sample in samples),
        format_share=fmean(formats) if formats else None,
        unjudged_share=fmean(not sample.is_judged for sample in samples),
        reward_errors=dict(sorted(Counter(sample.error for sample in samples if sample.error is not None).items())),
        budget_curve=[_within(problems, budget) for budget in budgets],
        forced_curve=[_forced(problems, budget, samples) for budget, samples in (forced or {}).items()],
    )


def flat(metrics: TaskMetrics) -> dict[str, float]:
    """Return the same as name -> number, for metrics.jsonl and its trackers.

    accuracy_error: half of the 95 % confidence interval, absent for a single problem.
    """
    values = {
        "accuracy": metrics.accuracy.mean,
        **{f"pass@{k}": of_k.mean for k, of_k in metrics.pass_at.items() if k > 1},
        f"maj@{metrics.num_samples}": metrics.maj_at_k.mean,
        "completion_tokens": metrics.completion_tokens,
        "truncated_share": metrics.truncated_share,
        "unjudged_share": metrics.unjudged_share,
    }
    if metrics.accuracy.half_width is not None:
        values["accuracy_error"] = metrics.accuracy.half_width
    if metrics.format_share is not None:
        values["format_share"] = metrics.format_share
    return values


def pass_rates(problems: Sequence[EvaluatedProblem]) -> dict[str, tuple[int, int]]:
    """Return problem_id -> (right, judged), of the samples of each problem."""
    return {problem.problem_id: (problem.num_right, problem.num_judged) for problem in problems}


def sample_counts(k: int) -> list[int]:
    """Return the powers of two below k, and k.

    >>> sample_counts(1), sample_counts(8), sample_counts(12)
    ([1], [1, 2, 4, 8], [1, 2, 4, 8, 12])
    """
    return [2**i for i in range(k.bit_length()) if 2**i < k] + [k]


def _majority(problems: Sequence[EvaluatedProblem], same: SameAnswers, one_right_answer: bool) -> Estimate:
    answers = [[sample.answer for sample in problem.samples] for problem in problems]
    right = [[sample.is_right for sample in problem.samples] for problem in problems]
    labels = majority_labels(answers, right, same, one_right_answer=one_right_answer)
    return estimate([majority_accuracy(*of_problem) for of_problem in zip(labels, right, strict=True)])


def _within(problems: Sequence[EvaluatedProblem], budget: int) -> BudgetPoint:
    """A limit of `budget` tokens would have cut off the longer completions, and with them their answers."""
    right = [[sample.is_right and sample.num_tokens <= budget for sample in problem.samples] for problem in problems]
    return _point(problems, budget, right, 0)


def _forced(problems: Sequence[EvaluatedProblem], budget: int, answers: Sequence[Sample]) -> BudgetPoint:
    """Those that are unfinished count as their forced answers do."""
    left = iter(answers)
    right = [
        [sample.is_right if sample.is_finished(budget) else next(left).is_right for sample in problem.samples]
        for problem in problems
    ]
    if next(left, None) is not None:
        raise ValueError(f"more forced answers than completions that are unfinished after {budget} tokens")
    return _point(problems, budget, right, sum(answer.num_tokens for answer in answers))


def _point(
    problems: Sequence[EvaluatedProblem], budget: int, right: Sequence[Sequence[bool]], num_more_tokens: int
) -> BudgetPoint:
    samples = [sample for problem in problems for sample in problem.samples]
    return BudgetPoint(
        budget=budget,
        accuracy=estimate([fmean(of_problem) for of_problem in right]),
        unfinished_share=fmean(not sample.is_finished(budget) for sample in samples),
        completion_tokens=(sum(min(sample.num_tokens, budget) for sample in samples) + num_more_tokens) / len(samples),
    )
