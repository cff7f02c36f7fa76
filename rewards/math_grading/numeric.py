"""Whether two expressions are equal for all values of their variables, or up to a constant factor."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from functools import partial
from random import Random

from rewards.math_grading.evaluate import LOG_BASE, evaluate, symbols_of
from rewards.math_grading.functions import Undefined, Value, inexact, number_context
from rewards.math_grading.lexer import NotEvaluated
from rewards.math_grading.tree import Node

DIGITS = (30, 150)
"""The two precisions. A difference that is nothing but rounding shrinks by 1e-120 between them, a real one stays."""
_LEAST_SHRINKING = 1e100
_SURELY_DIFFERENT = 1e-12
"""Relative difference at 30 digits; short of losing 18 of them to cancellation, no rounding makes one this large."""
_NUM_POINTS = 4
_MAX_POINTS = 12

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
    return _agree(
        symbols, repr((first, second)), lambda values, digits: (evaluate(first, values, digits), evaluate(second, values, digits))
    )


def are_proportional(first: Node, second: Node, *, positive: bool) -> bool:
    """Return whether first = c * second with one constant c != 0 (c > 0 where `positive`), and neither is always 0."""
    symbols = sorted(symbols_of(first) | symbols_of(second))
    for base in _points(symbols, repr((second, first))):
        with suppress(Undefined):
            first_base, second_base = (evaluate(node, base, DIGITS[0]) for node in (first, second))
            if not _is_real(first_base) or not _is_real(second_base):
                continue
            if _is_zero(first, base) or _is_zero(second, base):
                # Both may be zero by chance at one point, or one of them everywhere: an identity is no equation.
                continue
            if positive and (first_base > 0) != (second_base > 0):
                return False
            return _agree(symbols, repr((first, second)), partial(_cross_products, first, second, base))
    return False


def _cross_products(
    first: Node, second: Node, base: Mapping[str, Value], values: Mapping[str, Value], digits: int
) -> tuple[Value, Value]:
    """first(here) * second(base) and second(here) * first(base): equal when the ratio of the two is constant."""
    here, there = evaluate(first, values, digits), evaluate(second, base, digits)
    other, back = evaluate(second, values, digits), evaluate(first, base, digits)
    return _times(here, there), _times(other, back)


def _agree(symbols: list[str], seed: str, difference: Difference) -> bool:
    if LOG_BASE in symbols:
        others = [name for name in symbols if name != LOG_BASE]
        bases = (Fraction(17, 3), Fraction(10), +number_context().e)
        return any(_agree(others, seed, partial(_with_base, difference, base)) for base in bases)
    if not symbols:
        return _same_value(partial(difference, {}))
    num_compared = 0
    for values in _points(symbols, seed):
        with suppress(Undefined):
            left, right = difference(values, DIGITS[0])
            if _is_real(left) != _is_real(right):
                continue  # \ln x^2 and 2 \ln x are equal where both are real
            if not _same_value(partial(difference, values)):
                return False
            num_compared += 1
            if num_compared == _NUM_POINTS:
                return True
    if num_compared == 0:
        raise NotEvaluated("no point at which both are defined")
    return True


def _with_base(difference: Difference, base: Value, values: Mapping[str, Value], digits: int) -> tuple[Value, Value]:
    return difference({**values, LOG_BASE: base}, digits)


def _points(symbols: list[str], seed: str) -> Iterator[dict[str, Value]]:
    """Rational points, positive and mixed, small and large. They follow from both expressions (the seed), so that no
    answer can be written that is right at just these points."""
    random = Random(seed)
    for index in range(_MAX_POINTS if symbols else 1):
        point = {}
        for name in symbols:
            coordinate = Fraction(random.randint(101, 997), random.randint(101, 499))
            coordinate = 1 / coordinate if index % 3 == 1 and coordinate > 1 else coordinate
            point[name] = -coordinate if index % 2 and random.random() < 0.5 else coordinate
        yield point


def _same_value(values: Callable[[int], tuple[Value, Value]]) -> bool:
    left, right = values(DIGITS[0])
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return left == right
    coarse = abs(_minus(left, right))
    size = max(abs(inexact(left)), abs(inexact(right)))
    if coarse > size * _SURELY_DIFFERENT and coarse > 1e-18:
        return False
    left, right = values(DIGITS[1])
    fine = abs(_minus(left, right))
    # At equal values the coarse difference may be 0 by luck; what rounding would have left stands in for it.
    coarse = coarse or max(size, 1) * number_context().mpf(10) ** -DIGITS[0]
    return bool(fine * _LEAST_SHRINKING <= coarse)


def _is_zero(node: Node, values: Mapping[str, Value]) -> bool:
    return _same_value(lambda digits: (evaluate(node, values, digits), Fraction(0)))


def _is_real(value: Value) -> bool:
    return isinstance(value, Fraction) or not value.imag or abs(value.imag) < abs(value) * 1e-20


def _minus(left: Value, right: Value) -> Value:
    return inexact(left) - inexact(right)


def _times(left: Value, right: Value) -> Value:
    exact = isinstance(left, Fraction) and isinstance(right, Fraction)
    return left * right if exact else inexact(left) * inexact(right)
