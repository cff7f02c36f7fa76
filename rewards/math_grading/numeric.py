"""Whether two expressions are equal for all values of their variables, or up to a constant factor."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from functools import partial
from random import Random

from rewards.math_grading.evaluate import LOG_BASE, evaluate, has_symbol, symbols_of
from rewards.math_grading.functions import Undefined, Value, inexact, number_context
from rewards.math_grading.lexer import NotEvaluated
from rewards.math_grading.tree import Node

DIGITS = (30, 150)
"""The two precisions. A difference that is nothing but rounding shrinks by 1e-120 between them, a real one stays."""
_LEAST_SHRINKING = 1e100
_SURELY_DIFFERENT = 1e-12
"""Relative difference at 30 digits; short of losing 18 of them to cancellation, no rounding makes one this large."""
_LOG_BASES: tuple[Fraction | None, ...] = (Fraction(7_364_953_271, 1_290_738_019), Fraction(10), None)
"""What \\log without a base is tried with: any base (so an odd one, which no answer names), 10, and e."""
_SIZES = ((3, 4), (1, 1), (11, 1), (1, 10), (201, 1))
"""(numerator, denominator) of the sizes of the points' coordinates; the first is an integer."""

Difference = Callable[[Mapping[str, Value], int], tuple[Value, Value]]
"""(values of the variables, digits) -> two values that should be equal."""


def are_equal(first: Node, second: Node) -> bool:
    """Return whether two expressions have the same value wherever both are defined and real.

    Raises `NotEvaluated` when no point could be found, and what `evaluate` raises.

    >>> from rewards.math_grading.lexer import tokenize
    >>> from rewards.math_grading.parser import Parser
    >>> read = lambda text: Parser(tokenize(text)[0]).answer()
    >>> are_equal(read("(x+1)^2"), read("x^2+2x+1")), are_equal(read("x^2"), read("2x"))
    (True, False)
    """
    symbols = sorted(symbols_of(first) | symbols_of(second))
    for is_real in (True, False) if symbols and not has_symbol(first, "i") and not has_symbol(second, "i") else (False,):
        # \\sqrt{x+1}\\sqrt{x-1} is \\sqrt{x^2-1}: where one of the roots is imaginary, schools call it undefined.
        with suppress(NotEvaluated):
            return _agree(symbols, partial(_both, first, second, is_real))
    raise NotEvaluated("no point at which both are defined")


def are_proportional(first: Node, second: Node, *, positive: bool) -> bool:
    """Return whether first = c * second with one constant c != 0 (c > 0 where `positive`), and neither is always 0."""
    symbols = sorted(symbols_of(first) | symbols_of(second))
    for base in _points(symbols):
        with suppress(Undefined):
            first_base, second_base = (evaluate(node, base, DIGITS[0]) for node in (first, second))
            if not _is_real(first_base) or not _is_real(second_base):
                continue
            if _is_zero(first, base) or _is_zero(second, base):
                # Both may be zero by chance at one point, or one of them everywhere: an identity is no equation.
                continue
            if positive and (first_base.real > 0) != (second_base.real > 0):
                return False
            return _agree(symbols, partial(_cross_products, first, second, base))
    return False


def _both(first: Node, second: Node, is_real: bool, values: Mapping[str, Value], digits: int) -> tuple[Value, Value]:
    return evaluate(first, values, digits, is_real=is_real), evaluate(second, values, digits, is_real=is_real)


def _cross_products(
    first: Node, second: Node, base: Mapping[str, Value], values: Mapping[str, Value], digits: int
) -> tuple[Value, Value]:
    """first(here) * second(base) and second(here) * first(base): equal when the ratio of the two is constant."""
    here, there = evaluate(first, values, digits), evaluate(second, base, digits)
    other, back = evaluate(second, values, digits), evaluate(first, base, digits)
    return _times(here, there), _times(other, back)


def _agree(symbols: list[str], difference: Difference) -> bool:
    if LOG_BASE in symbols:
        others = [name for name in symbols if name != LOG_BASE]
        return any(_agree(others, partial(_with_base, difference, base)) for base in _LOG_BASES)
    if not symbols:
        return _same_value(partial(difference, {}))
    real, complex_points = [], []
    for values in _points(symbols):
        with suppress(Undefined):
            left, right = difference(values, DIGITS[0])
            if _is_real(left) and _is_real(right):
                if _is_surely_different(left, right):
                    return False
                real.append(values)
            elif not _is_real(left) and not _is_real(right):
                complex_points.append(values)
    # \\ln x^2 and 2 \\ln x are equal, since they are where both are real; complex values count only where there are no others.
    points = real or complex_points
    if not points:
        raise NotEvaluated("no point at which both are defined")
    return all(_same_value(partial(difference, values)) for values in points[:2])


def _with_base(difference: Difference, base: Value | None, values: Mapping[str, Value], digits: int) -> tuple[Value, Value]:
    return difference({**values, LOG_BASE: base}, digits)


def _points(symbols: list[str]) -> Iterator[dict[str, Value]]:
    """Points of each size, all positive, all negative and mixed. They follow from the names of the variables alone, so that
    the order of the two sides does not matter. No coordinate has an odd denominator but the integers: (-1)^n is real at
    these only, and compared there."""
    random = Random(" ".join(symbols))
    for size, (numerator, denominator) in enumerate(_SIZES if symbols else _SIZES[:1]):
        for signs in ("+", "-", "+-")[: 1 if not symbols else 2 + (len(symbols) > 1)]:
            point = {}
            for index, name in enumerate(symbols):
                odd, even = 2 * random.randint(100, 400) + 1, 2 * random.randint(100, 200)
                coordinate = Fraction(odd * numerator, even * denominator)
                if size == 0:
                    coordinate = Fraction(random.randint(3, 12))
                point[name] = -coordinate if signs[index % len(signs)] == "-" else coordinate
            yield point


def _same_value(values: Callable[[int], tuple[Value, Value]]) -> bool:
    left, right = values(DIGITS[0])
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return left == right
    if _is_surely_different(left, right):
        return False
    coarse = abs(_minus(left, right))
    size = max(abs(inexact(left)), abs(inexact(right)))
    left, right = values(DIGITS[1])
    fine = abs(_minus(left, right))
    # At equal values the coarse difference may be 0 by luck; what rounding would have left stands in for it.
    coarse = coarse or max(size, 1) * number_context().mpf(10) ** -DIGITS[0]
    return bool(fine * _LEAST_SHRINKING <= coarse)


def _is_surely_different(left: Value, right: Value) -> bool:
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return left != right
    difference = abs(_minus(left, right))
    return bool(difference > max(abs(inexact(left)), abs(inexact(right))) * _SURELY_DIFFERENT and difference > 1e-18)


def _is_zero(node: Node, values: Mapping[str, Value]) -> bool:
    return _same_value(lambda digits: (evaluate(node, values, digits), Fraction(0)))


def _is_real(value: Value) -> bool:
    return isinstance(value, Fraction) or not value.imag or abs(value.imag) < abs(value) * 1e-20


def _minus(left: Value, right: Value) -> Value:
    return inexact(left) - inexact(right)


def _times(left: Value, right: Value) -> Value:
    exact = isinstance(left, Fraction) and isinstance(right, Fraction)
    return left * right if exact else inexact(left) * inexact(right)
