"""Functions of numbers, each bounded before it is computed. A number is a Fraction while it is exact, else mpmath's."""

import math
import threading
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import reduce
from typing import Any

from rewards.math_grading.lexer import NotEvaluated, Unreadable
from rewards.math_grading.normalize import Refused

Value = Any
"""A Fraction, or mpmath's mpf or mpc."""

MAX_EXACT_BITS = 20_000
"""A larger rational goes on as a float; a product of 400 factors of this size still takes milliseconds."""
MAX_MAGNITUDE_BITS = 1_000_000
"""Of any value: 2^(10^6) is beyond what an answer is; mpmath's own powers slow down far above it."""
MAX_ANGLE = 10**12
"""Of trigonometric functions: reducing a larger one needs as many more digits."""
MAX_FACTORIAL = 1000
MAX_WORK = 40_000
"""For all of one verdict, in units of an addition (some 20 microseconds at 150 digits): about a second."""
_WORK_OF_FUNCTION = 5
_WORK_OF_GAMMA = 50

_local = threading.local()


class Undefined(Unreadable):
    """A division by zero, log 0 and the like."""


def start_verdict() -> None:
    """Give this thread a fresh budget of work; without it the last one goes on."""
    _local.work_left = MAX_WORK


def spend(units: int = 1) -> None:
    """Take work off the budget; raise `Refused` when none is left."""
    _local.work_left = getattr(_local, "work_left", MAX_WORK) - units
    if _local.work_left < 0:
        raise Refused("more to compute than an answer needs")


def _compute(function: Callable[..., Value], *arguments: Value, work: int = _WORK_OF_FUNCTION) -> Value:
    """Call mpmath within the budget; where it has a pole, the value is undefined."""
    spend(work)
    try:
        return function(*arguments)
    except (ValueError, ZeroDivisionError) as pole:
        raise Undefined(str(pole)) from pole


def number_context() -> Any:
    """This thread's own mpmath context: the package's global one would share its precision between threads."""
    if not hasattr(_local, "context"):
        import mpmath

        _local.context = mpmath.MPContext()
    return _local.context


def inexact(value: Value) -> Value:
    """Return a Fraction as a float of the context's precision, anything else as it is."""
    return number_context().mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def call_function(name: str, arguments: list[Value]) -> Value:
    """Return the value of a function of one or more numbers; raise `NotEvaluated` for a function not known here."""
    if name in _EXACT_FUNCTIONS:
        return _EXACT_FUNCTIONS[name](arguments)
    if len(arguments) != 1 or name not in (*_MPMATH_NAMES, "cis"):
        raise NotEvaluated(f"{name} is not computed")
    argument = inexact(arguments[0])
    if name == "cis":
        return _compute(number_context().expj, argument)
    if abs(argument) > (MAX_MAGNITUDE_BITS if name == "exp" else MAX_ANGLE):
        raise Refused(f"{name} of a number that is too large")
    if argument == 0 and name in _AT_ZERO:
        exact = _AT_ZERO[name]
        if exact is None:
            raise Undefined(f"{name} 0")
        return Fraction(exact)
    return _compute(getattr(number_context(), _MPMATH_NAMES[name]), argument)


def logarithm(argument: Value, base: Value | None) -> Value:
    """Return the logarithm, exactly where it is an integer: \\log_2 8 is 3. base None: the natural one."""
    context = number_context()
    if argument == 0:
        raise Undefined("the logarithm of zero")
    if base is None:
        return _compute(context.ln, inexact(argument))
    if base in (0, 1):
        raise Undefined("a logarithm to the base 0 or 1")
    value = _compute(context.ln, inexact(argument)) / _compute(context.ln, inexact(base))
    if isinstance(argument, Fraction) and isinstance(base, Fraction) and base > 0:
        nearest = int(context.nint(value.real))
        if abs(nearest) * base.numerator.bit_length() <= MAX_EXACT_BITS and base**nearest == argument:
            return Fraction(nearest)
    return value


def power(base: Value, exponent: Value) -> Value:
    """Return base^exponent, exactly where it is rational and not too long."""
    context = number_context()
    if base == 0:
        if isinstance(exponent, Fraction) and exponent > 0:
            return Fraction(0)
        raise Undefined("a power of zero")
    if exponent == 0:
        return Fraction(1)
    if isinstance(exponent, Fraction) and isinstance(base, Fraction):
        exact = _exact_power(base, exponent)
        if exact is not None:
            return exact
    is_negative = not isinstance(base, context.mpc) and base < 0
    if is_negative and isinstance(exponent, Fraction) and exponent.denominator % 2 and exponent.denominator > 1:
        # The real root, as schools take it: (-8)^{1/3} = -2.
        return (-1) ** exponent.numerator * power(-base, exponent)
    base, exponent = inexact(base), inexact(exponent)
    if abs(exponent) * max(1, abs(context.mag(base))) > MAX_MAGNITUDE_BITS:
        raise Refused("a power that is too large")
    return _compute(context.power, base, exponent)


def root(radicand: Value, degree: Value) -> Value:
    """Return the principal root; the real one for a negative radicand and an odd degree."""
    if degree == 0:
        raise Undefined("a root of degree 0")
    if degree == 2 and not isinstance(radicand, Fraction):
        return _compute(number_context().sqrt, radicand)
    return power(radicand, 1 / degree)


def factorial(number: Value, step: int) -> Value:
    """Return n! (step 1) or n!! (step 2); for numbers that are no integers gamma(n + 1)."""
    if isinstance(number, Fraction) and number.denominator == 1:
        if number < 0:
            raise Undefined("the factorial of a negative number")
        if number > MAX_FACTORIAL:
            raise Refused(f"a factorial above {MAX_FACTORIAL}!")
        spend(int(number) // 20)
        return Fraction(math.prod(range(int(number), 0, -step)))
    if step == 2 or abs(inexact(number)) > MAX_FACTORIAL:
        raise Refused("a factorial that is not computed")
    return _compute(number_context().gamma, inexact(number) + 1, work=_WORK_OF_GAMMA)


def binomial(above: Value, below: Value) -> Value:
    """Return the binomial coefficient."""
    if abs(inexact(above)) > MAX_FACTORIAL or abs(inexact(below)) > MAX_FACTORIAL:
        raise Refused("a binomial coefficient that is not computed")
    if isinstance(above, Fraction) and isinstance(below, Fraction) and above.denominator == below.denominator == 1 and above >= 0:
        return Fraction(math.comb(int(above), int(below)) if below >= 0 else 0)
    return _compute(number_context().binomial, inexact(above), inexact(below), work=3 * _WORK_OF_GAMMA)


def _exact_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1:
        whole_root = _exact_root(base, exponent.denominator) if base > 0 else None
        return None if whole_root is None else _exact_power(whole_root, Fraction(exponent.numerator))
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(base) == 1:
        return base ** (exponent.numerator % 2)
    return base**exponent.numerator if abs(exponent.numerator) * bits <= MAX_EXACT_BITS else None


def _exact_root(number: Fraction, degree: int) -> Fraction | None:
    """Return the rational root of a positive number, or None when it has none.

    >>> _exact_root(Fraction(9, 4), 2), _exact_root(Fraction(27), 3), _exact_root(Fraction(2), 2)
    (Fraction(3, 2), Fraction(3, 1), None)
    """
    above, below = _whole_root(number.numerator, degree), _whole_root(number.denominator, degree)
    return None if above is None or below is None else Fraction(above, below)


def _whole_root(number: int, degree: int) -> int | None:
    if degree == 2:
        nearest = math.isqrt(number)
    elif number.bit_length() > 900:  # beyond the range of a float
        return None
    else:
        nearest = round(number ** (1 / degree))
    return nearest if degree <= 1000 and nearest**degree == number else None


def _whole_numbers(arguments: list[Value]) -> list[int]:
    if any(not isinstance(argument, Fraction) or argument.denominator != 1 for argument in arguments):
        raise NotEvaluated("only for integers")
    return [int(argument) for argument in arguments]


def _remainder(arguments: list[Value]) -> Value:
    dividend, divisor = _whole_numbers(arguments)
    if divisor == 0:
        raise Undefined("a remainder by zero")
    return Fraction(dividend % divisor)


def _floor(arguments: list[Value]) -> Value:
    value = arguments[0]
    if isinstance(value, Fraction):
        return Fraction(math.floor(value))
    context = number_context()
    if isinstance(value, context.mpc) or abs(value) > 10**12 or abs(value - context.nint(value)) < 10**-12:
        raise NotEvaluated("too near to an integer to be rounded down")
    return Fraction(int(context.floor(value)))


def _extreme(choose: Callable[[list[Fraction]], Fraction]) -> Callable[[list[Value]], Value]:
    def extreme(arguments: list[Value]) -> Value:
        if any(not isinstance(argument, Fraction) for argument in arguments):
            raise NotEvaluated("only for rational numbers")
        return choose(arguments)

    return extreme


_EXACT_FUNCTIONS: Mapping[str, Callable[[list[Value]], Value]] = {
    "mod": _remainder,
    "gcd": lambda arguments: Fraction(reduce(math.gcd, _whole_numbers(arguments))),
    "lcm": lambda arguments: Fraction(math.lcm(*_whole_numbers(arguments))),
    "floor": _floor,
    "ceil": lambda arguments: -_floor([-arguments[0]]),
    "max": _extreme(max),
    "min": _extreme(min),
}
_AT_ZERO: Mapping[str, int | None] = {
    **dict.fromkeys(("sin", "tan", "arcsin", "arctan", "sinh", "tanh", "arsinh", "artanh"), 0),
    **dict.fromkeys(("cos", "exp", "cosh", "sec"), 1),
    **dict.fromkeys(("cot", "csc", "coth"), None),
}
"""Exact where tables are; None where a function has a pole."""
_MPMATH_NAMES = {
    "sin": "sin", "cos": "cos", "tan": "tan", "cot": "cot", "sec": "sec", "csc": "csc", "sinh": "sinh", "cosh": "cosh",
    "tanh": "tanh", "coth": "coth", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot", "arcsec": "asec",
    "arccsc": "acsc", "arsinh": "asinh", "arcosh": "acosh", "artanh": "atanh", "exp": "exp", "re": "re", "im": "im", "arg": "arg",
}  # fmt: skip
