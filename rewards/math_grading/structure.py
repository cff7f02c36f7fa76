"""One shape for each meaning, before two answers are compared: plus-minus spelt out, inequalities as intervals."""

from collections.abc import Iterator

from rewards.math_grading.determinant import determinant
from rewards.math_grading.evaluate import symbols_of
from rewards.math_grading.lexer import Unreadable
from rewards.math_grading.normalize import Refused
from rewards.math_grading.numeric import are_equal
from rewards.math_grading.realsets import pieces_of
from rewards.math_grading.tolerance import decimal_of, is_coarsely
from rewards.math_grading.tree import Call, Group, Node, Number, Quantity, Relation, Symbol, parts_of

INFINITY = Symbol("inf")
MINUS_INFINITY = Call("neg", (INFINITY,))
MAX_ITEMS = 60
"""Of a list after plus-minus is spelt out."""
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_INTERVALS = ("()", "[]", "(]", "[)")
_VECTORS = ("()", "<>", "matrix", "row")


def canonical(node: Node) -> Node:
    """Return the node in its one shape.

    >>> from rewards.math_grading.reader import read
    >>> canonical(read("x > 5")) == canonical(read(r"x \\in (5, \\infty)"))
    True
    """
    if isinstance(node, Quantity):
        return Quantity(canonical(node.value), node.unit)
    if isinstance(node, Symbol):
        return {"reals": Group("()", (MINUS_INFINITY, INFINITY)), "empty": Group("{}", ())}.get(node.name, node)
    if isinstance(node, Call) and node.op in ("%", "deg"):
        return Quantity(canonical(node.args[0]), "%" if node.op == "%" else "degree")
    if isinstance(node, Call | Relation):
        both = _spell_out_plus_minus(node)
        if len(both) > 1:
            return Group("list", tuple(canonical(each) for each in both))
    if isinstance(node, Call):
        return _set_difference(node) or _point(node) or _distribute(node)
    if isinstance(node, Relation):
        return _canonical_relation(node)
    if isinstance(node, Group):
        return _canonical_group(node)
    return node


def assigned(node: Node) -> tuple[str, Node] | None:
    """Return (name, value) of `x = 5`, `f(x) = 5` and `x in {1, 2}`; None for anything else."""
    if isinstance(node, Relation) and node.ops in (("=",), ("in",)):
        name, value = name_of(node.sides[0]), node.sides[1]
        is_value = node.ops == ("=",) or isinstance(value, Group)
        if name is not None and is_value and node.sides[0] not in _nodes(value):  # x = 2x+1 is an equation
            return name, value
    return None


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    for part in parts_of(node):
        yield from _nodes(part)


def name_of(node: Node) -> str | None:
    """Return what a left side names: x, or f(x)."""
    if isinstance(node, Symbol) and node.name not in ("pi", "e", "i", "inf", "empty", "reals"):
        return node.name
    if (
        isinstance(node, Call)
        and node.op == "apply"
        and isinstance(node.args[0], Symbol)
        and isinstance(node.args[1], Symbol | Number)
    ):
        argument = node.args[1]
        return f"{node.args[0].name}({argument.name if isinstance(argument, Symbol) else argument.value})"
    return None


def _spell_out_plus_minus(node: Node) -> list[Node]:
    """Both readings of an expression with \\pm and \\mp, all signs together; [node] when it has none."""
    if not _has_plus_minus(node):
        return [node]
    return [_with_sign(node, upper=True), _with_sign(node, upper=False)]


def _has_plus_minus(node: Node) -> bool:
    return (isinstance(node, Call) and node.op in ("pm", "mp")) or any(map(_has_plus_minus, parts_of(node)))


def _with_sign(node: Node, *, upper: bool) -> Node:
    if isinstance(node, Call):
        arguments = tuple(_with_sign(argument, upper=upper) for argument in node.args)
        if node.op not in ("pm", "mp"):
            return Call(node.op, arguments)
        is_plus = (node.op == "pm") is upper
        if len(arguments) == 1:
            return arguments[0] if is_plus else Call("neg", arguments)
        return Call("+" if is_plus else "-", arguments)
    if isinstance(node, Group):
        return Group(node.kind, tuple(_with_sign(item, upper=upper) for item in node.items))
    if isinstance(node, Relation):
        return Relation(node.ops, tuple(_with_sign(side, upper=upper) for side in node.sides))
    return node


def _set_difference(node: Call) -> Node | None:
    """R - {1} is R without 1."""
    if node.op != "-" or not all(isinstance(part, Group) or part == Symbol("reals") for part in node.args):
        return None
    return canonical(Group("setminus", node.args))


def _point(node: Call) -> Node | None:
    """A(1, 2) is the point (1, 2)."""
    name, value = node.args if node.op == "apply" else (None, None)
    is_point = isinstance(value, Group) and value.kind == "()" and isinstance(name, Symbol) and name.name.isupper()
    return canonical(value) if is_point and value is not None else None


def _distribute(node: Call) -> Node:
    """Multiply a factor into a vector or a matrix: \\frac12 (2, 4) is (1, 2)."""
    vectors = [argument for argument in node.args if isinstance(argument, Group) and argument.kind in _VECTORS]
    if len(vectors) != 1 or node.op not in ("*", "/", "neg", "apply") or (node.op == "/" and node.args[0] is not vectors[0]):
        return node
    position = node.args.index(vectors[0])
    items = tuple(
        canonical(Call(node.op, (*node.args[:position], item, *node.args[position + 1 :])))
        for item in canonical_items(vectors[0])
    )
    return _canonical_group(Group(vectors[0].kind, items))


def canonical_items(group: Group) -> tuple[Node, ...]:
    return tuple(canonical(item) for item in group.items)


def _canonical_relation(node: Relation) -> Node:
    sides = tuple(canonical(side) if not _is_expression(side) else side for side in node.sides)
    ops = node.ops
    left, right = sides[0], sides[-1]
    if ops in (("=",), ("in",)) and isinstance(left, Group) and isinstance(right, Group) and _are_names(left):
        return right  # (x, y) = (1, 2)
    if "approx" in ops:
        return _without_approximation(ops, sides)
    if all(op == "=" for op in ops):
        return _canonical_equation(ops, sides)
    if ops == ("in",) and isinstance(sides[1], Quantity):
        return Relation(ops, (sides[0], sides[1].value))
    interval = _interval_of(ops, sides)
    if interval is not None:
        return interval
    if len(ops) == 1 and ops[0] in ("<", "<="):
        return Relation((_FLIPPED[ops[0]],), (sides[1], sides[0]))
    return Relation(ops, sides)


def _without_approximation(ops: tuple[str, ...], sides: tuple[Node, ...]) -> Node:
    """\\frac13 \\approx 0.333 says 1/3, since 0.333 is what it rounds to; x \\approx 0.333 says 0.333."""
    if ops[-1] == "approx" and name_of(sides[-2]) is None and decimal_of(sides[-1]) and is_coarsely(sides[-1], sides[-2]):
        exact = sides[:-1]
        return exact[0] if len(exact) == 1 else _canonical_relation(Relation(ops[:-1], exact))
    return _canonical_equation(tuple("=" for _ in ops), sides) if set(ops) <= {"=", "approx"} else Relation(ops, sides)


def _are_names(group: Group) -> bool:
    return all(isinstance(item, Symbol) for item in group.items)


def _is_expression(node: Node) -> bool:
    return isinstance(node, Call) and node.op not in ("pm", "mp", "%", "deg")


def _canonical_equation(ops: tuple[str, ...], sides: tuple[Node, ...]) -> Node:
    """x = 2+3 = 5 is x = 5, and 2+3 = 5 is 5; but 71 = 72 stays what it is."""
    values = sides[1:] if name_of(sides[0]) is not None else sides
    if (len(values) > 1 and all(not symbols_of(value) for value in values)) or len(ops) > 1:
        try:
            if all(are_equal(values[-1], value) for value in values[:-1]):
                return values[-1] if values is sides else Relation(("=",), (sides[0], values[-1]))
        except (Unreadable, Refused):
            pass  # sides without a value, such as tuples: the equation stays as it was written
    # A chain that starts with the value of a name: 5 = x.
    if len(sides) == 2 and name_of(sides[0]) is None and isinstance(sides[1], Symbol) and not symbols_of(sides[0]):
        return Relation(("=",), (sides[1], sides[0]))
    return Relation(ops, sides)


def _interval_of(ops: tuple[str, ...], sides: tuple[Node, ...]) -> Node | None:
    """1 < x <= 3 as x in (1, 3]; None when it is no inequality of one variable with constants."""
    if all(op in (">", ">=") for op in ops):
        ops, sides = tuple(_FLIPPED[op] for op in reversed(ops)), tuple(reversed(sides))
    names = [index for index, side in enumerate(sides) if name_of(side) is not None]
    if len(names) != 1 or any(symbols_of(side) for index, side in enumerate(sides) if index != names[0]):
        return None
    variable = sides[names[0]]
    if ops == ("!=",):
        value = sides[1 - names[0]]
        pieces = (Group("()", (MINUS_INFINITY, value)), Group("()", (value, INFINITY)))
        return Relation(("in",), (variable, Group("union", pieces)))
    if not all(op in ("<", "<=") for op in ops) or len(sides) > 3 or (len(sides) == 3 and names[0] != 1):
        return None
    low, high = (sides[0] if names[0] > 0 else MINUS_INFINITY), (sides[-1] if names[0] < len(sides) - 1 else INFINITY)
    left = "[" if names[0] > 0 and ops[0] == "<=" else "("
    right = "]" if names[0] < len(sides) - 1 and ops[-1] == "<=" else ")"
    return Relation(("in",), (variable, _canonical_group(Group(left + right, (low, high)))))


def _canonical_group(node: Group) -> Node:
    items = canonical_items(node)
    kind = node.kind
    if kind in ("list", "or"):
        items = _flattened(items, ("list", "or"))
        combined = _combined_inequalities(items, is_or=kind == "or")
        if combined is not None:
            return combined
        if (
            kind == "or"
            and all(isinstance(item, Group) and item.kind in _INTERVALS for item in items)
            and any(map(_is_interval, items))
        ):
            return Group("union", items)
        kind = "list"
    if kind == "union":
        items = _flattened(items, ("union",))
        if all(isinstance(item, Group) and item.kind == "{}" for item in items):
            return Group("{}", tuple(element for item in items if isinstance(item, Group) for element in item.items))
    if kind == "{}":
        items = _flattened(items, ("list",))
    if kind == "det":
        return determinant(items) or Group(kind, items)
    if len(items) > MAX_ITEMS:
        raise Refused(f"more than {MAX_ITEMS} items")
    if kind in ("list", "union") and len(items) == 1:
        return items[0]
    return _canonical_brackets(kind, items)


def _canonical_brackets(kind: str, items: tuple[Node, ...]) -> Group:
    """Nothing is closed at infinity, \\langle 1, 2\\rangle is a tuple, and [[1, 2], [3, 4]] is a matrix."""
    if len(kind) == 2 and kind[0] in "([" and len(items) == 2:
        kind = ("(" if items[0] == MINUS_INFINITY else kind[0]) + (")" if items[1] == INFINITY else kind[1])
    if kind == "[]" and items and all(isinstance(item, Group) and item.kind in ("[]", "row") for item in items):
        return Group("matrix", tuple(Group("row", item.items) for item in items if isinstance(item, Group)))
    return Group("()" if kind == "<>" else kind, items)


def _is_pair(node: Node) -> bool:
    return isinstance(node, Group) and node.kind in _INTERVALS


def _is_interval(node: Node) -> bool:
    """Whether a pair can be no point: it is closed on a side, or reaches infinity."""
    return isinstance(node, Group) and (node.kind != "()" or INFINITY in node.items or MINUS_INFINITY in node.items)


def _combined_inequalities(items: tuple[Node, ...], *, is_or: bool) -> Node | None:
    """x < 1 or x > 3 as a union; x > 1, x < 3 as an interval; None for anything else."""
    sets = [item.sides[1] for item in items if isinstance(item, Relation) and item.ops == ("in",)]
    names = {name_of(item.sides[0]) for item in items if isinstance(item, Relation)}
    if len(sets) != len(items) or len(names) != 1 or not isinstance(items[0], Relation):
        return None
    pieces = [pieces_of(each) for each in sets]
    if any(piece is None for piece in pieces):
        return None
    union, common = Group("union", tuple(sets)), Group("cap", tuple(sets))
    # Without a word between them, "x < 1, x > 3" can only be meant as alternatives: nothing is both.
    return Relation(("in",), (items[0].sides[0], union if is_or or not pieces_of(common) else common))


def _flattened(items: tuple[Node, ...], kinds: tuple[str, ...]) -> tuple[Node, ...]:
    flat: list[Node] = []
    for item in items:
        flat.extend(item.items if isinstance(item, Group) and item.kind in kinds else (item,))
    return tuple(flat)
