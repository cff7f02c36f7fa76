"""Small test sets that papers report, and two sets of short word problems. All are graded as `math_answer` grades."""

from ast import literal_eval
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.base import Source, Split, Task
from tasks.data_set import ANSWER_FIELDS, DataSet, Reading, field_of, question_of
from tasks.golds import gold_text, has_box
from tasks.rows import Row

MATH_REWARDS: Mapping[str, float] = {"math_answer": 1.0, "reasoning_format": 0.1}
TEST_ONLY: Mapping[Split, str] = {"heldout": "test"}


def read_plain(row: Row, source: Source) -> Reading:
    """A question and a bare gold: a number or LaTeX. A gold that is a solution gives its last box; `solution` needs one."""
    solution = row.get("solution")
    names = (*ANSWER_FIELDS, "solution") if has_box(solution) else ANSWER_FIELDS
    try:
        answer = field_of(row, names, source.answer_field, "answer")
    except ValueError as error:
        if solution is None or source.answer_field is not None:
            raise
        raise ValueError(
            f"no answer in {' or '.join(map(repr, ANSWER_FIELDS))}, and no \\boxed{{}} in 'solution'; put its answer in one, or "
            "give task.answer_field=solution where it is the bare answer"
        ) from error
    return Reading(question=question_of(row, source), reference={"answer": gold_text(answer)})


def read_olympiad(row: Row, source: Source) -> Reading:
    """`final_answer` is a list of one LaTeX text, which may hold several values; `context` stands before some questions."""
    answer = field_of(row, ("final_answer", "answer"), source.answer_field, "answer")
    if isinstance(answer, str) and answer.startswith("["):
        try:
            answer = literal_eval(answer)  # some copies have the list as text
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            answer = [answer]  # an interval: [1, 2)
    if isinstance(answer, Sequence) and not isinstance(answer, str):
        if len(answer) != 1:
            raise ValueError(f"'final_answer' must hold one answer, got {len(answer)}")
        answer = answer[0]
    context = row.get("context")
    question = question_of(row, source)
    if isinstance(context, str) and context.strip():
        question = f"{context.strip()}\n{question}"
    return Reading(question=question, reference={"answer": gold_text(answer)})


def read_svamp(row: Row, source: Source) -> Reading:
    """`Body` tells the story, `Question` asks; Patel et al. 2021, arXiv 2103.07191."""
    question = question_of(row, source, ("Question", "question"))
    body = row.get("Body")
    if isinstance(body, str) and body.strip() and source.question_field is None:
        question = f"{body.strip().removesuffix('.')}. {question}"
    answer = field_of(row, ("Answer", "answer"), source.answer_field, "answer")
    return Reading(question=question, reference={"answer": gold_text(answer)})


def read_mawps(row: Row, source: Source) -> Reading:
    """Koncel-Kedziorski et al. 2016 (aclanthology.org/N16-1136); `result` in the hub's copy, `target` in others."""
    answer = field_of(row, ("target", "result", "answer"), source.answer_field, "answer")
    return Reading(question=question_of(row, source), reference={"answer": gold_text(answer)})


def math_task(
    name: str,
    hub: str | None,
    splits: Mapping[Split, str],
    read: Callable[[Row, Source], Reading | None] = read_plain,
    is_large: bool = False,
    **more: Any,
) -> Task:
    """A task of math problems."""
    data_set = DataSet(task=name, hub=hub, splits=splits, read=read, is_large=is_large)
    return Task(
        name=name,
        load=data_set.load,
        hub=hub,
        rewards=MATH_REWARDS,
        correctness="math_answer",
        is_benchmark=hub is not None and "train" not in splits,
        **more,
    )


# 30 problems each of the American Invitational Mathematics Examination; whole numbers from 0 to 999 are the answers.
AIME24 = math_task("aime24", "math-ai/aime24", TEST_ONLY)
AIME25 = math_task("aime25", "math-ai/aime25", TEST_ONLY)
# 40 problems of the American Mathematics Competitions of 2023, without their choices.
AMC23 = math_task("amc23", "math-ai/amc23", TEST_ONLY)
# 500 of MATH's test problems (Lightman et al. 2023, arXiv 2305.20050).
MATH500 = math_task("math500", "HuggingFaceH4/MATH-500", TEST_ONLY)
# 272 problems of university courses (Lewkowycz et al. 2022, arXiv 2206.14858).
MINERVA = math_task("minerva", "math-ai/minervamath", TEST_ONLY)
# 674 open-ended English problems without pictures (He et al. 2024, arXiv 2402.14008).
OLYMPIADBENCH = math_task("olympiadbench", "math-ai/olympiadbench", TEST_ONLY, read_olympiad)
SVAMP = math_task("svamp", "ChilleD/SVAMP", {"train": "train", "heldout": "test"}, read_svamp, answer="the final number")
MAWPS = math_task("mawps", "MU-NLPC/Calc-mawps", {"train": "train", "heldout": "test"}, read_mawps, answer="the final number")
