"""The text of a screen with its styles: a model's raw text made printable, with every mark moved to where it is shown."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from rich.cells import cell_len, get_character_cell_size

from r1.browse.matching import found_at
from r1.cli.printing import is_plain, printable_characters
from r1.prompts import split_completion

_TAB = "    "
_EMOJI_FORM = "\ufe0f"
"""Asks for the coloured form of the symbol before it; `printable` leaves it nowhere else."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of text in a rich style."""

    start: int
    end: int
    """Behind its last character."""
    style: str


@dataclass(slots=True)
class Document:
    """Text to be shown, and layers of spans: each layer sorted and without overlaps, later ones over earlier ones."""

    text: str = ""
    layers: tuple[list[Span], ...] = field(default_factory=lambda: ([], [], []))
    """Sections and parts of the answer; colours of tokens; what the search found."""

    def add(self, raw: str, style: str = "", spans: Sequence[Span] = (), pattern: str | None = None) -> None:
        """Append raw text.

        style: of all of it that no span covers; spans: the colours of its tokens, by raw positions; pattern: what to mark.
        """
        self._append(raw, [Span(0, len(raw), style)] if style and raw else [], spans, pattern)

    def add_answer(self, prefill: str, completion: str, spans: Sequence[Span], pattern: str | None) -> None:
        """Append a completion after its prefill; spans: the colours of its tokens, by positions in the completion."""
        moved = [Span(span.start + len(prefill), span.end + len(prefill), span.style) for span in spans]
        self._append(prefill + completion, answer_parts(prefill, completion), moved, pattern)

    @property
    def found(self) -> list[Span]:
        """What the search found."""
        return self.layers[2]

    def _append(
        self, raw: str, parts: Sequence[Span], spans: Sequence[Span], pattern: str | None
    ) -> None:
        text, offsets = shown_text(raw)
        found = [Span(*match, "bold #000000 on #ffff00") for match in found_at(raw, pattern)] if pattern else []
        base = len(self.text)
        for layer, added in zip(self.layers, (parts, spans, found), strict=True):
            for span in added:
                start, end = (span.start, span.end) if offsets is None else (offsets[span.start], offsets[span.end])
                if end > start:
                    layer.append(Span(base + start, base + end, span.style))
        self.text += text


def shown_text(raw: str) -> tuple[str, list[int] | None]:
    r"""Make raw text printable; and where each raw character begins in it (and its end), None when nothing has moved.

    >>> shown_text("a\x1b\tb")
    ('a\\x1b    b', [0, 1, 5, 9, 10])
    """
    if is_plain(raw):
        return raw, None
    pieces = [_TAB if character == "\t" else character for character in printable_characters(raw)]
    text = "".join(pieces)
    return text, None if text == raw else list(accumulate(map(len, pieces), initial=0))


def answer_parts(prefill: str, completion: str) -> list[Span]:
    """The thinking in cyan, the answer in bold green, the prefill (which the policy did not write) underlined."""
    whole = prefill + completion
    parts = split_completion(whole)
    # The thinking ends where the last </think> begins; the answer is looked for behind it.
    closed = whole.rfind("</think>")
    thinking_end = closed if closed >= 0 else len(whole)
    thinking_start = max(len(prefill), thinking_end - len(parts.thinking))
    start = end = len(whole)
    if parts.answer:
        start = max(len(prefill), whole.find("<answer>", max(0, closed)) + len("<answer>"))
        end = start + len(parts.answer)
    # Where the thinking is never closed, the answer stands in the middle of it.
    spans = [
        Span(0, len(prefill), "underline"),
        Span(thinking_start, min(thinking_end, start), "cyan"),
        Span(start, end, "bold green"),
        Span(end, thinking_end, "cyan"),
    ]
    return [span for span in spans if span.end > span.start]


def wrap(text: str, width: int) -> list[tuple[int, int]]:
    """Fold text at spaces into lines of at most `width` cells: (start, end) of each; a longer word is cut."""
    width = max(2, width)  # a wide character has two cells
    lines: list[tuple[int, int]] = []
    start = 0
    for paragraph in text.split("\n"):
        end = start + len(paragraph)
        position = start
        while True:
            limit = _reach(text, position, end, width)
            if limit == end:
                lines.append((position, end))
                break
            space = text.rfind(" ", position, limit + 1)
            lines.append((position, limit if space < 0 else space))
            position = limit if space < 0 else space + 1  # the space itself is not shown
        start = end + 1
    return lines


def spans_within(spans: Sequence[Span], starts: Sequence[int], start: int, end: int) -> list[Span]:
    """The spans of a layer that touch a stretch; starts: of all of them."""
    first = max(0, bisect_right(starts, start) - 1)
    within = []
    for span in spans[first : bisect_right(starts, end)]:
        if span.end > start and span.start < end:
            within.append(span)
    return within


def _reach(text: str, start: int, end: int, width: int) -> int:
    """How far text can go from `start` in `width` cells."""
    stretch = text[start : min(end, start + width + 1)]
    if stretch.isascii():
        return min(end, start + width)
    cells, symbol = 0, start
    for index in range(start, end):
        if text[index] == _EMOJI_FORM:
            # As the screen measures: the sign has no cells of its own, and makes some symbols twice as wide.
            cells += cell_len(text[symbol : index + 1]) - cell_len(text[symbol:index])
        elif size := get_character_cell_size(text[index]):
            cells, symbol = cells + size, index
        if cells > width:
            return max(symbol, start + 1)
    return end
