"""Tokens -> expressions: sums, products and powers of atoms. `parser` has the structures around them."""

from fractions import Fraction

from rewards.math_grading.atoms import AtomParser
from rewards.math_grading.lexer import Token, Unreadable
from rewards.math_grading.normalize import Refused
from rewards.math_grading.tree import Call, Node, Number, Symbol

_STARTS_FACTOR = frozenset(("(", "[", "{", "frac", "binom", "overline", "lfloor", "lceil", "accent", "sum", "prod"))
_FUNCTION_NAMES = frozenset("fghFGH")
"""f(2) is a value of f, and no product; nor is I(0) for any name, since nobody writes a product with 0."""


class ExpressionParser(AtomParser):
    """The half of the parser that reads expressions; `juxtaposition_first` reads 1/2x as 1/(2x)."""

    def __init__(self, tokens: list[Token], *, juxtaposition_first: bool = False) -> None:
        super().__init__(tokens)
        self._juxtaposition_first = juxtaposition_first

    def _sum(self) -> Node:
        node: Node
        if self._is("+", "-", "pm", "mp"):
            sign = self._next().value
            operand = self._product()
            node = operand if sign == "+" else Call({"-": "neg", "pm": "pm", "mp": "mp"}[sign], (operand,))
        else:
            node = self._product()
        terms = [node]
        while self._is("+", "-", "pm", "mp"):
            op = str(self._next().value)
            term = self._product()
            if op in ("pm", "mp") or len(terms) == 1:
                terms = [Call(op, (_balanced(terms), term))]
            else:
                terms.append(term if op == "+" else Call("neg", (term,)))
        return _balanced(terms)

    def _product(self) -> Node:
        node = self._power(sign_allowed=False)
        while True:
            if self._is("*", "/", "mod"):
                op = str(self._next().value)
                factor = self._power(sign_allowed=True)
                while op == "/" and self._juxtaposition_first and self._starts_factor():
                    factor = Call("*", (factor, self._power(sign_allowed=False)))
                node = Call(op, (node, factor))
            elif self._token.kind == "scale":
                node = Call("*", (node, Number(Fraction(self._next().value))))
            elif self._starts_factor():
                node = self._juxtapose(node)
            else:
                return node

    def _starts_factor(self) -> bool:
        """Whether a product without a sign goes on. Not by a number behind a number: "70 2" is two numbers."""
        token, before = self._token, self._peek(-1)
        if token.kind in ("sym", "func"):
            return True
        if token.kind == "num":  # 3!4!, 2^{x}3^{x}, 2^x3^x
            return before.value in ("!", "}", ")") or (before.kind == "sym" and self._peek(-2) == Token("op", "^"))
        if token.kind != "op":
            return False
        return token.value in _STARTS_FACTOR or token.value.startswith("begin ") or (token.value == "|" and self._bars == 0)

    def _juxtapose(self, left: Node) -> Node:
        """A product without a sign, or a function's value."""
        is_name = isinstance(left, Symbol) and self._peek(-1).kind == "sym" and self._is("(")
        factor = self._power(sign_allowed=False)
        if not is_name or not isinstance(left, Symbol) or self._peek(-1) != Token("op", ")"):
            return Call("*", (left, factor))
        if isinstance(factor, Symbol | Number) and (
            left.name in _FUNCTION_NAMES or (isinstance(factor, Number) and not factor.value)
        ):
            return Symbol(f"{left.name}({factor.name if isinstance(factor, Symbol) else factor.value})")
        return Call("apply", (left, factor))

    def _power(self, *, sign_allowed: bool) -> Node:
        if sign_allowed and self._is("+", "-"):
            sign = self._next().value
            operand = self._power(sign_allowed=False)
            return Call("neg", (operand,)) if sign == "-" else operand
        node = self._atom()
        while True:
            if self._take("^"):
                node = Call("^", (node, self._exponent()))
            elif self._is("!"):
                count = 0
                while self._take("!"):
                    count += 1
                if count > 2:
                    raise Refused("more than two factorial signs")
                node = Call("!" * count, (node,))
            elif self._is("%", "deg") and not (isinstance(node, Call) and node.op in ("%", "deg")):
                node = Call(str(self._next().value), (node,))
            else:
                return node

    def _exponent(self) -> Node:
        if self._is("^"):
            raise Unreadable("two ^ in a row")
        sign = self._next().value if self._is("+", "-") else "+"
        if self._is("{"):
            node = self._braces()
        else:
            node = self._number_or_atom()
        if self._is("^"):  # 9^9^9 is 9^(9^9)
            self._next()
            with self._one_level_deeper():
                node = Call("^", (node, self._exponent()))
        return Call("neg", (node,)) if sign == "-" else node


def _balanced(terms: list[Node]) -> Node:
    """The sum of terms as a flat tree: one that leans to the left would be as deep as it is long."""
    if len(terms) == 1:
        return terms[0]
    middle = len(terms) // 2
    return Call("+", (_balanced(terms[:middle]), _balanced(terms[middle:])))
