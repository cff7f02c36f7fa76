"""Problems of your own: a file or a hub name with a question and an answer in each row, graded as math or as a choice."""

from collections.abc import Mapping, Sequence
from typing import Any

from rewards.multiple_choice import LETTERS
from tasks.base import Source, Task
from tasks.benchmarks import math_task, read_plain
from tasks.data_set import DataSet, Reading, field_of, question_of
from tasks.rows import Row

_SPLITS: Mapping[Any, str] = {"train": "train"}

JSONL = math_task("jsonl", None, _SPLITS, read_plain)
PARQUET = math_task("parquet", None, _SPLITS, read_plain)
HUB = math_task("hub", None, _SPLITS, read_plain)
"""Three names for one way: the ending of `task.path` says how it is read."""


def read_choice(row: Row, source: Source) -> Reading:
    """A question, its choices and which of them is right; the choices become part of the question, a letter each.

    Choices are a list, {"text": [...], "label": [...]} or {"A": "..."}; the right one is a letter, a label, or its
    position from 0. So do MMLU, ARC and AQuA-RAT write them.

    >>> read_choice({"question": "6*7?", "choices": ["41", "42"], "answer": 1}, Source()).question
    '6*7?\\nA) 41\\nB) 42'
    """
    question = question_of(row, source)
    labels, texts = _choices(field_of(row, ("choices", "options"), None, "choices"))
    answer = field_of(row, ("answer", "answerKey", "correct", "answer_idx"), source.answer_field, "answer")
    position = _position(answer, labels)
    if position is None:
        raise ValueError(f"the answer {answer!r} is none of the choices {', '.join(labels)}")
    lines = [f"{letter}) {text}" for letter, text in zip(LETTERS, texts, strict=False)]
    reference = {"answer": LETTERS[position], "choices": dict(zip(LETTERS, texts, strict=False))}
    return Reading(question="\n".join([question, *lines]), reference=reference)


def _choices(choices: Any) -> tuple[list[str], list[str]]:
    """Return labels and texts."""
    if isinstance(choices, Mapping) and isinstance(choices.get("text"), list) and isinstance(choices.get("label"), list):
        labels, texts = [str(label).strip() for label in choices["label"]], [str(text).strip() for text in choices["text"]]
    elif isinstance(choices, Mapping):
        labels, texts = [str(label).strip() for label in choices], [str(text).strip() for text in choices.values()]
    elif isinstance(choices, Sequence) and not isinstance(choices, str):
        texts = [str(text).strip() for text in choices]
        # AQuA-RAT writes "A)125".
        texts = [text[2:].strip() if text[:2] == f"{letter})" else text for letter, text in zip(LETTERS, texts, strict=False)]
        labels = list(LETTERS[: len(texts)])
    else:
        raise ValueError(f"the choices must be a list or an object, got {type(choices).__name__}")
    if len(labels) != len(texts) or not 2 <= len(texts) <= len(LETTERS) or not all(texts):
        raise ValueError(f"needs from 2 to {len(LETTERS)} choices with a text each, got {len(texts)}")
    return labels, texts


def _position(answer: Any, labels: list[str]) -> int | None:
    if isinstance(answer, bool):
        return None
    text = str(answer).strip()
    if text in labels:  # before the position: ARC has choices that are labelled 1 to 4
        return labels.index(text)
    return answer if isinstance(answer, int) and 0 <= answer < len(labels) else None


MULTIPLE_CHOICE = Task(
    name="multiple_choice",
    hub="cais/mmlu",
    load=DataSet(
        task="multiple_choice",
        hub="cais/mmlu",
        configs=("all",),
        splits={"train": "auxiliary_train", "heldout": "test"},
        read=read_choice,
        gold_problem=lambda reference: "",
    ).load,
    rewards={"multiple_choice": 1.0, "reasoning_format": 0.1},
    correctness="multiple_choice",
    answer="the letter of the right choice",
)
