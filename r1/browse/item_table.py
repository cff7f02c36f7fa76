"""A table that draws only the rows in view: a list of 16,384 opens as fast as one of 16."""

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from r1.browse.document import shown_text
from r1.browse.listing import Column, Item, Listing
from r1.browse.style import BASE_STYLE

MAX_MEASURED = 1000
"""Rows that decide how wide the columns are, spread over the list."""
MAX_CELL = 400
"""Characters of a cell that are looked at."""
MIN_WIDE_WIDTH = 16
"""The wide column is never narrower; the table scrolls sideways instead."""

_MARGIN = " "
_BASE = Style.parse(BASE_STYLE)
_HEADING = Style.parse("bold #d0d0d0 on #303030")
_CURSOR = Style.parse("#ffffff on #005f87")
_RESTING_CURSOR = Style.parse("on #303030")
_MATCH = Style.parse("bold #ffff00")


class ItemTable(ScrollView, can_focus=True):
    """Shows a `Listing`: a heading, and below it the rows, one of them under the cursor."""

    DEFAULT_CSS = "ItemTable { scrollbar-size-vertical: 1; scrollbar-size-horizontal: 1; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", show=False),
        Binding("k,up", "move(-1)", show=False),
        Binding("pagedown,ctrl+f", "move_pages(1)", show=False),
        Binding("pageup,ctrl+b", "move_pages(-1)", show=False),
        Binding("g,home", "move_to_end(-1)", show=False),
        Binding("G,end", "move_to_end(1)", show=False),
        Binding("left", "scroll_sideways(-1)", show=False),
        Binding("right", "scroll_sideways(1)", show=False),
        Binding("enter", "open", show=False),
    ]

    class Moved(Message):
        """The cursor has come to another item."""

    class Opened(Message):
        """Enter."""

    def __init__(self, listing: Listing[Any], *, id: str = "table") -> None:
        super().__init__(id=id)
        self.listing = listing
        self.empty = ""
        """What is said in place of rows."""
        self._widths: Sequence[int] = ()
        self._gap = 2

    def update(self) -> None:
        """Show the listing as it is now."""
        self._measure()
        self.virtual_size = Size(self._total_width(), len(self.listing.shown) + 1)
        self.show_cursor()
        self.refresh()

    def show_cursor(self) -> None:
        """Scroll as little as brings the cursor into view."""
        rows, top, index = max(1, self.size.height - 1), round(self.scroll_target_y), self.listing.index
        if index < top:
            self.scroll_to(y=index, animate=False)
        elif index >= top + rows:
            self.scroll_to(y=index - rows + 1, animate=False)

    def action_move(self, by: int) -> None:
        """Move the cursor by rows."""
        self._move_to(self.listing.index + by)

    def action_move_pages(self, pages: int) -> None:
        """Move the cursor by what is in view."""
        self._move_to(self.listing.index + pages * max(1, self.size.height - 2))

    def action_move_to_end(self, direction: int) -> None:
        """Move the cursor to the first row (-1) or the last (1)."""
        self._move_to(0 if direction < 0 else len(self.listing.shown) - 1)

    def action_scroll_sideways(self, direction: int) -> None:
        """Show columns that lie beside the view."""
        self.scroll_to(x=self.scroll_target_x + 8 * direction, animate=False)

    def action_open(self) -> None:
        """Tell the screen to open what is under the cursor."""
        if self.listing.current is not None:
            self.post_message(self.Opened())

    def on_resize(self, event: Resize) -> None:
        """Give the wide column what is left at the new width."""
        self.update()

    def render_line(self, y: int) -> Strip:
        """Draw one line of the view: the heading stays at the top."""
        width, left, base = self.size.width, self.scroll_offset.x, _BASE
        row = y - 1 + self.scroll_offset.y
        if y == 0:
            return self._heading().crop_extend(left, left + width, _HEADING)
        if row >= len(self.listing.shown):
            text = _MARGIN + self.empty if row == 0 else ""
            return Strip([Segment(text, Style.parse("dim"))]).apply_style(base).crop_extend(0, width, base)
        style = base
        if row == self.listing.index:
            style += _CURSOR if self.has_focus else _RESTING_CURSOR
        return self._row(self.listing.shown[row]).apply_style(style).crop_extend(left, left + width, style)

    def _move_to(self, index: int) -> None:
        before = self.listing.index
        if self.listing.move_to(index):
            self.show_cursor()
            for row in (before, self.listing.index):
                self.refresh_line(row + 1)
            self.post_message(self.Moved())

    def _heading(self) -> Strip:
        segments = [Segment(_MARGIN, _HEADING)]
        for column, width in zip(self.listing.columns, self._widths, strict=True):
            arrow = ("▼" if self.listing.is_descending() else "▲") if column.title == self.listing.sorted_by else ""
            title = _fitted(shown_text(column.title)[0], width - len(arrow), column)
            segments.append(Segment(title + arrow, _HEADING))
            segments.append(Segment(" " * self._gap, _HEADING))
        return Strip(segments)

    def _row(self, item: Item) -> Strip:
        is_match = self.listing.matches is not None and item.key in self.listing.matches
        segments = [Segment(_MARGIN)]
        for place, (column, width) in enumerate(zip(self.listing.columns, self._widths, strict=True)):
            style = Style.parse(column.style(item)) if column.style else Style.null()
            if place == 0 and is_match:
                style += _MATCH
            segments.append(Segment(_fitted(_cell(column, item), width, column), style))
            segments.append(Segment(" " * self._gap))
        return Strip(segments)

    def _measure(self) -> None:
        """Make each column as wide as its cells, and its title if there is room: short titles before a sideways scroll."""
        listing = self.listing
        sample = listing.shown[:: max(1, len(listing.shown) // MAX_MEASURED)]
        cells = [
            0 if column.is_wide else max((cell_len(_cell(column, item)) for item in sample), default=0)
            for column in listing.columns
        ]
        # With a place for the arrow of the column that is sorted by.
        titles = [len(column.title) + (column.title == listing.sorted_by) for column in listing.columns]
        wide = sum(column.is_wide for column in listing.columns) * MIN_WIDE_WIDTH
        for gap, longest_title in ((2, 99), (1, 99), (1, 10), (1, 8)):
            widths = [max(cell, min(title, longest_title)) for cell, title in zip(cells, titles, strict=True)]
            total = len(_MARGIN) + sum(widths) + wide + gap * (len(widths) - 1)
            if total <= self.size.width:
                break
        spare = max(0, self.size.width - total) + MIN_WIDE_WIDTH
        self._widths = [spare if column.is_wide else width for column, width in zip(listing.columns, widths, strict=True)]
        self._gap = gap

    def _total_width(self) -> int:
        return len(_MARGIN) + sum(self._widths) + self._gap * (len(self._widths) - 1)


def _cell(column: Column[Any], item: Item) -> str:
    """A cell on one line, and no more of it than fits any terminal: a question may have pages."""
    return shown_text(column.cell(item)[:MAX_CELL].replace("\n", " ").replace("\t", " "))[0]


def _fitted(text: str, width: int, column: Column[Any]) -> str:
    """Text in exactly `width` cells; what is too long ends in an ellipsis."""
    if cell_len(text) > width:
        return set_cell_size(text, max(0, width - 1)) + "…"
    return set_cell_size(text, width) if column.is_text or column.is_wide else " " * (width - cell_len(text)) + text
