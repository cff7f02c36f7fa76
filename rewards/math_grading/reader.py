"""A normalised text -> its reading as a tree: mathematics if the parser takes all of it, words otherwise."""

import re
from fractions import Fraction
from functools import lru_cache

from rewards.math_grading.lexer import Commas, NotEvaluated, Token, Unreadable, tokenize
from rewards.math_grading.normalize import Refused
from rewards.math_grading.parser import Parser
from rewards.math_grading.tree import Group, Node, Number, Quantity, Words
from rewards.math_grading.words import fold, may_be_part_of_a_name, read_number_words, read_unit

MAX_TOKENS = 400
"""More is no final answer; it also bounds how deep a tree can be."""

_PROSE = re.compile(r"[A-Za-z\s,;&'.-]*")
_WORD = re.compile(r"[A-Za-z]{2}")
_LIST_OF_WORDS = re.compile(r"[,;&]|\band\b|\bor\b", re.IGNORECASE)
_BARE_BRACES = re.compile(r"^\{([^{}]*,[^{}]*)\}$")
_ANGLE_BRACKETS = re.compile(r"^<([^<>=]*,[^<>=]*)>$")
# P(A) = ..., |AB| = ..., [ABC] = ..., f^{-1}(3) = ..., m\angle ABC = ...: names, not expressions to be solved for.
_NAMED_EVENT = re.compile(
    r"^(?:(?:\\?Pr|P|E|Var|\\mathbb\{[PE]\})\s*[(\[][^()\[\]=]*[)\]]|\|\s*[A-Z]{1,3}\s*\||\[\s*[A-Z]{2,6}\s*\]"
    r"|f\s*\^\{?-1\}?\s*\([^()=]*\)|m\s*\\angle\s*[A-Z]{1,3})\s*="
)
# "xy" is a product and equal to "yx"; "no" is a word and not equal to "on".
_PRODUCT_OF_VARIABLES = re.compile(r"[xyz]{2,3}|[abc]{2,3}|[a-z]{2}")
_SHORT_WORDS = frozenset(("no on is it of or if in at as an am do go he me we be by my so to up us ok hi").split())
_UNIT_TOKENS = frozenset(("^", "/", "*", "{", "}", "(", ")", "-"))


@lru_cache(maxsize=4096)
def read(text: str, commas: Commas = "thousands", *, juxtaposition_first: bool = False) -> Node:
    """Return the reading of a normalised text.

    Raises `Refused` (too large), `NotEvaluated` (mathematics that is not computed here) and `Unreadable` (nothing).

    >>> read("5 cm")
    Quantity(value=Number(value=Fraction(5, 1), decimals=None, significant=1), unit='cm')
    >>> read("Even.")
    Words(text='even')
    """
    text = _ANGLE_BRACKETS.sub(r"\\langle \1 \\rangle", _BARE_BRACES.sub(r"\\{\1\\}", _NAMED_EVENT.sub("P =", text)))
    if _is_prose(text):
        return _words(text)
    try:
        tokens, unit = tokenize(text, commas)
        if len(tokens) > MAX_TOKENS:
            raise Refused(f"more than {MAX_TOKENS} symbols")
        tokens, trailing = _split_modulus(_named_left_side(tokens))
        for split in (_split_unit, _split_percent):
            if trailing is None:
                tokens, trailing = split(tokens)
        node = Parser(tokens, juxtaposition_first=juxtaposition_first).answer()
    except NotEvaluated:
        raise
    except Unreadable:
        return _words(text)
    unit = trailing or unit
    return Quantity(node, unit) if unit else node


def _is_prose(text: str) -> bool:
    """Whether a text has letters only and is no product of variables, function or constant."""
    if (
        not _PROSE.fullmatch(text)
        or not _WORD.search(text)
        or (_PRODUCT_OF_VARIABLES.fullmatch(text) and text not in _SHORT_WORDS)
    ):
        return False
    if all(len(part) == 1 for part in _LIST_OF_WORDS.sub(" ", text).split()):
        return False  # A and C
    try:
        tokens, _ = tokenize(text)
    except Unreadable:
        return True
    return len(tokens) > 1 or tokens[0].kind == "text"


def _words(text: str) -> Node:
    """Words, or the list of "red, blue" and "Ravi and Mia"."""
    parts = [Words(part) for part in map(fold, _LIST_OF_WORDS.split(text)) if part]
    if not parts:
        raise Unreadable(f"nothing to read in {text!r}")
    number = read_number_words(parts[0].text)
    if number is not None and len(parts) == 1:
        return Number(Fraction(number))
    return parts[0] if len(parts) == 1 else Group("list", tuple(parts))


def _named_left_side(tokens: list[Token]) -> list[Token]:
    """\\text{Area} = 5, \\angle ABC = 30, AB = 5: the words on the left are one name."""
    equals = next((index for index, token in enumerate(tokens) if token == Token("op", "=")), 0)
    left = tokens[:equals]
    if not left or any(token.kind not in ("text", "sym") for token in left):
        return tokens
    if not all(may_be_part_of_a_name(word) for token in left for word in str(token.value).split()):
        return tokens  # \\text{not} = 72
    if left[0].kind != "text" and not (len(left) > 1 and all(str(token.value).isupper() for token in left)):
        return tokens
    return [Token("sym", " ".join(str(token.value) for token in left)), *tokens[equals:]]


def _ends_number(tokens: list[Token]) -> bool:
    """Whether the tokens can be a value that a unit follows."""
    braces = sum((token == Token("op", "{")) - (token == Token("op", "}")) for token in tokens)
    last = tokens[-1]
    ends = last.kind in ("num", "sym", "scale") or last.value in (")", "]", "}", "|", "!", "%", "deg")
    return ends and braces == 0 and any(token.kind in ("num", "scale") or token.value in ("pi", "inf") for token in tokens)


def _split_percent(tokens: list[Token]) -> tuple[list[Token], str | None]:
    """62\\frac12\\%: a sign behind a mixed number belongs to all of it."""
    signs = {Token("op", "%"): "%", Token("op", "deg"): "degree"}
    if tokens and tokens[-1] in signs:
        number = tokens[1:-1] if tokens[0] == Token("op", "-") else tokens[:-1]
        if number and all(token.kind == "num" or token.value in ("frac", "{", "}", "/") for token in number):
            return tokens[:-1], signs[tokens[-1]]
    return tokens, None


def _split_modulus(tokens: list[Token]) -> tuple[list[Token], str | None]:
    """x \\equiv 3 \\pmod{7}, 3 (\\mod 7): the modulus is kept like a unit."""
    start = next((index for index, token in enumerate(tokens) if token in (Token("op", "pmod"), Token("op", "mod"))), None)
    if not start or (tokens[start].value == "mod" and tokens[start - 1] != Token("op", "(")):
        return tokens, None
    modulus = "".join(str(token.value.value if token.kind == "num" else token.value) for token in tokens[start + 1 :])
    end = start if tokens[start].value == "pmod" else start - 1
    return tokens[:end], f"mod {re.sub(r'[{}()]', '', modulus)}"


def _split_unit(tokens: list[Token]) -> tuple[list[Token], str | None]:
    """Split the unit off the end: everything from the first words on, if all of it can be a unit."""
    start = next((index for index, token in enumerate(tokens) if token.kind == "text"), None)
    if not start or not _ends_number(tokens[:start]):
        return tokens, None
    unit_tokens = tokens[start:]
    for token in unit_tokens:
        is_power = token.kind == "num" and token.value.value in (1, 2, 3)
        if not (token.kind in ("text", "sym", "func") or is_power or (token.kind == "op" and token.value in _UNIT_TOKENS)):
            return tokens, None
    written = " ".join(str(token.value.value if token.kind == "num" else token.value) for token in unit_tokens)
    written = re.sub(r"[{}]", " ", written)
    unit = read_unit(re.sub(r"\s*([\^/])\s*(-\s*)?", lambda match: match[1] + (match[2] or "").strip(), written))
    if unit is None:
        return tokens, None
    return tokens[:start], unit
