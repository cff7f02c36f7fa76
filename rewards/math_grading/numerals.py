"""Numbers as they are written: decimals, E-notation, repeating decimals, mixed numbers."""

from fractions import Fraction

from rewards.math_grading.normalize import Refused
from rewards.math_grading.tree import Call, Node, Number

MAX_EXPONENT_OF_TEN = 400
"""Of E-notation: 1e400 is beyond every physical constant, and 10**1000000000 does not fit into memory."""


class Unreadable(ValueError):
    """The text is not an expression in the notation that the parser knows."""


def read_number(text: str) -> Number:
    """Return an integer, decimal or E-notation exactly.

    >>> read_number("1.50").value, read_number("1.50").decimals, read_number("2e3").value
    (Fraction(3, 2), 2, Fraction(2000, 1))
    """
    mantissa, _, exponent = text.casefold().partition("e")
    if exponent and (len(exponent) > 5 or abs(int(exponent)) > MAX_EXPONENT_OF_TEN):
        raise Refused("a power of ten beyond 1e400")
    whole, point, decimals = mantissa.partition(".")
    significant = len((whole + decimals).lstrip("0"))
    value = Fraction(int(whole + decimals or "0"), 10 ** len(decimals))
    if exponent:
        shift = int(exponent)
        is_decimal = bool(decimals) and len(decimals) > shift
        value *= Fraction(10) ** shift
        return Number(value, decimals=len(decimals) - shift if is_decimal else None, significant=significant)
    return Number(value, decimals=len(decimals) if point and decimals else None, significant=significant)


def repeating(number: Number, digits: str) -> Number:
    """Return 0.1666... for 0.1 and "6": the digits repeat from the end of what was written.

    >>> repeating(read_number("0.1"), "6").value
    Fraction(1, 6)
    """
    if not digits.isdigit() or len(digits) > 40:
        raise Unreadable("a repeating decimal needs digits under its bar")
    places = number.decimals or 0
    return Number(number.value + Fraction(int(digits), 10**places * (10 ** len(digits) - 1)))


def continued(number: Number) -> Number:
    """Return 1/3 for 0.333...: the last digits go on when they stand there often enough to show it.

    >>> continued(read_number("0.1666")).value, continued(read_number("0.1818")).value
    (Fraction(1, 6), Fraction(2, 11))
    """
    places = number.decimals or 0
    all_digits = int(number.value * 10**places)
    for period, repeats in ((1, 3), (2, 2), (3, 2), (6, 2)):
        pattern = str(all_digits).zfill(places)[-period:]
        if period * repeats <= places and str(all_digits).zfill(places).endswith(pattern * repeats):
            stem = Number(Fraction(all_digits // 10**period, 10 ** (places - period)), decimals=places - period)
            return repeating(stem, pattern)
    raise Unreadable("a decimal that goes on, nobody can say how")


def is_whole(node: Node) -> bool:
    """Whether a node is an integer as it was written."""
    return isinstance(node, Number) and node.decimals is None and node.value.denominator == 1


def is_proper_fraction(node: Node) -> bool:
    """Whether a node can be the fraction of a mixed number: 1/2, not 3/2."""
    if not isinstance(node, Call) or node.op != "/":
        return False
    above, below = node.args
    return (
        isinstance(above, Number)
        and isinstance(below, Number)
        and is_whole(above)
        and is_whole(below)
        and above.value < below.value
    )
