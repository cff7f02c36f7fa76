"""MATH: competition problems with their levels, and the 17,000 of DAPO."""

import re
from dataclasses import replace

from rewards.math_grading.extraction import last_box
from tasks.base import Source, Task
from tasks.benchmarks import math_task
from tasks.data_set import Reading, field_of, question_of
from tasks.golds import gold_text
from tasks.rows import Row

LEVELS = (1, 5)
_LEVEL = re.compile(r"(?:Level )?([1-5])")
_ARGUMENT = re.compile(r"([1-5])(?:-([1-5]))?")

DAPO_BEFORE = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: $Answer "
    "(without quotes) where $Answer is the answer to the problem.\n\n"
)
DAPO_BEHIND = '\n\nRemember to put your answer on its own line after "Answer:".'
"""What the published rows have around each problem; a template asks for the answer in its own words."""


def read_math(row: Row, source: Source, levels: tuple[int, int] = LEVELS) -> Reading | None:
    """A problem with `level`; its gold is `answer`, or else the last box of `solution`."""
    if levels != LEVELS:
        match = _LEVEL.fullmatch(str(row.get("level")))  # 3 in some copies, "Level 3" in others; "Level ?" in a few rows
        if match is None:
            raise ValueError(f"'level' must be a level from 1 to 5, got {row.get('level')!r}")
        if not levels[0] <= int(match[1]) <= levels[1]:
            return None
    solution = row.get("solution")
    if source.answer_field is None and row.get("answer") in (None, "") and isinstance(solution, str):
        answer = solution  # gold_text takes its last box
        if last_box(solution) is None:
            raise ValueError("'solution' has no answer in a box")
    else:
        answer = field_of(row, ("answer", "gt_answer"), source.answer_field, "answer")
    return Reading(
        question=question_of(row, source),
        reference={"answer": gold_text(answer)},
        solution=solution.strip() if isinstance(solution, str) else "",
    )


def with_levels(argument: str) -> Task:
    """The task of some levels: "3-5", or "5".

    >>> with_levels("3-5").name
    'math:3-5'
    """
    match = _ARGUMENT.fullmatch(argument)
    if match is None or (match[2] and match[2] < match[1]):
        raise ValueError(f"option 'task.name': 'math:{argument}' must name levels from 1 to 5, e.g. math:3-5 or math:5")
    levels = int(match[1]), int(match[2] or match[1])
    return replace(_math_task(levels), name=f"math:{argument}", configure=None)


def _math_task(levels: tuple[int, int]) -> Task:
    """12,000 problems for training; the other 500 of MATH's are MATH-500, which is held out (arXiv 2305.20050)."""
    return math_task(
        "math",
        "nlile/hendrycks-MATH-benchmark",
        {"train": "train", "heldout": "test"},
        lambda row, source: read_math(row, source, levels),
        configure=with_levels,
    )


def read_dapo(row: Row, source: Source) -> Reading:
    """The question is the only message of `prompt`, inside instructions; `reward_model.ground_truth` is the gold."""
    prompt = field_of(row, ("prompt", "question", "problem"), source.question_field, "question")
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], dict):
        prompt = prompt[0].get("content")
    if not isinstance(prompt, str):
        raise ValueError(f"the question must be text or a list of messages, got {type(prompt).__name__}")
    judged = row.get("reward_model")
    if isinstance(judged, dict) and source.answer_field is None:
        answer = judged.get("ground_truth")
    else:
        answer = field_of(row, ("solution", "answer"), source.answer_field, "answer")
    question = prompt.removeprefix(DAPO_BEFORE).removesuffix(DAPO_BEHIND).strip()
    if not question:
        raise ValueError("the question is empty")
    return Reading(question=question, reference={"answer": gold_text(answer)})


# Hendrycks et al. 2021, arXiv 2103.03874.
MATH = _math_task(LEVELS)
# arXiv 2503.14476. 1,791,700 rows, each problem a hundred times: some 17,400 are left.
DAPO_MATH = math_task("dapo_math", "BytedTsinghua-SIA/DAPO-Math-17k", {"train": "train"}, read_dapo, is_large=True)
