"""Tokens -> tree, by recursive descent. What does not fit the grammar to its last token is `Unreadable`.

answer     relation ((, | ; | and | or) relation)*
relation   sets ((= | < | ... ) sets)*
sets       sum (\\cup sum)*
sum        [+ | - | \\pm] product ((+ | - | \\pm | \\mp) product)*
product    power ((* | / | nothing) power)*           nothing: a product without a sign, or a mixed number 1\\frac12
power      atom (^ exponent | ! | % | \\degree)*
"""

from rewards.math_grading.expressions import ExpressionParser
from rewards.math_grading.lexer import NotEvaluated, Unreadable
from rewards.math_grading.token_stream import END
from rewards.math_grading.tree import Based, Call, Group, Node, Number, Relation, Symbol

_RELATIONS = frozenset(
    (
        "=",
        "<",
        ">",
        "<=",
        ">=",
        "!=",
        "in",
        "approx",
        "equiv",
        ":",
        "mid",
        "notin",
        "subset",
        "subseteq",
        "parallel",
        "perp",
        "to",
    )
)
_SEPARATORS = (",", ";", r"\\", "&")
_MATRICES = frozenset(("pmatrix", "bmatrix", "matrix", "Bmatrix", "smallmatrix", "array", "vmatrix", "Vmatrix"))


class Parser(ExpressionParser):
    """Reads one list of tokens as an answer."""

    _colon_separates = False
    """Within a set's braces a colon stands before the condition; elsewhere it makes a ratio."""

    def answer(self) -> Node:
        """Read all tokens as an answer."""
        node = self._list(closing=None)
        if self._token is not END:
            raise Unreadable(f"unexpected {self._token.value!r}")
        return node

    # Structure.

    def _list(self, closing: str | None) -> Node:
        """Read items up to the end or to a closing bracket (not consumed); one item is itself."""
        items = [self._relation()]
        separators = set()
        while self._is(*_SEPARATORS) or self._token.kind == "and":
            while self._is(*_SEPARATORS) or self._token.kind == "and":
                separators.add(self._next().value)
            if self._token is END or (closing and self._is(closing)):
                raise Unreadable("a list ends in a separator")
            items.append(self._relation())
        if len(items) == 1:
            return items[0]
        return Group("or" if "or" in separators and "and" not in separators else "list", tuple(items))

    def _relation(self) -> Node:
        self._take("=", "approx")  # "= 5" says 5
        sides = [self._sets()]
        ops: list[str] = []
        while self._token.kind == "op" and self._token.value in _RELATIONS:
            if self._token.value in (":", "mid") and self._colon_separates:
                break
            ops.append(str(self._next().value))
            sides.append(self._sets())
        if not ops:
            return sides[0]
        if ":" in ops:
            if set(ops) != {":"}:
                raise Unreadable("a colon among relations")
            return Group("ratio", tuple(sides))
        return Relation(tuple("=" if op == "equiv" else op for op in ops), tuple(sides))

    def _sets(self) -> Node:
        node = self._sum()
        while self._is("cup", "cap", "setminus"):
            kind = {"cup": "union"}.get(str(self._token.value), str(self._next().value))
            before = node.items if isinstance(node, Group) and node.kind == kind == "union" else (node,)
            node = Group(kind, (*before, self._sum()))
        if self._take("over"):
            return Call("/", (node, self._sum()))
        return node

    def _bracket(self, opening: str) -> Node:
        """(...), [...], \\{...\\}, \\langle...\\rangle: a grouping, a tuple, an interval, a vector or a set."""
        bars, self._bars = self._bars, 0 if opening != r"\{" else 1
        colon, self._colon_separates = self._colon_separates, opening == r"\{"
        closings = {"(": (")", "]"), "[": ("]", ")"), r"\{": (r"\}",), "langle": ("rangle",)}[opening]
        if opening == r"\{" and self._take(r"\}"):
            self._bars, self._colon_separates = bars, colon
            return Group("{}", ())
        inner = self._list(closing=None)
        if opening == r"\{" and self._is("|", "mid", ":"):
            self._next()
            condition = self._list(closing=None)
            self._expect(*closings)
            self._bars, self._colon_separates = bars, colon
            return _built(inner, condition)
        closing = self._expect(*closings)
        self._bars, self._colon_separates = bars, colon
        items = inner.items if isinstance(inner, Group) and inner.kind in ("list", "or") else (inner,)
        if opening == r"\{":
            return Group("{}", items)
        if opening == "langle":
            return Group("<>", items)
        if len(items) == 1:
            if opening + closing in ("()", "[]"):
                if opening == "(" and self._take("_") and isinstance(items[0], Number):
                    return Based(str(items[0].value), self._base())
                is_row = isinstance(items[0], Group) and items[0].kind != "matrix" and opening == "["
                return Group("[]", items) if is_row else items[0]
            raise Unreadable("brackets that do not match")
        return Group(opening + closing, items)

    def _matrix(self, kind: str) -> Node:
        if kind not in _MATRICES:
            raise NotEvaluated(f"the environment {kind} is not compared")
        rows: list[Node] = []
        cells: list[Node] = []
        while True:
            self._take("hline")
            if self._is(f"end {kind}"):
                break
            cells.append(self._relation())
            if self._take("&"):
                continue
            rows.append(Group("row", tuple(cells)))
            cells = []
            if not self._take(r"\\"):
                break
        self._expect(f"end {kind}")
        if cells or not rows or len({len(row.items) for row in rows if isinstance(row, Group)}) != 1:
            raise Unreadable("a matrix with rows of different length")
        return Group("det" if kind in ("vmatrix", "Vmatrix") else "matrix", tuple(rows))

    def _series(self, kind: str) -> Node:
        """\\sum_{k=1}^{n} body."""
        self._expect("_")
        self._expect("{")
        start = self._relation()
        self._expect("}")
        self._expect("^")
        end = self._exponent()
        if not (isinstance(start, Relation) and start.ops == ("=",) and isinstance(start.sides[0], Symbol)):
            raise Unreadable(f"\\{kind} needs a lower limit such as k=1")
        return Call(kind, (start.sides[0], start.sides[1], end, self._product()))


def _built(element: Node, condition: Node) -> Node:
    """{x | condition on x} is the condition, which canonical() turns into a set; any other builder stays as it is."""
    if isinstance(element, Relation) and element.ops == ("in",) and element.sides[1] == Symbol("reals"):
        element = element.sides[0]
    is_about_it = isinstance(condition, Relation) and element in condition.sides
    if isinstance(element, Symbol) and (is_about_it or (isinstance(condition, Group) and condition.kind in ("list", "or"))):
        return condition
    return Group("builder", (element, condition))
