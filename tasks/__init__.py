"""Tasks by name. A new one is one file and one line here."""

from collections.abc import Mapping

from tasks.arithmetic import ARITHMETIC
from tasks.base import Task
from tasks.benchmarks import AIME24, AIME25, AMC23, MATH500, MAWPS, MINERVA, OLYMPIADBENCH, SVAMP
from tasks.countdown import COUNTDOWN
from tasks.gsm8k import GSM8K
from tasks.math import DAPO_MATH, MATH
from tasks.own_data import HUB, JSONL, MULTIPLE_CHOICE, PARQUET
from tasks.reasoning_gym import REASONING_GYM

TASKS: Mapping[str, Task] = {
    "arithmetic": ARITHMETIC,
    "countdown": COUNTDOWN,
    "gsm8k": GSM8K,
    "math": MATH,
    "dapo_math": DAPO_MATH,
    "aime24": AIME24,
    "aime25": AIME25,
    "amc23": AMC23,
    "math500": MATH500,
    "minerva": MINERVA,
    "olympiadbench": OLYMPIADBENCH,
    "svamp": SVAMP,
    "mawps": MAWPS,
    "multiple_choice": MULTIPLE_CHOICE,
    "reasoning_gym": REASONING_GYM,
    "jsonl": JSONL,
    "parquet": PARQUET,
    "hub": HUB,
}


def get_task(name: str) -> Task:
    """Look a task up by NAME or NAME:ARGUMENT; raises KeyError for an unknown name, ValueError for a wrong argument.

    >>> get_task("math:3-5").name, get_task("gsm8k").correctness
    ('math:3-5', 'math_answer')
    """
    base, colon, argument = name.partition(":")
    task = TASKS[base]
    if not colon:
        return task
    if task.configure is None:
        raise ValueError(f"option 'task.name': {name!r}: the task {base!r} takes no argument; write {base}")
    return task.configure(argument)
