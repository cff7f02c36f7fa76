"""What several samples of each problem say: pass@k, the majority's answer, and how sure a mean over problems is. No torch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

NORMAL_95 = 1.959964
"""Standard errors on each side of a mean that hold 95 % of a normal distribution."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A mean over problems."""

    mean: float
    half_width: float | None
    """Of its 95 % confidence interval; None for a single problem, which says nothing of others."""
    num_problems: int


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """The chance that at least one of k samples is correct, drawn without replacement from those that there are.

    1 - C(n - c, k) / C(n, k), unbiased for every k up to n: Chen et al. 2021, "Evaluating Large Language Models Trained on
    Code" (arXiv 2107.03374), equation 1. With k = 1 it is the share of correct samples, pass@1 or avg@n.

    >>> pass_at_k(4, 1, 1), pass_at_k(4, 1, 2), pass_at_k(4, 3, 2)
    (0.25, 0.5, 1.0)
    """
    if not 0 <= num_correct <= num_samples:
        raise ValueError(f"num_correct must be from 0 to num_samples = {num_samples}, got {num_correct}")
    if not 1 <= k <= num_samples:
        raise ValueError(f"k must be from 1 to num_samples = {num_samples}, got {k}")
    # Whole numbers up to the last division: the product of quotients that is often used instead is off in the 15th digit.
    return 1.0 - math.comb(num_samples - num_correct, k) / math.comb(num_samples, k)


def majority_accuracy(
    answers: Sequence[str | None], correct: Sequence[bool], same: Callable[[str, str], bool] = str.__eq__
) -> float:
    """maj@k: whether the answer that most of the k samples give is correct (Wang et al. 2022, arXiv 2203.11171).

    answers: [k] what each sample answered; None where it gave no answer, which is no vote.
    correct: [k] as the grader judged each one by itself.
    same: whether two answers are the same, as the grader would say; asked of an answer and the first one of each group.

    Of several largest groups one would be drawn: the result is the mean over them, and so no matter of the samples' order.
    The correctness of a group is that of its members' mean, should the grader call two of them the same and judge them apart.

    >>> majority_accuracy(["7", "7", "8"], [True, True, False]), majority_accuracy(["7", "8"], [True, False])
    (1.0, 0.5)
    """
    groups: list[tuple[str, list[bool]]] = []
    for answer, is_correct in zip(answers, correct, strict=True):
        if answer is None:
            continue
        members = next((members for first, members in groups if same(first, answer)), None)
        if members is None:
            groups.append((answer, [is_correct]))
        else:
            members.append(is_correct)
    if not groups:
        return 0.0
    most = max(len(members) for _, members in groups)
    return fmean(fmean(members) for _, members in groups if len(members) == most)


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one value a problem, with its 95 % confidence interval.

    The samples of a problem are no independent measurements, the problems are: so the error is that of the problems' own means
    (Miller 2024, "Adding Error Bars to Evals", arXiv 2411.00640), and drawing more samples of each only takes their noise away.

    >>> estimate([1.0, 0.0, 1.0, 0.0])  # doctest: +ELLIPSIS
    Estimate(mean=0.5, half_width=0.5657..., num_problems=4)
    """
    if not values:
        raise ValueError("there is no mean of no problems")
    half_width = NORMAL_95 * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Estimate(mean=fmean(values), half_width=half_width, num_problems=len(values))
