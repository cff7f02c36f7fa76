"""A normalised answer -> tokens. What is not known here is not mathematics: `Unreadable`."""

import re
from dataclasses import dataclass
from typing import Any, Literal

from rewards.math_grading.numerals import Unreadable as Unreadable
from rewards.math_grading.numerals import read_number
from rewards.math_grading.words import BARE_UNITS, SCALES, UNIT_LETTERS, read_unit

Commas = Literal["thousands", "separators"]
"""How 1,234 is read where both are possible: as 1234, or as a list of 1 and 234."""


class NotEvaluated(Unreadable):
    """The text is mathematics that the parser knows by name but does not compute, such as an integral."""


@dataclass(frozen=True, slots=True)
class Token:
    """kind: num, sym, func, op (brackets, operators, commands), text (words), and (between alternatives), scale (million),
    currency."""

    kind: str
    value: Any


FUNCTIONS = frozenset(
    (
        "sin cos tan cot sec csc sinh cosh tanh coth arcsin arccos arctan arccot arcsec arccsc arsinh arcosh artanh "
        "asin acos atan ln log lg exp sqrt abs gcd lcm max min floor ceil re im arg det cis"
    ).split()
)
_FUNCTION_SPELLINGS = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "tg": "tan", "ctg": "cot", "cosec": "csc", "arctg": "arctan",
    "arcsinh": "arsinh", "arccosh": "arcosh", "arctanh": "artanh", "Re": "re", "Im": "im",
}  # fmt: skip
_GREEK = frozenset(
    (
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi "
        "omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
    ).split()
)
_OPERATORS = {
    "cdot": "*", "times": "*", "leq": "<=", "geq": ">=", "neq": "!=", "in": "in", "approx": "approx", "pm": "pm", "mp": "mp",
    "cup": "cup", "langle": "langle", "rangle": "rangle", "lfloor": "lfloor", "rfloor": "rfloor", "lceil": "lceil",
    "rceil": "rceil", "frac": "frac", "binom": "binom", "degree": "deg", "mid": "mid", "sum": "sum", "prod": "prod",
    "overline": "overline", "bar": "overline", "equiv": "equiv", "choose": "choose", "over": "over", "ldots": "ldots",
    "simeq": "approx", "sim": "approx", "cong": "equiv",
    "bmod": "mod", "mod": "mod", "pmod": "pmod", "notin": "notin",
    "subset": "subset", "subseteq": "subseteq", "parallel": "parallel", "perp": "perp", "to": "to", "rightarrow": "to",
    "Rightarrow": "to", "implies": "to", "cr": r"\\", "cap": "cap", "setminus": "setminus", "hline": "hline", "dot": "overline",
}  # fmt: skip
_NOT_EVALUATED = frozenset(("int iint iiint oint lim partial nabla limsup liminf sup inf").split())
_ACCENTS = frozenset(("vec hat tilde ddot overrightarrow widehat widetilde mathcal mathfrak mathscr").split())
_FONTS = r"text|textbf|textit|textrm|texttt|textsf|mathrm|mathbf|mathit|mathsf|mathtt|mbox|operatorname|boldsymbol|bm|emph|hbox"
_NAMES = {"pi": "pi", "infty": "inf", "emptyset": "empty", "ell": "ell", "hbar": "hbar"}
_CURRENCIES = frozenset(("dollar", "pounds", "euro", "yen"))
_FONT_COMMANDS = frozenset((*_FONTS.split("|"), "underline"))
_BLACKBOARD = {"R": "reals", "Z": "integers", "N": "naturals", "Q": "rationals", "C": "complexes"}

_OPENING = frozenset(("(", "[", r"\{"))
_CLOSING = frozenset((")", "]", r"\}"))
_OPERATOR_SPELLINGS = {"...": "ldots", "**": "^", "==": "=", r"\|": "|", r"\%": "%", r"\&": "&"}

_TOKEN = re.compile(
    rf"""\s*(?:
    (?P<thousands>[0-9]{{1,3}}(?:,[0-9]{{3}})+(?![0-9])(?:\.[0-9]+)?)
  | (?P<number>(?:[0-9]+(?:\.(?!\.)[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+(?![0-9A-Za-z.]))?)
  | \\(?:{_FONTS})\*?\s*\{{(?P<text>[^{{}}]*)\}}
  | \\begin\s*\{{(?P<begin>[a-zA-Z]+)\*?\}}(?:\s*\{{[clr|\s]*\}})?
  | \\end\s*\{{(?P<end>[a-zA-Z]+)\*?\}}
  | \\mathbb\s*\{{?(?P<blackboard>[A-Z])\}}?
  | \\(?P<command>[A-Za-z]+)
  | (?P<letters>[A-Za-z]+)
  | (?P<operator>\.\.\.|\*\*|<=|>=|!=|==|\\\\|\\[{{}}|%&]|[-+*/^_=<>()\[\]{{}}|,;:!%&'])
    )""",
    re.VERBOSE,
)


def tokenize(text: str, commas: Commas = "thousands") -> tuple[list[Token], str | None]:
    """Return (tokens, currency or None) of a normalised text.

    >>> tokens, _ = tokenize(r"2\\frac{x}{3}")
    >>> [(token.kind, str(token.value)) for token in tokens[1:4]]
    [('op', 'frac'), ('op', '{'), ('sym', 'x')]
    >>> tokenize(r"\\dollar 5")[1]
    'dollar'
    """
    tokens: list[Token] = []
    depth = 0
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise Unreadable(f"cannot read {text[position : position + 10]!r}")
        kind, value = match.lastgroup, match[match.lastgroup]
        position = match.end()
        if kind == "thousands" and not _is_one_number(value, depth, commas):
            position = match.start(kind) + value.index(",")
            value = value[: value.index(",")]
        has_subscript = text.startswith("_", position)
        read = _read(kind, value, tokens, has_subscript=has_subscript)
        depth += sum((token.value in _OPENING) - (token.value in _CLOSING) for token in read if token.kind == "op")
        tokens += read
    currencies = [token.value for token in tokens if token.kind == "currency"]
    return [token for token in tokens if token.kind != "currency"], currencies[0] if currencies else None


def _read(kind: str, value: str, before: list[Token], *, has_subscript: bool) -> list[Token]:
    """Return the tokens of one match, which stands behind the tokens `before`."""
    if kind in ("thousands", "number"):
        return [Token("num", read_number(value.replace(",", "")))]
    if kind == "text":
        return _read_text(value, before, may_be_unit=not has_subscript)
    if kind == "letters":
        return _read_letters(value, before)
    if kind == "command":
        return _read_command(value)
    if kind == "blackboard":
        return [Token("sym", _BLACKBOARD.get(value, value))]
    if kind in ("begin", "end"):
        return [Token("op", f"{kind} {value}")]
    return [Token("op", _OPERATOR_SPELLINGS.get(value, value))]


def _is_one_number(text: str, depth: int, commas: Commas) -> bool:
    groups = text.partition(".")[0].split(",")
    if groups[0][0] == "0":
        return False
    # Within brackets a comma separates, unless a group such as "050" cannot stand alone.
    in_brackets = depth > 0 and all(group[0] != "0" for group in groups[1:])
    return in_brackets is (commas == "separators") if depth > 0 else commas == "thousands"


def _read_text(content: str, before: list[Token], *, may_be_unit: bool) -> list[Token]:
    """The content of \\text{} and the fonts: a letter is a symbol, mathematics is mathematics, the rest is words."""
    content = content.strip()
    bare = content.strip(" ,;.")
    if bare.casefold() in ("and", "or"):
        return [Token("and", bare.casefold())]
    if not bare:
        return [Token("op", ",")] if "," in content else []
    if may_be_unit and _ends_value(before) and bare[0] in UNIT_LETTERS and read_unit(bare) is not None:
        return [Token("text", bare)]
    if re.fullmatch(r"[A-Za-z]", bare):
        return [Token("sym", bare)]
    if _FUNCTION_SPELLINGS.get(bare, bare) in FUNCTIONS and bare not in ("sec", "min", "max", "re", "im"):
        return [Token("func", _FUNCTION_SPELLINGS.get(bare, bare))]
    if not re.search(r"[A-Za-z]{2}", content):
        return tokenize(content)[0]
    return [_read_word(bare)]


def _ends_value(tokens: list[Token]) -> bool:
    """Whether a unit may follow: 5, (x+1), \\frac{1}{2}, another unit."""
    return bool(tokens) and (tokens[-1].kind in ("num", "text") or tokens[-1].value in (")", "]", "}"))


def _read_word(word: str) -> Token:
    folded = word.casefold()
    if folded in SCALES:
        return Token("scale", SCALES[folded])
    if folded in ("infinity", "infty", "positive infinity", "inf", "oo"):
        return Token("sym", "inf")
    if folded == "pi":
        return Token("sym", "pi")
    if folded == "percent":
        return Token("op", "%")
    return Token("text", word)


def _read_letters(letters: str, before: list[Token]) -> list[Token]:
    """A run of letters: a function, a known word, a product of at most three variables, or a word."""
    spelling = _FUNCTION_SPELLINGS.get(letters, letters)
    previous = before[-1].kind if before else ""
    if before and before[-1].value in ("}", ")", "pi"):
        previous = "num"
    if (letters in BARE_UNITS and previous == "num") or (previous == "text" and letters not in ("and", "or")):
        return [Token("text", letters)]
    if spelling in FUNCTIONS:
        return [Token("func", spelling)]
    if letters in ("and", "or"):
        return [Token("and", letters)]
    if letters in ("inf", "oo"):
        return [Token("sym", "inf")]
    if len(letters) == 1:
        return [Token("sym", letters)]
    if letters in _GREEK:
        return [Token("sym", letters)]
    token = _read_word(letters)
    if token.kind == "text" and len(letters) <= 3:
        return [Token("sym", letter) for letter in letters]
    return [token]


def _read_command(name: str) -> list[Token]:
    if name in _FONT_COMMANDS:
        return []  # around more than words: what stands in its braces is read as it is
    if name in _CURRENCIES:
        return [Token("currency", name)]
    if name in _NAMES:
        return [Token("sym", _NAMES[name])]
    if name in _GREEK:
        return [Token("sym", name)]
    spelling = _FUNCTION_SPELLINGS.get(name, name)
    if spelling in FUNCTIONS:
        return [Token("func", spelling)]
    if name in _ACCENTS:
        return [Token("op", "accent")]
    if name in _NOT_EVALUATED:
        raise NotEvaluated(f"\\{name} is not computed")
    if name in ("angle", "triangle", "square"):  # \angle ABC = 30: a name in front
        return [Token("text", name)]
    if name not in _OPERATORS:
        raise Unreadable(f"unknown command \\{name}")
    return [Token("op", _OPERATORS[name])]
