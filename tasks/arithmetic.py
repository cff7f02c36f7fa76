"""Additions of two numbers of 2 or 3 digits each: the smallest task on which working beats guessing."""

from random import Random

from tasks.base import Loaded, Problem, Source, Split, Task, is_heldout, refuse_paths

NUM_PROBLEMS: dict[Split, int] = {"train": 20_000, "heldout": 2_000}
HELDOUT_ONE_IN = 10


def load(split: Split, seed: int | None, source: Source) -> Loaded:
    """Return the split's distinct problems in the order that the seed draws them.

    Each number has 2 or 3 digits with equal chance, so that short and long sums are both common.

    >>> load("train", 0, Source()).problems[0].question
    '876+141='
    """
    refuse_paths("arithmetic", source)
    rng = Random(seed or 0)
    problems: dict[str, Problem] = {}
    while len(problems) < NUM_PROBLEMS[split]:
        problem = addition(draw_number(rng), draw_number(rng))
        if is_heldout(problem.problem_id, HELDOUT_ONE_IN) == (split == "heldout"):
            problems.setdefault(problem.problem_id, problem)
    return Loaded(problems=tuple(problems.values()))


def draw_number(rng: Random) -> int:
    """Draw a number of 2 or 3 digits: first how many, then which."""
    return rng.randint(10, 99) if rng.random() < 0.5 else rng.randint(100, 999)


def addition(left: int, right: int) -> Problem:
    """Return one addition as a problem.

    >>> addition(37, 485).reference["answer"]
    '522'
    """
    name = f"{left}+{right}"
    return Problem(problem_id=name, question=f"{name}=", reference={"answer": str(left + right)})


ARITHMETIC = Task(
    name="arithmetic",
    load=load,
    rewards={"accuracy": 1.0, "reasoning_format": 0.1},
    correctness="accuracy",
)
