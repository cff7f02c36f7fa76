"""Whether an expression over given numbers makes the target: the countdown game, in exact arithmetic."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from rewards.blocks import answer_block

MAX_CHARS = 300
MAX_DEPTH = 20
"""Brackets inside brackets; the parser calls itself once for each."""

# Bounded, as int() is quadratic; [0-9], since \d also matches the digits of other scripts.
_TOKENS = re.compile(r"\s*([0-9]{1,20}|[-+*/()=])")
_SIGNS = str.maketrans("×·⋅∙÷−–", "****/--")


class _NotAnExpression(ValueError):
    """Some text is no expression, or has no value."""


def countdown(completion: str, reference: Mapping[str, Any]) -> float | None:
    """Return 1.0 when the answer is an expression that makes the target from the numbers, else 0.0.

    Source: the task and the rule of TinyZero (github.com/Jiayi-Pan/TinyZero), whose own check passes the text to `eval`.

    reference: {"numbers": [44, 19, 35], "target": 98}; "use_all", true where it is missing: each number exactly once,
    as often as it is listed; false: at most once. None when these are no non-negative integers and an integer target.

    The completion ends in one <answer> block after the thinking, or in the box or line that `answer_form` asks for. In it:
    the numbers, + - * / and brackets, × · ÷ − for their signs, and at the end, if one likes, "= 98", which must be the
    target. No other sign, no unary minus, no other
    number; division is exact, so 7/2*2 is 7, and by zero it is wrong.

    >>> countdown("<think>44+19=63</think><answer>(44 + 19) + 35 = 98</answer>", {"numbers": [44, 19, 35], "target": 98})
    1.0
    >>> countdown("<answer>98</answer>", {"numbers": [44, 19, 35], "target": 98})
    0.0
    """
    numbers, target, use_all = reference["numbers"], reference["target"], reference.get("use_all", True)
    if not _is_puzzle(numbers, target):
        return None
    answer = answered(completion, reference)
    if answer is None:
        return 0.0
    try:
        tokens = _tokens(answer.translate(_SIGNS))
        used = _check_right_side(tokens, target)
        value, end = _sum(used, 0, MAX_DEPTH)
    except _NotAnExpression:
        return 0.0
    counts, given = Counter(int(token) for token in used if token.isdigit()), Counter(numbers)
    is_allowed = counts == given if use_all else counts <= given
    return float(end == len(used) and value == target and is_allowed)


def answered(completion: str, reference: Mapping[str, Any]) -> str | None:
    """Return the text that is read as an expression; None when the completion has no answer, or a longer one.

    >>> answered("<think>44+19</think><answer>44 + 19</answer>", {}), answered("<answer>44 + 19", {})
    ('44 + 19', None)
    """
    answer = answer_block(completion, reference.get("answer_form", "any")) or ""
    return answer.strip() or None if len(answer) <= MAX_CHARS else None


def _is_puzzle(numbers: Any, target: Any) -> bool:
    if not isinstance(numbers, list | tuple) or not numbers:
        return False
    are_integers = all(isinstance(number, int) and not isinstance(number, bool) for number in [*numbers, target])
    return are_integers and min(numbers) >= 0


def _tokens(text: str) -> list[str]:
    """Cut into numbers and signs.

    >>> _tokens("(12+3) * 4")
    ['(', '12', '+', '3', ')', '*', '4']
    """
    text, tokens, position = text.strip(), [], 0
    while position < len(text):
        match = _TOKENS.match(text, position)
        if match is None:
            raise _NotAnExpression
        tokens.append(match[1])
        position = match.end()
    return tokens


def _check_right_side(tokens: Sequence[str], target: int) -> Sequence[str]:
    """Return what stands left of "= target"; a right side that is not the target is a false statement."""
    if "=" not in tokens:
        return tokens
    at = tokens.index("=")
    sign, right = (-1, tokens[at + 2 :]) if tokens[at + 1 : at + 2] == ["-"] else (1, tokens[at + 1 :])
    if len(right) != 1 or not right[0].isdigit() or sign * int(right[0]) != target:
        raise _NotAnExpression
    return tokens[:at]


# The grammar, one function a rule; each takes a position, and returns a value and the position behind it.
#   sum = product {("+" | "-") product}     product = factor {("*" | "/") factor}     factor = number | "(" sum ")"


def _sum(tokens: Sequence[str], position: int, depth: int) -> tuple[Fraction, int]:
    value, position = _product(tokens, position, depth)
    while position < len(tokens) and tokens[position] in "+-":
        operand, end = _product(tokens, position + 1, depth)
        value = value + operand if tokens[position] == "+" else value - operand
        position = end
    return value, position


def _product(tokens: Sequence[str], position: int, depth: int) -> tuple[Fraction, int]:
    value, position = _factor(tokens, position, depth)
    while position < len(tokens) and tokens[position] in "*/":
        operand, end = _factor(tokens, position + 1, depth)
        if tokens[position] == "*":
            value *= operand
        elif operand:
            value /= operand
        else:
            raise _NotAnExpression
        position = end
    return value, position


def _factor(tokens: Sequence[str], position: int, depth: int) -> tuple[Fraction, int]:
    token = tokens[position] if position < len(tokens) else ""
    if token.isdigit():
        return Fraction(int(token)), position + 1
    if token != "(" or depth == 0:
        raise _NotAnExpression
    value, end = _sum(tokens, position + 1, depth - 1)
    if end >= len(tokens) or tokens[end] != ")":
        raise _NotAnExpression
    return value, end + 1
