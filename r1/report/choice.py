"""Which samples a page shows: a few round steps, and the best, the median and the worst completion of each."""

from collections.abc import Sequence

from tasks.base import Split


def shown_steps(split: Split, stored: Sequence[int], count: int) -> list[int]:
    """The steps that a page shows completions of. count: training steps at most; two held-out evaluations come with them."""
    if count < 1:
        return []
    return choose_steps(stored, count if split == "train" else 2)


def choose_steps(stored: Sequence[int], count: int) -> list[int]:
    """At most `count` of the stored steps: the first, the last, and between them multiples of a round number.

    A run that goes on keeps its choice until the round number must grow, so that a reader's page does not change under him.
    Where a multiple is not stored, the nearest step that is stands for it.

    >>> choose_steps(range(1, 51), count=6), choose_steps(range(1, 54), count=6)
    ([1, 10, 20, 30, 40, 50], [1, 20, 40, 53])
    """
    if count < 1 or not stored:
        return []
    first, last = min(stored), max(stored)
    if count == 1:
        return [last]
    candidates = (digit * 10**power for power in range(len(str(last)) + 1) for digit in (1, 2, 5))
    for distance in candidates:
        between = range(first - first % distance + distance, last, distance)
        nearest = {min(stored, key=lambda step: (abs(step - wanted), step)) for wanted in between[:count]}
        steps = sorted({first, last} | nearest)
        if len(between) <= count and len(steps) <= count:
            return steps
    raise AssertionError("a distance beyond the last step leaves first and last")


def choose_rows(rewards: Sequence[float | None], places: Sequence[tuple[int, int]]) -> dict[int, str]:
    """Row -> why it is shown: "best", "median", "worst", and the first "not judged"; by their reward, then their place.

    places: (group_id, sample_id) of each row, which decide between equal rewards.

    >>> choose_rows([0.5, 1.0, 0.0, None], [(0, 0), (0, 1), (0, 2), (0, 3)])
    {1: 'best', 0: 'median', 2: 'worst', 3: 'not judged'}
    """
    judged = sorted(
        (index for index, reward in enumerate(rewards) if reward is not None),
        key=lambda index: (-(rewards[index] or 0.0), places[index]),
    )
    unjudged = sorted((index for index, reward in enumerate(rewards) if reward is None), key=lambda index: places[index])
    chosen: dict[int, str] = {}
    if judged:
        for index, why in ((judged[0], "best"), (judged[len(judged) // 2], "median"), (judged[-1], "worst")):
            chosen.setdefault(index, why)
    for index in unjudged[:1]:
        chosen[index] = "not judged"
    return chosen
