"""Tokens -> the atoms of expressions: numbers, variables, functions, roots, fractions, what stands in bars and braces."""

from fractions import Fraction

from rewards.math_grading.lexer import Token, Unreadable
from rewards.math_grading.numerals import continued, is_proper_fraction, is_whole, repeating
from rewards.math_grading.token_stream import TokenStream
from rewards.math_grading.tree import Based, Call, Group, Node, Number, Symbol

_BASE_WORDS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "twelve": 12}


class AtomParser(TokenStream):
    """The part of the parser that reads atoms; the parts that build on it are called by name."""

    _bars = 0
    """Above 0 a | closes an absolute value, and does not open one."""

    # What atoms are made of, and lead back to: expressions.py and parser.py.

    def _sum(self) -> Node:
        raise NotImplementedError

    def _power(self, *, sign_allowed: bool) -> Node:
        raise NotImplementedError

    def _juxtapose(self, left: Node) -> Node:
        raise NotImplementedError

    def _starts_factor(self) -> bool:
        raise NotImplementedError

    def _exponent(self) -> Node:
        raise NotImplementedError

    def _list(self, closing: str | None) -> Node:
        raise NotImplementedError

    def _bracket(self, opening: str) -> Node:
        raise NotImplementedError

    def _matrix(self, kind: str) -> Node:
        raise NotImplementedError

    def _series(self, kind: str) -> Node:
        raise NotImplementedError

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
        if name == "ldots":
            return Symbol("...")
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
            radicand = self._number_or_atom()
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
        return self._number_or_atom()

    def _number_or_atom(self) -> Node:
        """An atom that takes no mixed number: \\frac12\\frac13 and \\sqrt2\\frac12 are products."""
        if self._token.kind != "num":
            return self._atom()
        number: Node = self._next().value
        return number

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
