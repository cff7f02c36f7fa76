"""A scrollable text that draws only the lines in view: 32,000 tokens scroll like 30."""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from r1.browse.document import Document, Span, spans_within, wrap
from r1.browse.style import BASE_STYLE

_BASE = Style.parse(BASE_STYLE)


class TextPane(ScrollView, can_focus=True):
    """Shows a `Document`, folded at the width of the pane."""

    DEFAULT_CSS = "TextPane { overflow-x: hidden; overflow-y: scroll; scrollbar-size-vertical: 1; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "scroll_by(1)", show=False),
        Binding("k,up", "scroll_by(-1)", show=False),
        Binding("space,pagedown,ctrl+f", "scroll_pages(1)", show=False),
        Binding("pageup,ctrl+b", "scroll_pages(-1)", show=False),
        Binding("g,home", "scroll_ends(-1)", show=False),
        Binding("G,end", "scroll_ends(1)", show=False),
    ]

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.document = Document()
        self._starts: Sequence[Sequence[int]] = ([], [], [])
        self._lines: list[tuple[int, int]] = [(0, 0)]
        self._found = 0

    def show(self, document: Document, *, keep_place: bool = False) -> None:
        """Show another text from its beginning, or keep_place: the same one in other colours."""
        place = self._first_character() if keep_place else 0
        self._found = self._found if keep_place else 0
        self.document = document
        self._starts = [[span.start for span in layer] for layer in document.layers]
        self._fold(place)

    def scroll_to_character(self, position: int) -> None:
        """Bring a character into view, with some lines before it."""
        line = self._line_of(position)
        top = self.scroll_offset.y
        if not top <= line < top + self.size.height:
            self.scroll_to(y=max(0, line - self.size.height // 3), animate=False)

    def move_to_found(self, direction: int) -> str:
        """Go to the next thing that the search found, past the end to the first; return which one it is, "" without any."""
        found = self.document.found
        if not found:
            return ""
        self._found = (self._found + direction) % len(found)
        self.scroll_to_character(found[self._found].start)
        return f"match {self._found + 1} of {len(found)}"

    def place(self) -> str:
        """Which lines are in view, in words."""
        top, height = self.scroll_offset.y, self.size.height
        return f"lines {top + 1}-{min(len(self._lines), top + height)} of {len(self._lines)}"

    def action_scroll_by(self, lines: int) -> None:
        """Scroll by lines, up when negative."""
        self.scroll_to(y=self.scroll_target_y + lines, animate=False)

    def action_scroll_pages(self, pages: float) -> None:
        """Scroll by pages, less the line that stays."""
        self.scroll_to(y=self.scroll_target_y + round(pages * (self.size.height - 1)), animate=False)

    def action_scroll_ends(self, direction: int) -> None:
        """Scroll to the beginning (-1) or the end (1)."""
        self.scroll_to(y=0 if direction < 0 else self.max_scroll_y, animate=False)

    def on_resize(self, event: Resize) -> None:
        """Fold at the new width; the first character in view stays there."""
        self._fold(self._first_character())

    def render_line(self, y: int) -> Strip:
        """Draw one line of the view."""
        base, width, line = _BASE, self.size.width, y + self.scroll_offset.y
        if line >= len(self._lines):
            return Strip.blank(width, base)
        start, end = self._lines[line]
        return Strip(self._segments(start, end)).apply_style(base).crop_extend(0, width, base)

    def _segments(self, start: int, end: int) -> list[Segment]:
        layers = [
            spans_within(spans, starts, start, end) for spans, starts in zip(self.document.layers, self._starts, strict=True)
        ]
        cuts = {start, end} | {cut for layer in layers for span in layer for cut in (span.start, span.end) if start < cut < end}
        return [
            Segment(self.document.text[first:last], _style_at(layers, first)) for first, last in pairwise(sorted(cuts))
        ]

    def _fold(self, place: int) -> None:
        # The scrollbar's column stays free, so that the text is not folded anew when it appears.
        self._lines = wrap(self.document.text, self.scrollable_content_region.width or 80)
        # Assigned plainly, the size would have the whole screen laid out anew, which takes longer than to draw the text; the
        # scrollbar is always there, so that nothing else depends on the number of lines.
        self.set_reactive(TextPane.virtual_size, Size(self.size.width, len(self._lines)))
        self.vertical_scrollbar.window_virtual_size = len(self._lines)
        self.scroll_to(y=self._line_of(place) if place else 0, animate=False)
        self.refresh()

    def _first_character(self) -> int:
        return self._lines[min(self.scroll_offset.y, len(self._lines) - 1)][0]

    def _line_of(self, position: int) -> int:
        return max(0, next((i for i, (start, _) in enumerate(self._lines) if start > position), len(self._lines)) - 1)


def _style_at(layers: Sequence[Sequence[Span]], position: int) -> Style:
    style = Style.null()
    for layer in layers:
        for span in layer:
            if span.start <= position < span.end:
                style += Style.parse(span.style)
    return style
