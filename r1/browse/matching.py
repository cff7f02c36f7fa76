"""Regular expressions as `r1 traces grep` reads them: RE2, which takes time in proportion to the text whatever the expression."""

from typing import Any

from r1.trace_search import text_column

_PRIVATE_USE = range(0xE000, 0xF900)


def found_in(texts: Any, pattern: str) -> Any:
    """Return for each text of an Arrow column whether it holds the pattern."""
    import pyarrow.compute as pc

    return pc.match_substring_regex(texts, pattern)


def found_at(text: str, pattern: str) -> list[tuple[int, int]]:
    """Return (start, end) of every match in a text, but for empty ones.

    Arrow has no function for that: it puts a character that the text does not have before and behind each match.

    >>> found_at("a1 b22", "[0-9]+")
    [(1, 2), (4, 6)]
    """
    import pyarrow.compute as pc

    taken = set(text)
    opening, closing = [chr(code) for code in _PRIVATE_USE if chr(code) not in taken][:2]
    marked: str = pc.replace_substring_regex(text_column([_encodable(text)]), pattern, rf"{opening}\0{closing}")[0].as_py()
    spans: list[tuple[int, int]] = []
    position = 0
    for part in marked.split(opening):
        match, closed, rest = part.partition(closing)
        if closed and match:
            spans.append((position, position + len(match)))
        position += len(match) + len(rest)
    return spans


def _encodable(text: str) -> str:
    """Half surrogate pairs, which Arrow cannot hold, as question marks: as many characters as before."""
    return text.encode("utf-8", "replace").decode("utf-8")
