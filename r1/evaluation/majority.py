"""Which answers of a problem's samples are one answer, for maj@k: as the grader of its task would say."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from rewards.accuracy import answered as answered_integer
from rewards.countdown import answered as answered_expression
from rewards.math_grading.extraction import final_answer
from rewards.multiple_choice import answered as answered_letter

MATH = "math_answer"
"""The correctness reward whose answers are compared by the math grader; those of others are compared as text."""

ANSWERED: Mapping[str, Callable[[str, Mapping[str, Any]], str | None]] = {
    "accuracy": answered_integer,
    "countdown": answered_expression,
    "multiple_choice": answered_letter,
}
"""Correctness reward -> how it takes the answer out of a completion; `math_answer` and `reasoning_gym` use `final_answer`."""

Pair = tuple[str, str]
SameAnswers = Callable[[Collection[Pair]], Sequence[bool]]
"""[N] pairs of different texts -> [N] whether both are the same answer."""


def answer_of(text: str, reference: Mapping[str, Any], correctness: str) -> str | None:
    """Return what a completion answers, as the correctness reward itself reads it; None where that sees no answer.

    A reward function of one's own keeps its reading to itself: for it, the answer stands where `math_answer` looks.

    text: prefill + completion. reference: with `answer_form`, as reward functions get it.

    >>> answer_of(r"<think>6*7</think>So \\boxed{42}.", {"answer_form": "any"}, "math_answer")
    '42'
    >>> answer_of("<answer>(b) 42</answer>", {"answer_form": "any"}, "multiple_choice")
    'B'
    """
    if correctness in ANSWERED:
        return ANSWERED[correctness](text, reference)
    return final_answer(text, reference.get("answer_form", "any"))


def never_the_same(pairs: Collection[Pair]) -> list[bool]:
    """For tasks whose answers are compared as text: two texts are two answers."""
    return [False] * len(pairs)


ONE_RIGHT_ANSWER = frozenset((MATH, "multiple_choice", "accuracy"))
"""Correctness rewards under which two right answers are the same one: each equals the gold. A countdown has many right ones."""


def majority_labels(
    answers: Sequence[Sequence[str | None]],
    right: Sequence[Sequence[bool]],
    same: SameAnswers,
    *,
    one_right_answer: bool = True,
) -> list[list[str | None]]:
    """Return [P][k] a label for each sample, the same for the same answer; None for no answer.

    answers, right: [P][k] what each sample answered, and whether it was judged right.
    one_right_answer: whether all right answers are one; else answers are compared as text alone.
    Right answers are one answer, as each equals the gold. Wrong ones are compared with each other where that can decide the
    vote: with no right one, or with more right than wrong ones, the majority is known.
    """
    if not one_right_answer:
        return [[None if answer is None else " ".join(answer.split()) for answer in of_problem] for of_problem in answers]
    labels = [_by_text(*of_problem) for of_problem in zip(answers, right, strict=True)]
    # One text of each problem at a time becomes the first of a group and is compared with all that are left: all problems
    # in one round, so that the processes that compare are busy.
    left = [_to_compare(*of_problem) for of_problem in zip(labels, right, strict=True)]
    while any(len(texts) > 1 for texts in left):
        pairs = {(text, texts[0]) for texts in left for text in texts[1:]}
        ordered = sorted(pairs)
        equal = {pair for pair, is_same in zip(ordered, same(ordered), strict=True) if is_same}
        for texts, of_problem in zip(left, labels, strict=True):
            if len(texts) > 1:
                joined = {text for text in texts[1:] if (text, texts[0]) in equal}
                of_problem[:] = [f"{_WRONG}{texts[0]}" if _is_wrong_text(label, joined) else label for label in of_problem]
                texts[:] = [text for text in texts[1:] if text not in joined]
    return labels


_RIGHT, _WRONG = "right", "wrong "


def _by_text(answers: Sequence[str | None], right: Sequence[bool]) -> list[str | None]:
    texts = [None if answer is None else " ".join(answer.split()) for answer in answers]
    return [_RIGHT if is_right else None if text is None else _WRONG + text for text, is_right in zip(texts, right, strict=True)]


def _is_wrong_text(label: str | None, texts: Collection[str]) -> bool:
    return label is not None and label.startswith(_WRONG) and label.removeprefix(_WRONG) in texts


def _to_compare(labels: Sequence[str | None], right: Sequence[bool]) -> list[str]:
    """The distinct wrong texts, in the order of the samples, unless the vote is decided without comparing them."""
    wrong = [label.removeprefix(_WRONG) for label in labels if label is not None and label.startswith(_WRONG)]
    num_right = sum(right)
    return list(dict.fromkeys(wrong)) if 0 < num_right <= len(wrong) else []


class MathAnswers(AbstractContextManager[SameAnswers]):
    """The math grader's equality, in child processes: what a model writes may keep sympy busy for ever.

    with MathAnswers(scoring) as same: same([("0.5", "1/2")]) == [True]
    A pair that could not be compared in time counts as two answers.
    """

    def __init__(self, deadline_s: float, num_children: int = 2) -> None:
        from r1.config import ScoringConfig
        from r1.scoring import RewardPool

        config = ScoringConfig(deadline_s=deadline_s, format_gates_accuracy=False)
        self._pool = RewardPool({MATH: 1.0}, config, num_children=num_children)

    def __enter__(self) -> SameAnswers:
        return self._same

    def __exit__(self, *exception: object) -> None:
        self._pool.close()

    def _same(self, pairs: Collection[Pair]) -> list[bool]:
        items = [(f"<answer>{answer}</answer>", {"answer": other, "answer_form": "tags"}) for answer, other in pairs]
        return [score.reward == 1.0 for score in self._pool.score_texts(items)]
