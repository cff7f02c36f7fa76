"""Advantages: the rewards of a step's groups -> one number per completion. Plain Python, float64.

Shapes: P groups of G rewards in, P groups of G advantages out, in the same order. A reward of None (it could not be
judged) enters no statistic and gets the advantage 0.0. For all but `none`: a group with fewer than two known rewards,
or whose known rewards are all equal, says nothing about what is better, and its advantages are exactly 0.0. Equality
is tested on the rewards: a difference from a mean would leave rounding, which 1 / 1e-6 blows up.
"""

import math
import statistics
from collections.abc import Callable, Sequence

STD_EPSILON = 1e-6

Advantage = Callable[[Sequence[Sequence[float | None]]], list[list[float]]]


def grpo(rewards_PG: Sequence[Sequence[float | None]]) -> list[list[float]]:
    """GRPO, DeepSeekMath (arXiv:2402.03300) section 4.1.2: A_i = (r_i - mean(r)) / (std(r) + 1e-6).

    std is the sample standard deviation (divisor G - 1), as in TRL and verl; the paper does not say which.
    Leaves out: process supervision (section 4.1.3), where each reasoning step has a reward.

    >>> grpo([[1.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5]])[1]
    [0.0, 0.0, 0.0, 0.0]
    """
    return [_group_normalised(rewards) for rewards in rewards_PG]


def dr_grpo(rewards_PG: Sequence[Sequence[float | None]]) -> list[list[float]]:
    """Dr. GRPO (arXiv:2503.20783) section 3.2: A_i = r_i - mean(r).

    Without the division, a group that is nearly all right or nearly all wrong weighs no more than another.
    Leaves out: the other half of Dr. GRPO, which is the aggregation `constant`.

    >>> dr_grpo([[1.0, 0.0, 0.0, 1.0]])
    [[0.5, -0.5, -0.5, 0.5]]
    """
    return [_minus_mean(rewards) for rewards in rewards_PG]


def rloo(rewards_PG: Sequence[Sequence[float | None]]) -> list[list[float]]:
    """RLOO (arXiv:2402.14740) section 2: A_i = r_i - sum(r_j for j != i) / (G - 1), the mean of the others.

    Equal to G / (G - 1) times dr_grpo. G counts the known rewards. Leaves out: the paper's KL term inside the reward.

    >>> rloo([[1.0, 0.0, 0.0]])
    [[1.0, -0.5, -0.5]]
    """
    return [_minus_mean_of_others(rewards) for rewards in rewards_PG]


def reinforce_pp_baseline(rewards_PG: Sequence[Sequence[float | None]]) -> list[list[float]]:
    """REINFORCE++ with baseline (arXiv:2501.03262, "w/ Baseline"): d_i = r_i - mean(r), A_i = d_i / (std(d) + 1e-6).

    mean is that of i's group, std the sample standard deviation of d over all groups of the step. The paper also subtracts
    the batch's mean of d, which is 0, since each group's d add up to 0.
    What enters std: the d of every known reward whose group has two or more. So groups with equal rewards do enter, as
    zeros, as in the paper's formula; the fewer groups still differ, the larger their advantages. Dropping such groups
    before (dynamic sampling) undoes that. Unknown rewards and lone known ones enter nothing.
    Leaves out: the paper's KL term, which is an option of the loss here.

    >>> reinforce_pp_baseline([[1.0, 0.0], [0.5, 0.5]])[1]
    [0.0, 0.0]
    """
    centred_PG = [_minus_mean(rewards) for rewards in rewards_PG]
    counted = [
        deviation
        for rewards, centred in zip(rewards_PG, centred_PG, strict=True)
        if len(_known(rewards)) > 1
        for reward, deviation in zip(rewards, centred, strict=True)
        if reward is not None
    ]
    # Also the case of fewer than two rewards: nothing differs, and all is 0.0 already.
    if not any(counted):
        return centred_PG
    std = statistics.stdev(counted)
    return [[deviation / (std + STD_EPSILON) for deviation in centred] for centred in centred_PG]


def none(rewards_PG: Sequence[Sequence[float | None]]) -> list[list[float]]:
    """REINFORCE without a baseline (Williams 1992, Machine Learning 8, 229-256): A_i = r_i.

    The one advantage here that is not 0 when a group's rewards are equal: without a baseline a completion is not compared
    with its siblings, so a group of only right ones is still reinforced; zeroing it would bias the estimator. Adding a
    constant to the rewards changes it, too.

    >>> none([[0.5, 0.5, None]])
    [[0.5, 0.5, 0.0]]
    """
    for rewards in rewards_PG:
        _known(rewards)
    return [[0.0 if reward is None else reward for reward in rewards] for rewards in rewards_PG]


def _known(rewards: Sequence[float | None]) -> list[float]:
    known = [reward for reward in rewards if reward is not None]
    if not all(math.isfinite(reward) for reward in known):
        raise ValueError(f"a reward must be a finite number, or None where it could not be judged; got {list(rewards)}")
    return known


def _says_nothing(known: Sequence[float]) -> bool:
    return len(known) < 2 or max(known) == min(known)


def _minus_mean(rewards: Sequence[float | None]) -> list[float]:
    known = _known(rewards)
    if _says_nothing(known):
        return [0.0] * len(rewards)
    mean = statistics.fmean(known)
    return [0.0 if reward is None else reward - mean for reward in rewards]


def _minus_mean_of_others(rewards: Sequence[float | None]) -> list[float]:
    known = _known(rewards)
    if _says_nothing(known):
        return [0.0] * len(rewards)
    total = math.fsum(known)
    return [0.0 if reward is None else reward - (total - reward) / (len(known) - 1) for reward in rewards]


def _group_normalised(rewards: Sequence[float | None]) -> list[float]:
    known = _known(rewards)
    if _says_nothing(known):
        return [0.0] * len(rewards)
    std = statistics.stdev(known)
    return [deviation / (std + STD_EPSILON) for deviation in _minus_mean(rewards)]
