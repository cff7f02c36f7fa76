"""Countdown: make the target from three or four numbers, each used once. TinyZero's task (github.com/Jiayi-Pan/TinyZero)."""

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

from tasks.base import Loaded, Problem, Source, Split, Task, is_heldout, refuse_paths

NUM_PROBLEMS: dict[Split, int] = {"train": 20_000, "heldout": 1_000}
HELDOUT_ONE_IN = 10
SMALLEST_TARGET, LARGEST_TARGET = 10, 100
LARGEST_NUMBER = 99


def load(split: Split, seed: int | None, source: Source) -> Loaded:
    """Return the split's distinct problems in the order that the seed draws them; each has a solution.

    Three or four numbers from 1 to 99 with equal chance, and a target from 10 to 100, the ranges of TinyZero's data.
    """
    refuse_paths("countdown", source)
    rng = Random(seed or 0)
    problems: dict[str, Problem] = {}
    while len(problems) < NUM_PROBLEMS[split]:
        problem = draw_problem(rng)
        if is_heldout(problem.problem_id, HELDOUT_ONE_IN) == (split == "heldout"):
            problems.setdefault(problem.problem_id, problem)
    return Loaded(problems=tuple(problems.values()))


def draw_problem(rng: Random) -> Problem:
    """Draw numbers, and combine them at random until a target within the range comes out."""
    while True:
        numbers = [rng.randint(1, LARGEST_NUMBER) for _ in range(rng.choice((3, 4)))]
        value, solution = combine(numbers, rng)
        if SMALLEST_TARGET <= value <= LARGEST_TARGET and value not in numbers:
            return puzzle(numbers, value, solution)


def combine(numbers: list[int], rng: Random) -> tuple[int, str]:
    """Take two of the numbers and put what they make in their place, until one is left; returns it with its expression.

    Whole numbers all the way, though the reward allows fractions as well.
    """
    left = [(number, str(number)) for number in numbers]
    while len(left) > 1:
        rng.shuffle(left)
        (a, of_a), (b, of_b) = left.pop(), left.pop()
        sign = rng.choice("+-*/" if b and a % b == 0 else "+-*")
        value = a + b if sign == "+" else a - b if sign == "-" else a * b if sign == "*" else a // b
        left.append((value, f"({of_a} {sign} {of_b})"))
    [(value, expression)] = left
    return value, expression[1:-1]


def puzzle(numbers: list[int], target: int, solution: str) -> Problem:
    """Return one game as a problem; the order of its numbers does not make it another one.

    >>> puzzle([44, 19, 35], 98, "44 + 19 + 35").problem_id
    '19,35,44=98'
    """
    listed = ", ".join(map(str, numbers))
    return Problem(
        problem_id=f"{','.join(map(str, sorted(numbers)))}={target}",
        question=f"Use each of the numbers {listed} exactly once, with + - * / and brackets, to make {target}.",
        reference={"numbers": numbers, "target": target, "answer": solution},
    )


def load_short(split: Split, seed: int | None, source: Source) -> Loaded:
    """The same games, in as few characters as they can be told: for models too small to read a sentence.

    >>> load_short("heldout", 0, Source()).problems[0].question
    '3,16,79=98:'
    """
    loaded = load(split, seed, source)
    problems = (replace(problem, question=short_question(problem.reference)) for problem in loaded.problems)
    return replace(loaded, problems=tuple(problems))


def short_question(reference: Mapping[str, Any]) -> str:
    """The numbers, and what they are to make."""
    return f"{','.join(map(str, reference['numbers']))}={reference['target']}:"


def configured(argument: str) -> Task:
    """countdown:short."""
    if argument != "short":
        raise ValueError(f"option 'task.name': 'countdown:{argument}' must be countdown, or countdown:short for terse questions")
    return replace(COUNTDOWN, name="countdown:short", load=load_short, configure=None)


COUNTDOWN = Task(
    name="countdown",
    load=load,
    configure=configured,
    rewards={"countdown": 1.0, "reasoning_format": 0.1},
    correctness="countdown",
    answer="an expression, for example (1 + 2) * 3",
)
