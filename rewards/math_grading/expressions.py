"""Tokens -> expressions: sums, products, powers and what they are made of. `parser` has the structures around them."""

from fractions import Fraction

from rewards.math_grading.lexer import Token, Unreadable
from rewards.math_grading.normalize import Refused
from rewards.math_grading.numerals import continued, is_proper_fraction, is_whole, repeating
from rewards.math_grading.token_stream import TokenStream
from rewards.math_grading.tree import Based, Call, Group, Node, Number, Symbol

_STARTS_FACTOR = frozenset(("(", "[", "{", "frac", "binom", "overline", "lfloor", "lceil", "accent", "sum", "prod"))
_FUNCTION_NAMES = frozenset("fghFGH")
"""f(2) is a value of f, and no product; nor is I(0) for any name, since nobody writes a product with 0."""
_BASE_WORDS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "twelve": 12}


class ExpressionParser(TokenStream):
    """The half of the parser that reads expressions; `juxtaposition_first` reads 1/2x as 1/(2x)."""

    def __init__(self, tokens: list[Token], *, juxtaposition_first: bool = False) -> None:
        super().__init__(tokens)
        self._juxtaposition_first = juxtaposition_first
        self._bars = 0
        """Above 0 a | closes an absolute value, and does not open one."""

    # The other half, which brackets lead to.

    def _list(self, closing: str | None) -> Node:
        raise NotImplementedError

    def _bracket(self, opening: str) -> Node:
        raise NotImplementedError

    def _matrix(self, kind: str) -> Node:
        raise NotImplementedError

    def _series(self, kind: str) -> Node:
        raise NotImplementedError

    # Expressions.

    def _sum(self) -> Node:
        node: Node
        if self._is("+", "-", "pm", "mp"):
            sign = self._next().value
            operand = self._product()
            node = operand if sign == "+" else Call({"-": "neg", "pm": "pm", "mp": "mp"}[sign], (operand,))
        else:
            node = self._product()
        while self._is("+", "-", "pm", "mp"):
            op = str(self._next().value)
            node = Call(op, (node, self._product()))
        return node

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
        """Whether a product without a sign goes on. A number never does: "70 2" is two numbers."""
        token = self._token
        if token.kind in ("sym", "func"):
            return True
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
            elif self._take("%"):
                node = Call("%", (node,))
            elif self._take("deg"):
                node = Call("deg", (node,))
            else:
                return node

    def _exponent(self) -> Node:
        if self._is("^"):
            raise Unreadable("two ^ in a row")
        sign = self._next().value if self._is("+", "-") else "+"
        if self._is("{"):
            node = self._braces()
        elif self._token.kind == "num":
            node = self._next().value
        else:
            node = self._atom()
        if self._is("^"):  # 9^9^9 is 9^(9^9)
            self._next()
            with self._one_level_deeper():
                node = Call("^", (node, self._exponent()))
        return Call("neg", (node,)) if sign == "-" else node

    # Atoms.

    def _atom(self) -> Node:
        with self._one_level_deeper():
            return self._read_atom()

    def _read_atom(self) -> Node:
        token = self._next()
        if token.kind == "num":
            return self._number(token.value)
        if token.kind == "sym":
            return self._symbol(token.value)
        if token.kind == "func":
            return self._function(token.value)
        if token.kind == "op":
            if token.value in ("(", "[", r"\{", "langle"):
                return self._bracket(token.value)
            if token.value == "{":
                self._position -= 1
                return self._braces()
            if token.value.startswith("begin "):
                return self._matrix(token.value.removeprefix("begin "))
            return self._command(token.value)
        raise Unreadable(f"unexpected {token.value!r}")

    def _command(self, name: str) -> Node:
        if name in ("sum", "prod"):
            return self._series(name)
        if name in ("lfloor", "lceil"):
            return self._between("floor" if name == "lfloor" else "ceil", name.replace("l", "r", 1))
        if name == "|":
            return self._absolute()
        if name == "frac":
            return self._fraction()
        if name == "binom":
            return Call("binom", (self._fraction_part(), self._fraction_part()))
        if name in ("overline", "accent"):
            return self._symbol(f"overline {self._name()}" if name == "overline" else self._name())
        raise Unreadable(f"unexpected {name!r}")

    def _number(self, number: Number) -> Node:
        if self._take("overline"):  # 0.1\overline{6}
            return repeating(number, self._name())
        if number.decimals is not None and self._take("ldots"):
            return continued(number)
        if self._take("_"):
            return Based(str(number.value), self._base())
        return self._mixed_number(number) or number

    def _mixed_number(self, whole: Number) -> Node | None:
        """1\\frac{1}{2} and 1 1/2 are 3/2. None, with nothing taken, when no proper fraction follows a whole number."""
        if not is_whole(whole):
            return None
        position, tokens = self._position, self._tokens
        fraction: Node | None = None
        if self._take("frac"):
            fraction = self._fraction()
        elif self._token.kind == "num" and self._peek(1) == Token("op", "/") and self._peek(2).kind == "num":
            above, _, below = self._next(), self._next(), self._next()
            fraction = Call("/", (above.value, below.value))
        if fraction is not None and is_proper_fraction(fraction):
            return Call("+", (whole, fraction))
        self._position, self._tokens = position, tokens
        return None

    def _base(self) -> int:
        token = self._peek(1) if self._is("{") else self._token
        base = _BASE_WORDS.get(str(token.value)) if token.kind == "text" else None
        if token.kind == "num" and token.value.decimals is None:
            base = int(token.value.value)
        if base is None or not 2 <= base <= 36:
            raise Unreadable("a base must be a number from 2 to 36")
        self._name()
        return base

    def _symbol(self, name: str) -> Symbol:
        while True:
            if self._take("_"):
                name += "_" + self._name()
            elif self._take("'"):
                name += "'"
            else:
                return Symbol(name)

    def _function(self, name: str) -> Node:
        exponent: Node | None = None
        base: Node | None = None
        while self._is("^", "_"):
            if self._next().value == "^":
                exponent = self._exponent()
            else:
                base = self._braces() if self._is("{") else self._atom()
        if name == "sqrt":
            return self._root(exponent)
        if isinstance(exponent, Call) and _is_minus_one(exponent) and f"arc{name}" in ("arcsin", "arccos", "arctan", "arccot"):
            name, exponent = f"arc{name}", None
        argument = self._function_argument()
        if name in ("gcd", "lcm", "max", "min"):
            node: Node = Call(name, argument.items if isinstance(argument, Group) else (argument,))
        else:
            node = Call(name, (argument,) if base is None else (argument, base))
        return node if exponent is None else Call("^", (node, exponent))

    def _function_argument(self) -> Node:
        if self._is("("):
            self._next()
            argument = self._list(closing=")")
            self._expect(")")
            return argument
        if self._is("{"):
            return self._braces()
        if self._is("-"):
            self._next()
            with self._one_level_deeper():
                return Call("neg", (self._function_argument(),))
        # \sin 2\pi x + 1 is \sin(2\pi x) + 1, \sin x \cos x a product of two.
        node = self._power(sign_allowed=False)
        while self._starts_factor() and self._token.kind != "func" and not self._is("(", "[", "|"):
            node = self._juxtapose(node)
        return node

    def _root(self, exponent: Node | None) -> Node:
        degree: Node = Number(Fraction(2))
        if self._take("["):
            degree = self._sum()
            self._expect("]")
        if self._is("{"):
            radicand = self._braces()
        elif self._take("("):
            radicand = self._sum()
            self._expect(")")
        else:
            radicand = self._atom()
        node = Call("root", (radicand, degree))
        return node if exponent is None else Call("^", (node, exponent))

    def _fraction(self) -> Node:
        above = self._fraction_part()
        below = self._fraction_part()
        return Call("/", (above, below))

    def _fraction_part(self) -> Node:
        if self._is("{"):
            return self._braces()
        token = self._token
        if token.kind == "num" and is_whole(token.value) and token.value.value > 9:
            # \frac12 and \frac{1}23: each takes one digit; the rest is for whoever comes next.
            digits = str(token.value.value)
            self._tokens = list(self._tokens)
            self._tokens[self._position] = Token("num", Number(Fraction(int(digits[1:]))))
            return Number(Fraction(int(digits[0])))
        return self._atom()

    def _absolute(self) -> Node:
        self._bars += 1
        inner = self._sum()
        self._expect("|")
        self._bars -= 1
        return Call("abs", (inner,))

    def _between(self, name: str, closing: str) -> Node:
        inner = self._sum()
        self._expect(closing)
        return Call(name, (inner,))

    def _braces(self) -> Node:
        self._expect("{")
        bars, self._bars = self._bars, 0
        with self._one_level_deeper():
            node = self._sum()
            if self._take("choose"):
                node = Call("binom", (node, self._sum()))
            elif self._take("over"):
                node = Call("/", (node, self._sum()))
        self._expect("}")
        self._bars = bars
        return node


def _is_minus_one(node: Call) -> bool:
    return node.op == "neg" and isinstance(node.args[0], Number) and node.args[0].value == 1
