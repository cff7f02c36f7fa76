"""Whether an answer's reading equals the gold's, kind by kind. docs/math_grading.md, section 2, is the policy."""

from fractions import Fraction

from rewards.math_grading.evaluate import LOG_BASE, evaluate, symbols_of
from rewards.math_grading.functions import Undefined
from rewards.math_grading.lexer import Unreadable
from rewards.math_grading.numeric import DIGITS, are_equal, are_proportional
from rewards.math_grading.realsets import pieces_of, same_pieces
from rewards.math_grading.structure import INFINITY, MINUS_INFINITY, assigned, canonical
from rewards.math_grading.tolerance import is_fine_decimal, is_rounded_gold
from rewards.math_grading.tree import Based, Call, Group, Node, Number, Quantity, Relation, Symbol, Words, parts_of

_ZERO = Number(Fraction(0), None, 0)
_NO_SOLUTION = frozenset(
    (
        "no solution",
        "no solutions",
        "there are no solutions",
        "there is no solution",
        "no real solution",
        "no real solutions",
        "empty set",
        "none",
        "does not exist",
        "dne",
    )
)
_ALL_REALS = frozenset(
    ("all real numbers", "all reals", "all real", "all real x", "real numbers", "any real number", "set of all real numbers")
)


def same(gold: Node, answer: Node) -> bool:
    """Return whether an answer equals the gold. Raises `NotEvaluated` when this cannot be decided here.

    >>> from rewards.math_grading.reader import read
    >>> same(read("x > 5"), read("5 < x")), same(read("1, 2"), read("2, 1")), same(read("(1, 2)"), read("(2, 1)"))
    (True, True, False)
    """
    return _same(canonical(gold), canonical(answer))


def check_gold(gold: Node) -> None:
    """Raise `Unreadable` or `Refused` when no answer could equal the gold: 1/0, a value beyond the limits, no words."""
    if isinstance(gold, Words):
        if not any(character.isalpha() for character in gold.text) or any(character in "\\{}" for character in gold.text):
            raise Unreadable("neither mathematics nor words")
    elif isinstance(gold, Call):
        _check_value(gold)
    else:
        for part in parts_of(gold):
            check_gold(part)


def _check_value(gold: Call) -> None:
    if symbols_of(gold) or _has_infinity(gold):
        return
    try:
        evaluate(gold, {}, DIGITS[0])
    except Undefined:
        raise
    except Unreadable:
        pass  # a vector, an integral: it has no number, and is compared in another way


def _has_infinity(node: Node) -> bool:
    if isinstance(node, Symbol):
        return node.name == "inf"
    return isinstance(node, Call) and any(_has_infinity(argument) for argument in node.args)


def _same(gold: Node, answer: Node) -> bool:
    if gold == answer:
        return True
    if isinstance(gold, Quantity) or isinstance(answer, Quantity):
        return _same_quantity(gold, answer)
    if isinstance(gold, Relation) or isinstance(answer, Relation):
        return _same_relation(gold, answer)
    if isinstance(gold, Group) or isinstance(answer, Group):
        return _same_group(gold, answer)
    if isinstance(gold, Based):
        return isinstance(answer, Number) and answer.decimals is None and str(answer.value) == gold.digits
    if isinstance(gold, Words) and isinstance(answer, Words):
        return gold.text in _NO_SOLUTION and answer.text in _NO_SOLUTION
    if isinstance(answer, Based) or isinstance(gold, Words) or isinstance(answer, Words):
        return False
    return _same_expression(gold, answer)


def _same_quantity(gold: Node, answer: Node) -> bool:
    gold_unit, gold_value = (gold.unit, gold.value) if isinstance(gold, Quantity) else (None, gold)
    answer_unit, answer_value = (answer.unit, answer.value) if isinstance(answer, Quantity) else (None, answer)
    if gold_unit is not None and answer_unit is not None and gold_unit != answer_unit:
        return False
    if _same(gold_value, answer_value):
        return True
    if gold_unit == answer_unit or "%" not in (gold_unit, answer_unit) or isinstance(gold_value, Group | Relation):
        return False
    # 0.28 for 28%, and 28% for 0.28; but 2800% is a curious way to say 28.
    in_hundredths = [
        Call("/", (value, Number(Fraction(100)))) if unit == "%" else value
        for unit, value in ((gold_unit, gold_value), (answer_unit, answer_value))
    ]
    is_small = not isinstance(gold_value, Number) or gold_unit == "%" or abs(gold_value.value) < 10
    return is_small and all(map(_is_expression, in_hundredths)) and _same_expression(*in_hundredths)


def _is_expression(node: Node) -> bool:
    if isinstance(node, Call):
        return all(_is_expression(argument) for argument in node.args)
    return isinstance(node, Number | Symbol)


# Relations.


def _same_relation(gold: Node, answer: Node) -> bool:
    gold_assigned, answer_assigned = assigned(gold), assigned(answer)
    if isinstance(gold, Relation) and isinstance(answer, Relation):
        if (
            gold_assigned
            and answer_assigned
            and _may_be_the_same_name(gold_assigned, answer_assigned)
            and _same(gold_assigned[1], answer_assigned[1])
        ):
            return True
        return _same_curve(gold, answer)
    # x = 5 for 5, and 5 for x = 5.
    if gold_assigned and not isinstance(answer, Relation):
        return _same(gold_assigned[1], answer)
    if answer_assigned and not isinstance(gold, Relation):
        return _same(gold, answer_assigned[1])
    return False


def _may_be_the_same_name(gold: tuple[str, Node], answer: tuple[str, Node]) -> bool:
    """x and x; y and f(x), when the value is a function; never x and y."""
    if gold[0] == answer[0]:
        return True
    is_function = any("(" in name for name, _ in (gold, answer))
    return is_function and all("(" in name or name in ("y", "z", "w") for name, _ in (gold, answer)) and bool(symbols_of(gold[1]))


def _same_curve(gold: Relation, answer: Relation) -> bool:
    """Equations up to a constant factor, inequalities up to a positive one; others side by side."""
    if len(gold.ops) == len(answer.ops) == 1 and gold.ops[0] == answer.ops[0]:
        op = gold.ops[0]
        if op in ("=", ">", ">=", "!=") and all(_is_expression(side) for side in (*gold.sides, *answer.sides)):
            gold_difference, answer_difference = (Call("-", relation.sides) for relation in (gold, answer))
            return are_proportional(gold_difference, answer_difference, positive=op in (">", ">="))
    if _is_ray(gold) or _is_ray(answer):  # x in (5, oo) against 2x > 10
        bounds = [_as_bound(relation) for relation in (gold, answer)]
        return bounds[0] is not None and bounds[1] is not None and bounds != [gold, answer] and _same_curve(*bounds)
    return gold.ops == answer.ops and all(map(_same, gold.sides, answer.sides))


def _is_ray(relation: Relation) -> bool:
    return relation.ops == ("in",) and _as_bound(relation) is not relation


def _as_bound(relation: Relation) -> Relation:
    """x in (5, oo) as x > 5, x in (-oo, 5] as 5 >= x; any other relation as it is."""
    name, value = relation.sides[0], relation.sides[1]
    if relation.ops != ("in",) or not isinstance(value, Group) or len(value.items) != 2 or value.kind not in ("()", "[)", "(]"):
        return relation
    low, high = value.items
    if high == INFINITY and low != MINUS_INFINITY:
        return Relation((">=" if value.kind[0] == "[" else ">",), (name, low))
    if low == MINUS_INFINITY and high != INFINITY:
        return Relation((">=" if value.kind[1] == "]" else ">",), (high, name))
    return relation


# Groups.


def _same_group(gold: Node, answer: Node) -> bool:
    gold_kind = gold.kind if isinstance(gold, Group) else ""
    answer_kind = answer.kind if isinstance(answer, Group) else ""
    if gold_kind in ("list", "{}") and answer_kind in ("list", "{}"):
        return _same_lists(gold, answer)
    if not isinstance(gold, Group) or not isinstance(answer, Group):
        return _same_single(gold, answer)
    return _same_groups(gold, answer)


def _same_groups(gold: Group, answer: Group) -> bool:
    gold_kind, answer_kind = gold.kind, answer.kind
    for one_set, other in ((gold, answer), (answer, gold)):
        if one_set.kind == "{}" and len(one_set.items) == 1 and isinstance(one_set.items[0], Group):  # {(1, 2)} for (1, 2)
            return _same(one_set.items[0], other) if one_set is gold else _same(other, one_set.items[0])
    if {gold_kind, answer_kind} & {"union", "cap", "setminus"}:
        if answer_kind == "list":
            answer = Group("union", answer.items)
        gold_pieces, answer_pieces = pieces_of(gold), pieces_of(answer)
        if gold_pieces is None or answer_pieces is None:
            return gold.kind == answer.kind and _same_items(gold, answer)
        return same_pieces(gold_pieces, answer_pieces)
    if {gold_kind, answer_kind} == {"()", "list"}:
        return _same_in_order(_by_name(gold), _by_name(answer))
    if gold_kind == answer_kind == "ratio":
        return _same_ratio(gold, answer)
    if {gold_kind, answer_kind} in ({"()", "matrix"}, {"[]", "matrix"}):
        return _same_in_order(_flat(gold), _flat(answer))
    return gold_kind == answer_kind and _same_in_order(gold.items, answer.items)


def _is_condition(node: Node, gold: Node) -> bool:
    """x != -1 behind a gold such as x/(x+1): it says where the expression holds."""
    about = symbols_of(node)
    return isinstance(node, Relation) and node.ops[0] != "=" and bool(about) and about <= symbols_of(gold)


def _same_single(gold: Node, answer: Node) -> bool:
    """A group against something that is none."""
    if isinstance(answer, Group) and answer.kind == "list":
        return _same(gold, answer.items[0]) and all(_is_condition(item, gold) for item in answer.items[1:])
    if isinstance(gold, Group) and gold.kind == "ratio" and len(gold.items) == 2 and _is_expression(answer):
        return _same_expression(Call("/", gold.items), answer)
    if isinstance(answer, Group) and answer.kind == "ratio" and len(answer.items) == 2 and _is_expression(gold):
        return _same_expression(gold, Call("/", answer.items))
    for group, other in ((gold, answer), (answer, gold)):
        if isinstance(group, Group) and group.kind == "{}" and len(group.items) == 1:
            return _same(group.items[0], answer) if group is gold else _same(other, group.items[0])
        if isinstance(group, Group) and group.kind == "{}" and not group.items and isinstance(other, Words):
            return other.text in _NO_SOLUTION
        if isinstance(group, Group) and group == canonical(Symbol("reals")) and isinstance(other, Words):
            return other.text in _ALL_REALS
    return False


def _same_lists(gold: Node, answer: Node) -> bool:
    assert isinstance(gold, Group)
    assert isinstance(answer, Group)
    gold_names, answer_names = _names(gold), _names(answer)
    letters = {name.partition("_")[0] for name in gold_names or answer_names}
    if bool(gold_names) != bool(answer_names) and len(letters) > 1:
        # "x=1, y=2" and "1, 2": without the names the order has to say which is which. x_1 and x_2 may change places.
        return _same_in_order(_by_name(gold), _by_name(answer))
    if "{}" in (gold.kind, answer.kind):
        return _each_in(gold.items, answer.items) and _each_in(answer.items, gold.items)
    return _same_items(gold, answer)


def _names(group: Group) -> list[str]:
    """The names of x=1, y=2; [] unless every item has one."""
    pairs = [assigned(item) for item in group.items]
    return [pair[0] for pair in pairs if pair is not None] if all(pairs) else []


def _by_name(group: Group) -> tuple[Node, ...]:
    """The items, or the values of x=1, y=2 in the order of their names."""
    pairs = [assigned(item) for item in group.items]
    if pairs and all(pairs):
        return tuple(value for _, value in sorted((pair for pair in pairs if pair is not None), key=lambda pair: pair[0]))
    return group.items


def _same_in_order(gold: tuple[Node, ...], answer: tuple[Node, ...]) -> bool:
    return len(gold) == len(answer) and all(map(_same, gold, answer))


def _same_items(gold: Group, answer: Group) -> bool:
    """The same items in any order, each as often."""
    unmatched = list(answer.items)
    if len(unmatched) != len(gold.items):
        return False
    for item in gold.items:
        partner = next((index for index, other in enumerate(unmatched) if _same(item, other)), None)
        if partner is None:
            return False
        unmatched.pop(partner)
    return True


def _each_in(items: tuple[Node, ...], others: tuple[Node, ...]) -> bool:
    return all(any(_same(item, other) for other in others) for item in items)


def _same_ratio(gold: Group, answer: Group) -> bool:
    if len(gold.items) != len(answer.items) or not all(map(_is_expression, (*gold.items, *answer.items))):
        return False
    first_gold, first_answer = gold.items[0], answer.items[0]
    if any(are_equal(item, _ZERO) for item in (*gold.items, *answer.items)):
        return _same_in_order(gold.items, answer.items)  # 0:0 is no ratio, and would be proportional to each
    pairs = zip(gold.items[1:], answer.items[1:], strict=True)
    return all(are_equal(Call("*", (item, first_answer)), Call("*", (other, first_gold))) for item, other in pairs)


def _flat(group: Group) -> tuple[Node, ...]:
    """The elements of a tuple, or of a matrix of one row or one column."""
    if group.kind != "matrix":
        return group.items
    rows = [row.items for row in group.items if isinstance(row, Group)]
    if len(rows) == 1:
        return rows[0]
    return tuple(row[0] for row in rows) if all(len(row) == 1 for row in rows) else group.items


# Expressions.


def _same_expression(gold: Node, answer: Node) -> bool:
    if _has_infinity(gold) or _has_infinity(answer):
        return _sign_of_infinity(gold) == _sign_of_infinity(answer) != 0
    if not symbols_of(answer) - {LOG_BASE} <= symbols_of(gold):
        return False  # 72 + 0x, max(72, x): a variable that the question does not have
    if are_equal(gold, answer):
        return True
    if symbols_of(gold) or symbols_of(answer):
        return False
    return is_rounded_gold(gold, answer) or is_fine_decimal(gold, answer)


def _sign_of_infinity(node: Node) -> int:
    """1, -1, or 0 for anything but a bare infinity."""
    if isinstance(node, Call) and node.op == "neg":
        return -_sign_of_infinity(node.args[0])
    return int(node == Symbol("inf"))
