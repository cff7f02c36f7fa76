"""Whether the final answer equals the gold answer as mathematics: 0.5, 1/2 and \\frac{1}{2} are one answer."""

import logging
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

MAX_ANSWER_CHARS = 300
MAX_BRACKETS = 20
"""Opening brackets of one kind; measured: the parser takes 2 s for 200 of them, milliseconds for 20."""
MAX_EXPONENT = 10_000
"""Bound on the product of all exponents of an answer; 2^{2023} is a fair answer, ((10^{999})^{999})^{999} is not."""

_BOX = "\\boxed{"
# Bounded runs of [0-9]: int() and Decimal() of a policy's text must stay cheap, and \d matches other scripts too.
_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3}){1,12}|[0-9]{1,40})?(?:\.[0-9]{1,40})?")
_CURRENCY = re.compile(r"([-+]?)\s*\\?\$\s*(?=[0-9.])")
_MATH_DELIMITERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"))

_LONG_NUMBER = re.compile(r"[0-9]{41,}")
_EXPONENT = re.compile(r"(?:\^|\*\*)\s*[{(]?\s*[-+]?([0-9]+)")
_POWER_TOWER = re.compile(r"(?:\^|\*\*)\s*(?:[{(][^{}()]*(?:\^|\*\*)|(?:\w|[0-9]+|\{[^{}]*\}|\([^()]*\))\s*(?:\^|\*\*))")
_LARGE_FACTORIAL = re.compile(r"[0-9]{4,}[\s})]*!|![\s})]*!")

# math-verify reads two numbers side by side as their sum ("70 2" is 72) and keeps the right side of "71 = 72".
_NUMBERS_SIDE_BY_SIDE = re.compile(r"[0-9](?:\s|~|\\[ ,;:])+[0-9]+(?![0-9]|\s*/)")
_EQUALS = re.compile(r"(?<![<>!])=")
_ASSIGNMENT = re.compile(r"\\?[A-Za-z]+(?:_\{?\w+\}?)?\s*=[^=]*")


def math_answer(completion: str, reference: Mapping[str, Any]) -> float | None:
    """Return 1.0 when the completion's final answer equals `reference["answer"]`, else 0.0.

    The final answer stands after the thinking, in one of two forms:
    - one <answer> block in the whole completion, at its end; if it holds a \\boxed{}, that is meant;
    - without any answer tag, the last \\boxed{}.
    Anything else is no answer: a policy must not be paid for hedging, or for numbers lying about in its text.
    None when the gold answer cannot be read. Slow comparisons are not this function's to stop: the process that
    runs it is killed at its deadline.

    >>> math_answer("<think>48/2=24, 48+24=72</think><answer>$72</answer>", {"answer": "72"})
    1.0
    >>> math_answer("72", {"answer": "72"})
    0.0
    """
    gold = _clean(str(reference["answer"]))
    gold_number = _read_number(gold)
    if gold_number is None and not _parse(gold):
        return None
    answer = _final_answer(completion)
    if answer is None or _is_too_costly(answer) or _says_more_than_one_thing(answer, gold):
        return 0.0
    answer = _clean(answer)
    answer_number = _read_number(answer)
    if gold_number is not None and answer_number is not None:
        return float(gold_number == answer_number)
    return float(_is_equal(_parse(gold), _parse(answer)))


def warm_up() -> None:
    """Import and build the parser (about a second) before the first completion's deadline starts to run."""
    _is_equal(_parse("\\frac{1}{2}"), _parse("0.5"))


def _final_answer(completion: str) -> str | None:
    conclusion = completion.rpartition("</think>")[2]
    if "<answer>" not in completion and "</answer>" not in completion:
        return _last_boxed(conclusion)
    if completion.count("<answer>") != 1 or completion.count("</answer>") != 1:
        return None
    _, opened, rest = conclusion.partition("<answer>")
    answer, closed, trailing = rest.partition("</answer>")
    if not opened or not closed or trailing.strip():
        return None
    return _last_boxed(answer) if _BOX in answer else answer


def _last_boxed(text: str) -> str | None:
    """Return the content of the last \\boxed{}, or None when there is none or it is never closed.

    >>> _last_boxed(r"\\boxed{1} or rather \\boxed{\\frac{1}{2}}.")
    '\\\\frac{1}{2}'
    """
    _, opened, rest = text.rpartition(_BOX)
    depth = 1
    for position, character in enumerate(rest):
        # LaTeX's \{ and \} are printed braces, not groups.
        if character in "{}" and rest[position - 1 : position] != "\\":
            depth += 1 if character == "{" else -1
        if depth == 0 and opened:
            return rest[:position]
    return None


def _clean(text: str) -> str:
    """Take off what stands around and inside a number for the eye only: $...$, currency, thousands, a full stop.

    >>> _clean("$1{,}080$."), _clean("-$5.50"), _clean("10,\\\\!080")
    ('1,080', '-5.50', '10,080')
    """
    text = text.strip().removesuffix(".").replace("{,}", ",").replace(",\\!", ",")
    for opening, closing in _MATH_DELIMITERS:
        if len(text) > len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing):
            text = text[len(opening) : -len(closing)].strip()
    return _CURRENCY.sub(r"\1", text, count=1) if _CURRENCY.match(text) else text


def _read_number(text: str) -> Decimal | None:
    """Return a plain integer or decimal exactly; None for everything that needs the parser.

    >>> _read_number("1,080.50") == Decimal("1080.5"), _read_number("1,08"), _read_number("")
    (True, None, None)
    """
    if not _NUMBER.fullmatch(text) or not text.strip("+-."):
        return None
    return Decimal(text.replace(",", ""))


def _is_too_costly(answer: str) -> bool:
    """Whether an answer is so long or so large that evaluating it could only end at the deadline.

    >>> _is_too_costly("9^9^9"), _is_too_costly("x^2y^2 + 2^{2023}")
    (True, False)
    """
    if len(answer) > MAX_ANSWER_CHARS or "\0" in answer or _LONG_NUMBER.search(answer):
        return True
    if max(answer.count(bracket) for bracket in "([{") > MAX_BRACKETS:
        return True
    if _POWER_TOWER.search(answer) or _LARGE_FACTORIAL.search(answer):
        return True
    return math.prod(int(exponent) or 1 for exponent in _EXPONENT.findall(answer)) > MAX_EXPONENT


def _says_more_than_one_thing(answer: str, gold: str) -> bool:
    """Whether the parser would have to choose, or to add up, what the answer leaves side by side."""
    if _NUMBERS_SIDE_BY_SIDE.search(answer):
        return True
    is_equation = _EQUALS.search(answer) is not None and _EQUALS.search(gold) is None
    return is_equation and not _ASSIGNMENT.fullmatch(_clean(answer))


@lru_cache(maxsize=256)
def _parse(text: str) -> tuple[Any, ...]:
    """Return math-verify's readings of the whole text as one LaTeX expression; () when it cannot be read."""
    # Imported here: sympy and its parsers take a second, which `import rewards` must not cost.
    import math_verify

    # It warns once that its timeout is off. It has to be: it is built on a signal, and ours is the process's end.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    whole_text_is_latex = [math_verify.LatexExtractionConfig(boxed_match_priority=0)]
    readings = math_verify.parse(
        f"{_BOX}{text}}}", whole_text_is_latex, fallback_mode="no_fallback", parsing_timeout=None, raise_on_error=True
    )
    return tuple(readings)


def _is_equal(gold: tuple[Any, ...], answer: tuple[Any, ...]) -> bool:
    import math_verify

    # Without raise_on_error a failed comparison, out of memory included, would be a silent "wrong".
    return bool(math_verify.verify(list(gold), list(answer), timeout_seconds=None, raise_on_error=True))
