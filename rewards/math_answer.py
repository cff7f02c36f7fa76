"""Whether a completion ends in the gold answer: 0.5, 1/2 and \\frac{1}{2} are one answer. Policy: docs/math_grading.md."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from rewards.math_grading.compare import check_gold, same
from rewards.math_grading.evaluate import symbols_of
from rewards.math_grading.extraction import AnswerForm, final_answer
from rewards.math_grading.fallback import sympy_equal
from rewards.math_grading.functions import Undefined, start_verdict
from rewards.math_grading.lexer import NotEvaluated, Unreadable
from rewards.math_grading.normalize import MAX_CHARS, Refused, normalize
from rewards.math_grading.reader import read
from rewards.math_grading.tree import Node


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided, and how."""

    answer: str | None
    """What was extracted from the completion."""
    is_equal: bool | None
    """None: the gold cannot be read."""
    path: str
    """"no answer", "number", "text", "choice", "structure", "sympy", or the reason of a refusal."""


def math_answer(completion: str, reference: Mapping[str, Any]) -> float | None:
    """Return 1.0 when the completion's final answer equals `reference["answer"]`, else 0.0.

    reference: `answer`, and optionally `answer_form` (see `grade`). None when the gold answer cannot be read.

    >>> math_answer("<think>48/2=24, 48+24=72</think><answer>$72</answer>", {"answer": "72"})
    1.0
    >>> math_answer("72", {"answer": "72"})
    0.0
    """
    verdict = grade(completion, str(reference["answer"]), reference.get("answer_form", "any"))
    return None if verdict is None else float(verdict)


def grade(completion: str, gold: str, form: AnswerForm = "any") -> bool | None:
    """Return whether a whole completion ends in an answer that equals the gold; None when the gold cannot be read.

    form: where the prompt asks for the answer to stand: any, tags, box, hash or line (docs/math_grading.md, section 1).

    >>> grade(r"<think>so \\boxed{71}?</think> It is \\boxed{\\frac{144}{2}}.", "72")
    True
    >>> grade("<answer>72 or 73</answer>", "72"), grade("<answer>72</answer>", "")
    (False, None)
    """
    return explain(completion, gold, form).is_equal


def answers_equal(answer: str, gold: str) -> bool | None:
    """Return whether two bare answers are equal; None when the gold cannot be read.

    >>> answers_equal("x = 1/2", "0.5"), answers_equal("48", "72"), answers_equal("1", "1/0")
    (True, False, None)
    """
    return _judge(answer, gold)[0]


def explain(completion: str, gold: str, form: AnswerForm = "any") -> Verdict:
    """Return what `grade` decides, with what it was decided on."""
    answer = final_answer(completion, form)
    if answer is None:
        problem = gold_problem(gold[: MAX_CHARS + 1])
        return Verdict(None, None, problem) if problem else Verdict(None, False, "no answer")
    return Verdict(answer, *_judge(answer, gold))


def warm_up() -> None:
    """Import the arithmetic (a tenth of a second) before the first completion's deadline starts to run."""
    answers_equal(r"\sqrt{2}", "1")


def clear_cache() -> None:
    """Forget all answers, for measuring."""
    for cached in (_decide, gold_problem, _read_gold, read):
        cached.cache_clear()


# Plain numbers and fractions, in the spellings that need no parser.
_PLAIN_NUMBER = re.compile(
    r"\s*([-+]?)\s*(?:(?:\\?\$\s*)?([0-9]{1,15}(?:\.[0-9]{1,15})?)"
    r"|\\[dt]?frac\{(-?[0-9]{1,15})\}\{([1-9][0-9]{0,14})\}|(-?[0-9]{1,15})/([1-9][0-9]{0,14}))\s*\.?\s*"
)
_THOUSANDS = re.compile(r"(?<![0-9.,])[1-9][0-9]{0,2}(?:(?:,|\{,\}|,\\!)[0-9]{3})+(?![0-9,])")
_NO_ANSWER = "the gold is"
_UNREADABLE_GOLDS = frozenset(("nan", "null", "n/a", "undefined value"))
_TAKES_BACK = re.compile(
    r"\b[A-Z]\b|\b(?i:or|and|not?|nor|none|but|wrong|incorrect|false|invalid|maybe|perhaps|probably|unless|instead|isn't|neither|never|nope)\b"
)
_AMBIGUOUS_COMMA = re.compile(r"[^(\[{]*[0-9],[0-9]{3}(?![0-9])[^(\[{]*")  # (4,112) is a pair
# "5 men", "5.5m/s": letters behind a number, which the parser would take for variables.
_BARE_UNIT = re.compile(r"(?<=[0-9}])\s*((?<=\s)[a-z]{3}|[msghNJWVALKC](?:/(?:s|h|m|kg|mol))?(?:\^\{?[23]\}?)?)$")
_TIME = re.compile(r"([0-9]{1,2}:[0-5][0-9](?::[0-5][0-9])?)\s*([ap]m)?")


def _judge(answer: str, gold: str) -> tuple[bool | None, str]:
    """Return (verdict, path). What is too long is refused before it meets a pattern or the cache."""
    if len(gold) > MAX_CHARS or len(answer) > MAX_CHARS:
        problem = gold_problem(gold[: MAX_CHARS + 1])
        return (None, problem) if problem else (False, f"refused: longer than {MAX_CHARS} characters")
    return _decide(answer, gold)


@lru_cache(maxsize=65536)
def _decide(answer: str, gold: str) -> tuple[bool | None, str]:
    """Return (verdict, path)."""
    start_verdict()
    quick = _compare_numbers(answer, gold)
    if quick is not None:
        return quick, "number"
    problem = gold_problem(gold)
    if problem:
        # What only its own text can equal: LaTeX that is not known here, a number beyond the limits. Not 1/0 or nothing.
        is_itself = answer.strip() == gold.strip() and not problem.startswith(_NO_ANSWER)
        return (True, "text") if is_itself else (None, problem)
    gold = normalize(gold)
    try:
        answer = normalize(answer)
        if answer == gold:
            return True, "text"
        return _compare(gold, answer)
    except Refused as reason:
        return False, f"refused: {reason}"
    except RecursionError:  # deeper than what the caller has left of the stack
        return False, "refused: nested too deeply"


def _compare(gold: str, answer: str) -> tuple[bool | None, str]:
    """Compare two normalised texts."""
    if not answer:
        return False, "no answer"
    if re.fullmatch(r"\(?[A-Z]\)?", gold):
        letter = _chosen_letter(answer)
        if letter is not None:
            return letter == gold.strip("()"), "choice"
    if _time(gold):
        return _same_time(gold, answer), "text"
    gold_node = _read_gold(gold)
    try:
        if gold_node is None:
            verdict = sympy_equal(gold, answer)
            return verdict, "sympy" if verdict is not None else "the gold: neither computed here nor readable for sympy"
        is_constant = not symbols_of(gold_node)
        golds = [gold_node, *([read(gold, "separators")] if _AMBIGUOUS_COMMA.fullmatch(gold) else [])]
        return any(same(meant, reading) for reading in _readings(answer, is_constant=is_constant) for meant in golds), "structure"
    except NotEvaluated:
        return False, "refused: more than is computed for an answer"
    except Unreadable:
        return False, "structure"


def _readings(answer: str, *, is_constant: bool) -> Iterator[Node]:
    """The ways in which an answer can be meant: 1,234, "5 men" and 1/2x have two. is_constant: the gold has no variables."""
    yield read(answer)
    if _AMBIGUOUS_COMMA.fullmatch(answer):
        yield read(answer, "separators")
    if is_constant and _BARE_UNIT.search(answer):
        yield read(_BARE_UNIT.sub(r"\\text{ \1}", answer))
    if re.search(r"/\s*[0-9]*[A-Za-z\\]", answer):
        yield read(answer, juxtaposition_first=True)


@lru_cache(maxsize=4096)
def gold_problem(gold: str) -> str:
    """Return why a gold cannot be read; "" when it can.

    >>> gold_problem("72"), gold_problem("1/0"), gold_problem(" ")
    ('', 'the gold is undefined: a division by zero', 'the gold is empty')
    """
    try:
        text = normalize(gold)
        if not text or text.casefold() in _UNREADABLE_GOLDS:
            return f"{_NO_ANSWER} empty"
        node = _read_gold(text)
        if node is not None:  # None: sympy will say, when there is an answer to ask about
            check_gold(node)
    except Undefined as reason:
        return f"{_NO_ANSWER} undefined: {reason}"
    except (Refused, Unreadable) as reason:
        return f"the gold: {reason}"
    return ""


@lru_cache(maxsize=4096)
def _read_gold(text: str) -> Node | None:
    """Return the reading of a normalised gold; None when it is left to sympy."""
    try:
        return read(text)
    except NotEvaluated:
        return None


def _compare_numbers(answer: str, gold: str) -> bool | None:
    """Compare two plain numbers exactly; None when one of them is none."""
    gold_number, answer_number = _plain_number(gold), _plain_number(answer)
    if gold_number is None or answer_number is None:
        return None
    # A decimal may stand for what it is rounded from: that is for the comparison with tolerance.
    return True if gold_number == answer_number else None if "." in gold or "." in answer else False


def _plain_number(text: str) -> Fraction | None:
    match = _PLAIN_NUMBER.fullmatch(_THOUSANDS.sub(_without_commas, text) if "," in text else text)
    if match is None:
        return None
    if match[2] is not None:
        return Fraction(match[1] + match[2])
    above, below = (match[3], match[4]) if match[3] is not None else (match[5], match[6])
    return Fraction(int(above), int(below)) * (-1 if match[1] == "-" else 1)


def _without_commas(number: re.Match[str]) -> str:
    return re.sub(r"[^0-9]", "", number[0])


def _chosen_letter(answer: str) -> str | None:
    """Return the one option that is chosen: B, (B), B., \\text{(B)}, B) 42; None when it is no choice."""
    text = re.sub(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|boldsymbol|bf|rm)\s*\{([^{}]*)\}", r"\1", answer).strip()
    match = re.fullmatch(
        r"(?:(?:option|choice|answer)\s*:?\s*)?\(?([A-Z])(?:(\)|[.:](?=\s|$))\s*(.*)|)", text, re.DOTALL | re.IGNORECASE
    )
    if match is None or (not match[1].isupper() and not re.fullmatch(r"\(?[a-z]\)?", text)):
        return None
    # B) 42 is a choice with its text; another letter, or a word that takes it back, makes it none.
    return None if _TAKES_BACK.search(match[3] or "") else match[1].upper()


def _same_time(gold: str, answer: str) -> bool:
    gold_time, answer_time = _time(gold), _time(answer)
    if not gold_time or not answer_time or gold_time[1].lstrip("0") != answer_time[1].lstrip("0"):
        return False
    return gold_time[2] == answer_time[2] or None in (gold_time[2], answer_time[2])


def _time(text: str) -> re.Match[str] | None:
    return _TIME.fullmatch(re.sub(r"\\text(?=\{)|[{}.\s]", "", text).casefold())
