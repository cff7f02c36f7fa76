"""Overlong filtering: which completions leave the loss because the length limit cut them off."""

from collections.abc import Sequence

from r1.types import RolloutGroup, ScoredGroup


def keep_finished(groups: Sequence[RolloutGroup | ScoredGroup]) -> list[list[bool]]:
    """DAPO's overlong filtering (arXiv:2503.14476 section 3.4): loss mask = 0 for completion i if it was truncated.

    Shapes: P groups of G completions in, P lists of G flags out: False leaves the loss. Truncated means finish_reason
    "length", as the engine says it; no text is looked at.
    What stays: a filtered completion's reward remains in its group's mean and standard deviation, as the paper masks the
    loss alone. Aggregation must count a filtered completion neither as a sequence nor by its tokens.
    Leaves out: the paper's soft overlong punishment (equation 13), which is a reward: rewards/soft_overlong.py. Completions
    that were aborted stay in.

    >>> keep_finished([])
    []
    """
    return [[completion.finish_reason != "length" for completion in group.completions] for group in groups]
