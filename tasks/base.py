"""What a problem and a task are."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

Split = Literal["train", "heldout"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One question whose answer can be checked.

    >>> Problem(problem_id="12+7", question="12+7=", reference={"answer": "19"}).reference["answer"]
    '19'
    """

    problem_id: str
    """Unique within the task, stable between runs: traces of different steps are joined on it."""
    question: str
    """The bare question, without instructions or template."""
    reference: Mapping[str, Any]
    """What the reward functions check against; JSON-like values, `answer` in all shipped tasks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """Problems, and how a completion for them is rewarded."""

    name: str
    load: Callable[[Split, int, str | None, str | None], Iterable[Problem]]
    """load(split, seed, path, heldout_path), the paths as in the configuration's `task` section.

    With a `heldout_path` of its own, all of it is held out and all of `path` is for training. Otherwise `path` is
    divided by `is_heldout`: both splits are drawn from it, and share no problem.
    """
    rewards: Mapping[str, float]
    """Reward name -> weight; the reward of a completion is the weighted sum."""
    correctness: str
    """The name in `rewards` that tells right from wrong; reported as `accuracy`."""
    instructions: str
    """Put before the question by the templates that have a place for it; "" for none."""


def is_heldout(problem_id: str, one_in: int) -> bool:
    """Whether a problem belongs to the held-out split: a fixed one in `one_in` of all ids, by hash.

    The choice depends on the id alone, so train and held-out never share a problem, whatever the seed,
    the order or the number of problems that are drawn.

    >>> [is_heldout(str(i), 4) for i in range(8)]
    [False, False, True, False, False, True, True, False]
    """
    return int.from_bytes(blake2b(problem_id.encode(), digest_size=8).digest(), "big") % one_in == 0
