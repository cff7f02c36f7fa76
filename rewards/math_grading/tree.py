"""What an answer is read as: a small tree of frozen nodes."""

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written.

    >>> Number(Fraction(5, 2), decimals=1).value
    Fraction(5, 2)
    """

    value: Fraction
    decimals: int | None = None
    """Digits after the point of a decimal; None for an integer or a repeating decimal: those are exact."""
    significant: int = 0
    """Digits of a decimal without its leading zeros."""


@dataclass(frozen=True, slots=True)
class Symbol:
    """A variable, or one of the constants pi, e, i, inf."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """An operation on expressions: + * / ^ neg pm mp ! !! % deg apply, or a function by its name."""

    op: str
    args: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Group:
    """Several values.

    kind: "list" (no brackets; "or" when its items are alternatives), "()" "[]" "(]" "[)" (tuples and intervals), "<>"
    (vectors), "{}" (sets), "union", "cap", "setminus", "ratio", "matrix" and "det" (their items are of kind "row").
    """

    kind: str
    items: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Relation:
    """sides[0] ops[0] sides[1] ops[1] sides[2] ...; ops: = < > <= >= != in approx."""

    ops: tuple[str, ...]
    sides: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Based:
    """An integer written in a base, by its digits: 52_8 is the answer "52" in base 8, not the number 42."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value with its unit in one spelling: "cm", "dollar", "%", "degree"."""

    value: "Node"
    unit: str


@dataclass(frozen=True, slots=True)
class Words:
    """Text that is no mathematics, folded to lower case without punctuation."""

    text: str


Node = Number | Symbol | Call | Group | Relation | Based | Quantity | Words


def parts_of(node: Node) -> tuple[Node, ...]:
    """Return the nodes that a node is made of, in order.

    >>> parts_of(Group("()", (Symbol("x"), Symbol("y"))))
    (Symbol(name='x'), Symbol(name='y'))
    """
    if isinstance(node, Call):
        return node.args
    if isinstance(node, Group):
        return node.items
    if isinstance(node, Relation):
        return node.sides
    return (node.value,) if isinstance(node, Quantity) else ()
