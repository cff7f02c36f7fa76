"""A list of tokens with a position: what the two halves of the parser stand on."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from rewards.math_grading.lexer import Token, Unreadable
from rewards.math_grading.normalize import MAX_DEPTH, Refused
from rewards.math_grading.tree import Number

END = Token("end", "")


class TokenStream:
    """Looks at tokens and takes them, and counts how deep the brackets are."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = list(tokens)
        self._position = 0
        self._depth = 0

    @property
    def _token(self) -> Token:
        return self._tokens[self._position] if self._position < len(self._tokens) else END

    def _peek(self, offset: int) -> Token:
        position = self._position + offset
        return self._tokens[position] if position < len(self._tokens) else END

    def _next(self) -> Token:
        token = self._token
        self._position += 1
        return token

    def _is(self, *operators: str) -> bool:
        return self._token.kind == "op" and self._token.value in operators

    def _take(self, *operators: str) -> bool:
        if self._is(*operators):
            self._position += 1
            return True
        return False

    def _expect(self, *operators: str) -> str:
        if not self._is(*operators):
            raise Unreadable(f"expected {' or '.join(operators)}, found {self._token.value!r}")
        return str(self._next().value)

    @contextmanager
    def _one_level_deeper(self) -> Iterator[None]:
        """Within it, one level more is open; too many are refused before Python's own stack is full."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Refused(f"more than {MAX_DEPTH} levels of brackets")
        yield
        self._depth -= 1

    def _name(self) -> str:
        """Read what stands behind _ or below an accent: one token, or the tokens within {...}."""
        if not self._take("{"):
            return written(self._next())
        words = []
        while not self._take("}"):
            if self._token is END or self._is("{"):
                raise Unreadable("a name that is never closed, or nested")
            words.append(written(self._next()))
        return "".join(words)


def written(token: Token) -> str:
    """Return a token as part of a name."""
    if token.kind not in ("num", "sym", "text", "op", "func"):
        raise Unreadable("not a name")
    return str(token.value.value) if isinstance(token.value, Number) else re.sub(r"\s+", "", str(token.value))
