"""GSM8K: grade-school word problems with one number as their answer (Cobbe et al. 2021, arXiv 2110.14168)."""

import re

from tasks.base import Source, Task
from tasks.data_set import DataSet, Reading, field_of, question_of
from tasks.rows import Row

_GOLD = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_CALCULATION = re.compile(r"<<[^<>]*>>")


def read(row: Row, source: Source) -> Reading:
    """Turn {"question": "...", "answer": "working #### 1,080"} into a problem whose reference is {"answer": "1080"}."""
    question = question_of(row, source, ("question",))
    answer = field_of(row, ("answer",), source.answer_field, "answer")
    working, marker, gold = answer.rpartition("####") if isinstance(answer, str) else ("", "", "")
    gold = gold.strip().replace(",", "")
    if not marker or not _GOLD.fullmatch(gold):
        raise ValueError(f"the answer must end in '#### ' and the gold number, got {str(answer)[-40:]!r}")
    # <<48/2=24>> is for the calculator that the paper's model could call.
    return Reading(question=question, reference={"answer": gold}, solution=_CALCULATION.sub("", working).strip())


GSM8K = Task(
    name="gsm8k",
    hub="openai/gsm8k",
    load=DataSet(
        task="gsm8k", hub="openai/gsm8k", configs=("main",), splits={"train": "train", "heldout": "test"}, read=read
    ).load,
    rewards={"math_answer": 1.0, "reasoning_format": 0.1},
    correctness="math_answer",
    answer="the final number",
)
