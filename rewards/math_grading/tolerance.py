"""When a decimal stands for a number that it does not equal. Everywhere else numbers are compared exactly."""

from fractions import Fraction

from rewards.math_grading.evaluate import evaluate, symbols_of
from rewards.math_grading.functions import number_context
from rewards.math_grading.lexer import Unreadable
from rewards.math_grading.numerals import MAX_EXPONENT_OF_TEN
from rewards.math_grading.numeric import DIGITS
from rewards.math_grading.tree import Call, Node, Number

_TEN = Number(Fraction(10), None, 2)
MIN_DECIMALS = 6
"""Of a decimal that stands for an exact gold such as 1/3: fewer are a coarse rounding."""
MIN_GOLD_DIGITS = 4
MIN_GOLD_DECIMALS = 3
"""Of a decimal gold that a more exact answer may be rounded to. Prices have two decimals, and are exact; so is 27.000."""


def decimal_of(node: Node) -> Number | None:
    """Return a decimal literal, with its sign."""
    if isinstance(node, Call) and node.op == "neg":
        inner = decimal_of(node.args[0])
        return Number(-inner.value, inner.decimals, inner.significant) if inner else None
    if isinstance(node, Call) and node.op == "*":  # 1.602 \\times 10^{-19}
        mantissa, power = decimal_of(node.args[0]), node.args[1]
        if mantissa is None or mantissa.decimals is None or not isinstance(power, Call) or power.op != "^":
            return None
        exponent = evaluate(power.args[1], {}, DIGITS[0]) if power.args[0] == _TEN and not symbols_of(power.args[1]) else None
        if not isinstance(exponent, Fraction) or exponent.denominator != 1 or abs(exponent) > MAX_EXPONENT_OF_TEN:
            return None
        shift = int(exponent)
        return Number(mantissa.value * Fraction(10) ** shift, mantissa.decimals - shift, mantissa.significant)
    return node if isinstance(node, Number) and node.decimals is not None else None


def is_rounded_gold(gold: Node, answer: Node) -> bool:
    """2.4495 stands for what rounds to it: \\sqrt6, 2.44949."""
    written = decimal_of(gold)
    if written is None or written.decimals is None or written.significant < MIN_GOLD_DIGITS:
        return False
    if (
        written.significant - 1 < MIN_GOLD_DECIMALS
        or (0 <= written.decimals < MIN_GOLD_DECIMALS)
        or written.value.denominator == 1
    ):
        return False
    return _is_within(answer, written.value, Fraction(10) ** -written.decimals / 2)


def is_fine_decimal(gold: Node, answer: Node) -> bool:
    """0.333333 stands for 1/3, which no decimal can equal; 0.4999999 does not stand for 1/2."""
    written = decimal_of(answer)
    if written is None or (written.decimals or 0) < MIN_DECIMALS or written.significant < MIN_DECIMALS or decimal_of(gold):
        return False
    value = evaluate(gold, {}, DIGITS[0])
    if isinstance(value, Fraction) and _terminates(value):
        return False
    return _is_written_out(written, gold)


def is_coarsely(rounded: Node, exact: Node) -> bool:
    """Whether a decimal literal is what an exact number rounds to, at its own number of digits."""
    written = decimal_of(rounded)
    if written is None or written.significant < 2 or symbols_of(exact):
        return False
    try:
        return _is_written_out(written, exact)
    except Unreadable:  # a tuple, a word: no number to round
        return False


def _is_written_out(written: Number, exact: Node) -> bool:
    """Whether a decimal is the rounded value, or its first digits."""
    unit = Fraction(10) ** -(written.decimals or 0)
    if _is_within(exact, written.value, unit / 2):
        return True
    middle = abs(written.value) + unit / 2  # cut off: the value lies above the digits that stand there, in size
    return _is_within(exact, middle if written.value > 0 else -middle, unit / 2)


def _is_within(node: Node, center: Fraction, radius: Fraction) -> bool:
    value = evaluate(node, {}, DIGITS[0])
    if isinstance(value, Fraction):
        return abs(value - center) <= radius
    context = number_context()
    exact = context.mpf(center.numerator) / center.denominator
    return bool(abs(value - exact) <= context.mpf(radius.numerator) / radius.denominator)


def _terminates(value: Fraction) -> bool:
    denominator = value.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1
