"""Advantages: the rewards of a step's groups -> one number per completion. Plain Python, float64.

Shapes: P groups of G rewards. A reward of None (it could not be judged) leaves its group's statistics and
gets the advantage 0.0. A group whose rewards are all equal says nothing about what is better: its
advantages are exactly 0.0.
"""

import statistics
from collections.abc import Sequence

STD_EPSILON = 1e-6


def grpo(rewards_PG: Sequence[Sequence[float | None]]) -> list[list[float]]:
    """GRPO, DeepSeekMath (arXiv:2402.03300) section 4.1.2: A_i = (r_i - mean(r)) / (std(r) + 1e-6).

    std is the sample standard deviation (divisor G - 1), as in TRL and verl.

    >>> grpo([[1.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5]])[1]
    [0.0, 0.0, 0.0, 0.0]
    """
    return [_group_normalised(rewards) for rewards in rewards_PG]


def _group_normalised(rewards: Sequence[float | None]) -> list[float]:
    known = [reward for reward in rewards if reward is not None]
    if len(known) < 2 or max(known) == min(known):
        return [0.0] * len(rewards)
    mean, std = statistics.fmean(known), statistics.stdev(known)
    return [0.0 if reward is None else (reward - mean) / (std + STD_EPSILON) for reward in rewards]
