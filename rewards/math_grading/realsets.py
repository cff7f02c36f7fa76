"""Sets of real numbers as sorted pieces: unions, intersections and differences of intervals and points."""

from dataclasses import dataclass
from fractions import Fraction

from rewards.math_grading.evaluate import evaluate, symbols_of
from rewards.math_grading.functions import Value, number_context
from rewards.math_grading.numeric import DIGITS, are_equal
from rewards.math_grading.tree import Call, Group, Node, Symbol

_INFINITY = Symbol("inf")
_MINUS_INFINITY = Call("neg", (_INFINITY,))


@dataclass(frozen=True, slots=True)
class Edge:
    """Where a piece begins or ends: at a value, or at an infinity (value None)."""

    node: Node
    value: Value
    sign: int
    """-1 and 1 for the infinities, 0 for a number."""


@dataclass(frozen=True, slots=True)
class Piece:
    """An interval; a point when low and high are one closed value."""

    low: Edge
    low_closed: bool
    high: Edge
    high_closed: bool


def pieces_of(node: Node) -> list[Piece] | None:
    """Return a set of real numbers as disjoint pieces in ascending order; None when the node is no such set.

    >>> from rewards.math_grading.reader import read
    >>> from rewards.math_grading.structure import canonical
    >>> len(pieces_of(canonical(read(r"[0,1] \\cup [1,2] \\cup \\{5\\}"))))
    2
    """
    if not isinstance(node, Group):
        return None
    if node.kind in ("union", "cap", "setminus"):
        operands = [pieces_of(item) for item in node.items]
        if any(operand is None for operand in operands):
            return None
        sets = [operand for operand in operands if operand is not None]
        result = sets[0]
        for other in sets[1:]:
            if node.kind == "union":
                result = _merged(result + other)
            else:
                result = _intersection(result, other if node.kind == "cap" else _complement(other))
        return result
    if node.kind == "{}":
        edges = [_edge(item) for item in node.items]
        return None if None in edges else _merged([Piece(edge, True, edge, True) for edge in edges if edge is not None])
    if len(node.kind) == 2 and node.kind[0] in "([" and len(node.items) == 2:
        low, high = _edge(node.items[0]), _edge(node.items[1])
        if low is None or high is None or _is_above(low, high):
            return None
        return [Piece(low, node.kind[0] == "[", high, node.kind[1] == "]")]
    return None


def same_pieces(first: list[Piece], second: list[Piece]) -> bool:
    """Return whether two lists of pieces are one set."""
    return len(first) == len(second) and all(
        (one.low_closed, one.high_closed) == (other.low_closed, other.high_closed)
        and _same_edge(one.low, other.low)
        and _same_edge(one.high, other.high)
        for one, other in zip(first, second, strict=True)
    )


def _edge(node: Node) -> Edge | None:
    if node in (_INFINITY, _MINUS_INFINITY):
        return Edge(node, None, 1 if node == _INFINITY else -1)
    if isinstance(node, Group) or symbols_of(node):
        return None
    value = evaluate(node, {}, DIGITS[0])
    if isinstance(value, number_context().mpc):
        return None
    return Edge(node, value if isinstance(value, Fraction) else Fraction(str(value)), 0)


def _is_above(first: Edge, second: Edge) -> bool:
    if first.sign or second.sign:
        return first.sign > second.sign
    return bool(first.value > second.value) and not _same_edge(first, second)


def _same_edge(first: Edge, second: Edge) -> bool:
    if first.sign or second.sign:
        return first.sign == second.sign
    return are_equal(first.node, second.node)


def _merged(pieces: list[Piece]) -> list[Piece]:
    """The union of pieces that may overlap or touch."""
    merged: list[Piece] = []
    for piece in sorted(pieces, key=lambda piece: (piece.low.sign, piece.low.value or 0, not piece.low_closed)):
        last = merged[-1] if merged else None
        touches = last is not None and (
            _is_above(last.high, piece.low) or (_same_edge(last.high, piece.low) and (last.high_closed or piece.low_closed))
        )
        if last is None or not touches:
            merged.append(piece)
        elif _is_above(piece.high, last.high):
            merged[-1] = Piece(last.low, last.low_closed, piece.high, piece.high_closed)
        elif _same_edge(piece.high, last.high):
            merged[-1] = Piece(last.low, last.low_closed, last.high, last.high_closed or piece.high_closed)
    return merged


def _complement(pieces: list[Piece]) -> list[Piece]:
    low, low_closed = Edge(_MINUS_INFINITY, None, -1), False
    gaps: list[Piece] = []
    for piece in pieces:
        if piece.low.sign >= 0:
            gaps.append(Piece(low, low_closed, piece.low, not piece.low_closed))
        low, low_closed = piece.high, not piece.high_closed
    if low.sign <= 0:
        gaps.append(Piece(low, low_closed, Edge(_INFINITY, None, 1), False))
    return [gap for gap in gaps if not _is_empty(gap)]


def _intersection(first: list[Piece], second: list[Piece]) -> list[Piece]:
    common: list[Piece] = []
    for one in first:
        for other in second:
            low, low_closed = _inner(one.low, one.low_closed, other.low, other.low_closed, _is_above(one.low, other.low))
            high, high_closed = _inner(one.high, one.high_closed, other.high, other.high_closed, _is_above(other.high, one.high))
            piece = Piece(low, low_closed, high, high_closed)
            if not _is_empty(piece):
                common.append(piece)
    return _merged(common)


def _inner(one: Edge, one_closed: bool, other: Edge, other_closed: bool, one_is_inner: bool) -> tuple[Edge, bool]:
    if _same_edge(one, other):
        return one, one_closed and other_closed
    return (one, one_closed) if one_is_inner else (other, other_closed)


def _is_empty(piece: Piece) -> bool:
    if _same_edge(piece.low, piece.high):
        return piece.low.sign != 0 or not (piece.low_closed and piece.high_closed)
    return _is_above(piece.low, piece.high)
