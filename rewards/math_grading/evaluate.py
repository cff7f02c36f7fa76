"""The value of an expression: exact while it is rational, otherwise with as many digits as asked for.

Every operation is bounded before it is done, and an answer has at most a few hundred of them: nothing here can hang.
"""

import operator
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from rewards.math_grading.functions import (
    MAX_EXACT_BITS,
    MAX_MAGNITUDE_BITS,
    Undefined,
    Value,
    binomial,
    call_function,
    factorial,
    inexact,
    logarithm,
    number_context,
    power,
    root,
    spend,
)
from rewards.math_grading.lexer import Unreadable
from rewards.math_grading.normalize import Refused
from rewards.math_grading.tree import Call, Node, Number, Symbol, parts_of

MAX_TERMS = 1000
"""Of a sum or a product with limits."""
LOG_BASE = "the base of log"
"""\\log without a base is natural here and decimal there: the base is a variable of its own."""
_CONSTANTS = frozenset(("pi", "e", "i", "inf", "empty", "reals", "integers", "naturals", "rationals", "complexes"))


def symbols_of(node: Node) -> frozenset[str]:
    """Return the names of the free variables.

    >>> from rewards.math_grading.tree import Call, Symbol
    >>> symbols_of(Call("*", (Symbol("pi"), Symbol("r"))))
    frozenset({'r'})
    """
    return frozenset(_symbols(node))


def _symbols(node: Node) -> Iterator[str]:
    if isinstance(node, Symbol):
        if node.name not in _CONSTANTS:
            yield node.name
    elif isinstance(node, Call):
        children = node.args[1:] if node.op in ("sum", "prod") else node.args
        bound = {node.args[0].name} if node.op in ("sum", "prod") and isinstance(node.args[0], Symbol) else set()
        if node.op == "log" and len(node.args) == 1:
            yield LOG_BASE
        for child in children:
            yield from (name for name in _symbols(child) if name not in bound)
    else:
        for part in parts_of(node):
            yield from _symbols(part)


def has_symbol(node: Node, name: str) -> bool:
    """Whether a symbol, or a constant such as i, occurs in a node."""
    return node == Symbol(name) or any(has_symbol(part, name) for part in parts_of(node))


def evaluate(node: Node, values: Mapping[str, Value], digits: int, *, is_real: bool = False) -> Value:
    """Return the value of an expression with the given values of its variables.

    is_real: imaginary numbers count as undefined, on the way to the value as well.

    >>> from rewards.math_grading.tree import Call, Number
    >>> evaluate(Call("/", (Number(Fraction(1)), Number(Fraction(3)))), {}, 30)
    Fraction(1, 3)
    """
    context = number_context()
    context.dps = digits
    return _Evaluator(values, context, is_real=is_real).value(node)


class _Evaluator:
    def __init__(self, values: Mapping[str, Value], context: Any, *, is_real: bool) -> None:
        self._is_real = is_real
        self._values = values
        self._context = context

    def value(self, node: Node) -> Value:
        if isinstance(node, Number):
            return node.value
        if isinstance(node, Symbol):
            return self._symbol(node.name)
        if not isinstance(node, Call):
            raise Unreadable("no value")
        if node.op in ("sum", "prod"):
            return self._series(node)
        spend()
        arguments = list(map(self.value, node.args))  # a comprehension would take one more stack frame for each level
        return self._bounded(self._apply(node.op, arguments))

    def _symbol(self, name: str) -> Value:
        if name in self._values:
            return self._values[name]
        if name in ("pi", "e"):
            return +getattr(self._context, name)
        if name == "i":
            return self._context.mpc(0, 1)
        raise Unreadable(f"{name} has no value")

    def _bounded(self, value: Value) -> Value:
        if isinstance(value, Fraction):
            bits = max(value.numerator.bit_length(), value.denominator.bit_length())
            return inexact(value) if bits > MAX_EXACT_BITS else value
        if self._is_real and isinstance(value, self._context.mpc):
            raise Undefined("not a real number")
        if not self._context.isfinite(value):
            raise Undefined("not a finite number")
        if value != 0 and abs(self._context.mag(value)) > MAX_MAGNITUDE_BITS:
            raise Refused("a value beyond 2^1000000")
        return value

    def _apply(self, op: str, arguments: list[Value]) -> Value:
        if op in _OPERATIONS:
            return _OPERATIONS[op](*arguments)
        if op in ("ln", "log", "lg"):
            bases = {"ln": None, "lg": Fraction(10), "log": self._values.get(LOG_BASE)}  # None: e
            return logarithm(arguments[0], arguments[1] if len(arguments) == 2 else bases[op])
        return call_function(op, arguments)

    def _series(self, node: Call) -> Value:
        variable, start, end, body = node.args
        first, last = self.value(start), self.value(end)
        if not isinstance(variable, Symbol) or any(
            not isinstance(limit, Fraction) or limit.denominator != 1 for limit in (first, last)
        ):
            raise Undefined("limits that are no integers")
        if last < first - 1:
            raise Undefined("limits in the wrong order")
        if last - first >= MAX_TERMS:
            raise Refused(f"a sum or product of more than {MAX_TERMS} terms")
        total = Fraction(0) if node.op == "sum" else Fraction(1)
        for index in range(int(first), int(last) + 1):
            inner = _Evaluator({**self._values, variable.name: Fraction(index)}, self._context, is_real=self._is_real)
            total = self._bounded(_OPERATIONS["+" if node.op == "sum" else "*"](total, inner.value(body)))
        return total


def _both_exact_or_neither(operation: Callable[[Value, Value], Value]) -> Callable[[Value, Value], Value]:
    def operate(left: Value, right: Value) -> Value:
        if isinstance(left, Fraction) != isinstance(right, Fraction):
            left, right = inexact(left), inexact(right)
        return operation(left, right)

    return operate


def _divide(left: Value, right: Value) -> Value:
    if right == 0:
        raise Undefined("a division by zero")
    return left / right


_OPERATIONS: Mapping[str, Callable[..., Value]] = {
    "+": _both_exact_or_neither(operator.add),
    "-": _both_exact_or_neither(operator.sub),
    "*": _both_exact_or_neither(operator.mul),
    "apply": _both_exact_or_neither(operator.mul),
    "/": _both_exact_or_neither(_divide),
    "neg": operator.neg,
    "abs": abs,
    "^": power,
    "root": root,
    "%": lambda value: value / 100,
    "deg": lambda value: inexact(value) * number_context().pi / 180,
    "!": lambda value: factorial(value, step=1),
    "!!": lambda value: factorial(value, step=2),
    "binom": binomial,
}
