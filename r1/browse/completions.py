"""The screens that show text: the completions of a group with the one under the cursor, and a single one with everything."""

import json
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import Static

from r1.browse.document import Document, Span
from r1.browse.item_table import ItemTable
from r1.browse.lines import CompletionLine
from r1.browse.listing import Listing
from r1.browse.lists import StepScreen
from r1.browse.screen import Keys
from r1.browse.text_pane import TextPane
from r1.trace_schema import COLUMNS, TOKEN_COLUMNS, TraceRow

_TEXTS = ("question", "prompt_text", "prefill", "completion")
"""Columns that are shown apart from the others."""


class TextScreen(StepScreen):
    """Shows the completion under the cursor, in the colours that are chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right_square_bracket", "sample(1)", show=False),
        Binding("left_square_bracket", "sample(-1)", show=False),
        Binding("c", "colour", show=False),
        Binding("y", "copy", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._shown: object = None

    def where(self) -> str:
        """Run, step, group and sample."""
        position = self.browser.position
        group = "" if position.group is None else f" › group {position.group.key} {position.group.problem_id}"
        sample = "" if position.completions.current is None else f" › sample {position.completions.current.key[1]}"
        return f"{super().where()}{group}{sample}"

    def document(self, row: TraceRow, spans: list[Span]) -> Document:
        """Everything that is shown of a completion; spans: the colours of its tokens."""
        raise NotImplementedError

    def sync(self) -> None:
        """Show the completion under the cursor from its beginning, or from the first match; the same one stays in its place."""
        super().sync()
        self.show_text()

    def show_text(self) -> None:
        """Show the completion under the cursor."""
        self.update_header()
        position, pane = self.browser.position, self.query_one(TextPane)
        row = position.row
        if row is None:
            is_lost = position.completions.current is not None
            pane.show(Document("its file was written anew without it; r reads the step again" if is_lost else ""))
            self.show_legend(Text())
            return
        shown = (position.rows, position.completions.current, self.browser.search.pattern)
        is_same, self._shown = shown == self._shown, shown
        spans, legend = self.browser.colours()
        pane.show(self.document(row, spans), keep_place=is_same)
        self.show_legend(legend)
        if pane.document.found and not is_same:
            pane.scroll_to_character(pane.document.found[0].start)

    def show_legend(self, legend: Text) -> None:
        """Write the scale of the colours; without any, its line is given to the text."""
        line = self.query_one("#legend", Static)
        line.display = bool(legend)
        line.update(legend, layout=False)

    def action_sample(self, by: int) -> None:
        """Go to a sibling, in the order of the list."""
        if not self.browser.position.completions.move(by):
            self.say(f"this is the {'last' if by > 0 else 'first'} completion of the group; {'}' if by > 0 else '{'} leaves it")
        self.sync()

    def action_copy(self) -> None:
        """Give the completion to the terminal's clipboard, as most terminals allow, over ssh as well."""
        row = self.browser.position.row
        if row is not None:
            self.app.copy_to_clipboard(row.prefill + row.completion)
            self.say("the completion is on the clipboard, where the terminal allows that")

    def action_colour(self) -> None:
        """Colour by the next kind of value."""
        self.browser.cycle_colouring()
        self.sync()


class CompletionsScreen(TextScreen):
    """The completions of a group, and the text of the one under the cursor."""

    KEYS: ClassVar[Keys] = (
        *(("Enter", "open"), ("q", "back"), ("c", "colour"), ("} {", "group"), ("t T", "step"), ("/", "search"), ("f", "filter")),
        *(("s", "sort"), ("J K", "scroll text"), ("n", "next"), ("S", "reverse"), ("h", "held-out"), ("r", "reload")),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("J", "scroll_text(1)", show=False),
        Binding("K", "scroll_text(-1)", show=False),
        Binding("space,ctrl+d", "page_text(0.5)", show=False),
        Binding("ctrl+u", "page_text(-0.5)", show=False),
    ]

    @property
    def listing(self) -> Listing[CompletionLine]:
        """The completions."""
        return self.browser.position.completions

    def body(self) -> ComposeResult:
        """The list, and beside it or beneath it the text."""
        with Container(id="both"):
            yield ItemTable(self.listing)
            yield TextPane(id="text")
        yield Static(id="legend")

    def state(self) -> str:
        """As everywhere, with the beginning of the question."""
        group = self.browser.position.group
        return f"completions  ·  {self.listing_state(self.listing)}  ·  {group.question[:300] if group else ''}"

    def document(self, row: TraceRow, spans: list[Span]) -> Document:
        """What it is checked against, and the completion."""
        document, pattern = Document(), self.browser.search.pattern
        document.add(f"reference {_described(row.reference)}\n", "dim")
        if row.error is not None:
            document.add(f"error {row.error}\n", "red")
        document.add_answer(row.prefill, row.completion, spans, pattern)
        return document

    def sync(self) -> None:
        """An empty list has been filtered."""
        self.query_one(ItemTable).empty = "nothing passes the filter"
        super().sync()

    def on_mount(self) -> None:
        """The keys move in the list; tab reaches the text."""
        super().on_mount()
        self.set_focus(self.query_one(ItemTable))

    def on_item_table_moved(self) -> None:
        """Show the text of the completion under the cursor."""
        self.show_text()

    def on_item_table_opened(self) -> None:
        """Show it with everything that is stored of it."""
        self.app.push_screen(CompletionScreen())

    def action_scroll_text(self, lines: int) -> None:
        """Scroll the text, while the keys move in the list."""
        self.query_one(TextPane).action_scroll_by(lines)

    def action_page_text(self, pages: float) -> None:
        """Scroll the text by pages."""
        self.query_one(TextPane).action_scroll_pages(pages)

    def action_back(self) -> None:
        """Return to the groups."""
        self.browser.position.close_group()
        super().action_back()


class CompletionScreen(TextScreen):
    """One completion with everything that is stored of it."""

    KEYS: ClassVar[Keys] = (
        *(("q", "back"), ("c", "colour"), ("] [", "sample"), ("} {", "group"), ("t T", "step"), ("/", "search"), ("n", "next")),
        *(("g G", "ends"), ("h", "held-out"), ("r", "reload")),
    )

    def body(self) -> ComposeResult:
        """The text, and the scale of its colours."""
        yield TextPane(id="text")
        yield Static(id="legend")

    def state(self) -> str:
        """The numbers that one compares siblings by."""
        line = self.browser.position.completions.current
        if line is None:
            return ""
        parts = [f"{name} {_number(value)}" for name, value in {"reward": line.reward, **line.parts}.items()]
        return "  ·  ".join([*parts, f"advantage {_number(line.advantage)}", f"{line.tokens} tokens", line.finish_reason])

    def document(self, row: TraceRow, spans: list[Span]) -> Document:
        """The question and the completion, then all other columns by name; the prompt comes last, as it may be long."""
        document, pattern = Document(), self.browser.search.pattern
        document.add("question\n", "bold")
        document.add(row.question, pattern=pattern)
        document.add("\n\ncompletion\n", "bold")
        document.add_answer(row.prefill, row.completion, spans, pattern)
        document.add("\n\nmetadata\n", "bold")
        for name in COLUMNS:
            if name not in _TEXTS and name not in TOKEN_COLUMNS:
                document.add(f"{name:{max(map(len, COLUMNS))}}  ", "dim")
                document.add(f"{_described(getattr(row, name))}\n", "red" if name == "error" and row.error else "")
        document.add("\nprompt\n", "bold")
        document.add(row.prompt_text.removesuffix(row.prefill), "dim")
        return document

    def focus_body(self) -> None:
        """The keys scroll the text."""
        self.set_focus(self.query_one(TextPane))

    def on_mount(self) -> None:
        """The keys scroll the text."""
        super().on_mount()
        self.focus_body()

    def search(self) -> None:
        """Look through this text first, and mark the siblings that match as well."""
        super().search()
        self.sync()
        if self.browser.search.pattern is not None and not self.query_one(TextPane).document.found:
            self.say("not in this completion; ] and } go to others")

    def action_match(self, direction: int) -> None:
        """Scroll to the next match behind the first line in view, or the previous one; past the end to the other."""
        if self.browser.search.pattern is None:
            self.say("nothing is searched for yet: / does")
        else:
            self.say(self.query_one(TextPane).move_to_found(direction) or "not in this completion; ] and } go to others")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _described(value: Any) -> str:
    """A column's value in one line: no number rounded far, texts as they are, everything else as JSON."""
    if value is None or value == ():
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=dict)
