"""What all screens share: header, status line and keys; the prompt of `/` and `f`; sorting and going to matches."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widgets import Input, Static

from r1.browse.document import shown_text
from r1.browse.filters import parse_filter
from r1.browse.item_table import ItemTable
from r1.browse.listing import Listing
from r1.errors import UserError
from r1.trace_search import check_pattern

if TYPE_CHECKING:
    from r1.browse.app import Browser

Keys = Sequence[tuple[str, str]]
"""(key, what it does) for the footer, the most useful first."""


class PromptInput(Input):
    """The line that `/` and `f` open."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", show=False)]

    def action_cancel(self) -> None:
        """Leave everything as it was."""
        assert isinstance(self.screen, BrowseScreen)
        self.screen.close_prompt()


class BrowseScreen(Screen[None]):
    """One level of the run, e.g. the groups of a step."""

    KEYS: ClassVar[Keys] = ()
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "prompt('search')", show=False),
        Binding("f", "prompt('filter')", show=False),
        Binding("n", "match(1)", show=False),
        Binding("N", "match(-1)", show=False),
        Binding("s", "sort", show=False),
        Binding("S", "reverse", show=False),
        Binding("r", "reload", show=False),
        Binding("q", "back", show=False),
        Binding("escape", "leave", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._purpose = ""
        self._status_width = 0

    @property
    def browser(self) -> "Browser":
        """The app, by its type."""
        from r1.browse.app import Browser

        assert isinstance(self.app, Browser)
        return self.app

    @property
    def listing(self) -> Listing[Any] | None:
        """What is listed here; None on the screen of a single completion."""
        return None

    @property
    def is_first(self) -> bool:
        """Whether there is no screen behind it."""
        return False

    def keys(self) -> Keys:
        """What the footer lists."""
        return [(key, "quit" if key == "q" and self.is_first else label) for key, label in self.KEYS]

    def where(self) -> str:
        """The places that lead here, for the header."""
        raise NotImplementedError

    def state(self) -> str:
        """The second line of the header."""
        return "" if self.listing is None else self.listing_state(self.listing)

    def body(self) -> ComposeResult:
        """The widgets between header and status line."""
        assert self.listing is not None
        yield ItemTable(self.listing)

    def sync(self) -> None:
        """Show the position as it is now."""
        for table in self.query(ItemTable):
            table.update()
        self.update_header()

    def compose(self) -> ComposeResult:
        """Header, body, status line or prompt, keys."""
        yield Static(id="where")
        yield Static(id="state")
        yield from self.body()
        with Horizontal(id="prompt"):
            yield Static(id="purpose")
            yield PromptInput(id="input", compact=True)
        yield Static(id="status")
        yield Static(id="keys")

    def on_mount(self) -> None:
        """Show the first state; the prompt waits until it is asked for."""
        self.query_one("#prompt").display = False
        self.sync()

    def on_screen_resume(self) -> None:
        """Another screen may have moved the position."""
        self.sync()

    def on_resize(self) -> None:
        """The header and the keys are cut at the new width."""
        self.query_one("#keys", Static).update(_key_line(self.keys(), self.app.size.width - 2))
        self.update_header()

    def update_header(self) -> None:
        """Write both header lines."""
        # Of a place that is too long, its end says most.
        where = shown_text(self.where())[0]
        excess = cell_len(where) - (self.app.size.width - 2)
        self.query_one("#where", Static).update(Text(f"…{where[excess + 1 :]}" if excess > 0 else where), layout=False)
        self.query_one("#state", Static).update(Text(shown_text(self.state().replace("\n", " "))[0]), layout=False)

    def say(self, text: str, style: str = "") -> None:
        """Write the status line; it stays until the next key that has something to say."""
        line = shown_text(text.replace("\n", " "))[0]
        # A new layout takes longer than all the rest: only for what needs a second line, or did.
        needs_layout = max(cell_len(line), self._status_width) > self.app.size.width - 2
        self._status_width = cell_len(line)
        self.query_one("#status", Static).update(Text(line, style=style), layout=needs_layout)

    def fail(self, text: str) -> None:
        """Write a failure to the status line."""
        self.say(text, "#ff8787")

    def listing_state(self, listing: Listing[Any]) -> str:
        """How much of the list is shown, in what order, and what is searched for."""
        number, total = len(listing.shown), len(listing.items)
        parts = [f"{number:,} of {total:,}" if listing.filter.text else f"{total:,}"]
        if listing.filter.text:
            parts.append(f"filter {listing.filter.text}")
        if listing.sorted_by is not None:
            parts.append(f"sorted by {listing.sorted_by} {'▼' if listing.is_descending() else '▲'}")
        elif listing.is_reversed:
            parts.append("reversed")
        if self.browser.search.pattern is not None and listing.matches is not None:
            parts.append(f"search /{self.browser.search.pattern}/ in {len(listing.matches):,}")
        return "  ·  ".join(parts)

    def action_prompt(self, purpose: str) -> None:
        """Open the prompt for a search or a filter."""
        if purpose == "filter" and self.listing is None:
            return
        self._purpose = purpose
        pattern = self.browser.search.pattern
        text = self.listing.filter.text if purpose == "filter" and self.listing else pattern or ""
        hint = "regular expression, (?i) in front ignores case" if purpose == "search" else "e.g. >0.5  =0  <1  errors  truncated"
        prompt = self.query_one("#input", PromptInput)
        prompt.value, prompt.placeholder = text, f"{hint}; empty: all" if purpose == "filter" else hint
        prompt.cursor_position = len(text)
        self.query_one("#purpose", Static).update(Text("/" if purpose == "search" else "filter "))
        self.query_one("#prompt").display = True
        self.query_one("#status").display = False
        self.set_focus(prompt)  # at once: the next keys may be in the queue already

    def close_prompt(self) -> None:
        """Give the keys back to the list."""
        self.query_one("#prompt").display = False
        self.query_one("#status").display = True
        self.focus_body()

    def focus_body(self) -> None:
        """Where the keys go when the prompt is closed."""
        self.set_focus(self.query_one(ItemTable))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Search, or filter; what cannot be read is said, and the prompt stays open."""
        try:
            if self._purpose == "filter" and self.listing is not None:
                self.listing.set_filter(parse_filter(event.value))
            else:
                pattern = event.value or None
                if pattern:
                    check_pattern(pattern)
        except UserError as error:
            self.query_one("#status").display = True
            self.fail(str(error))
            return
        self.say("")
        self.close_prompt()
        if self._purpose == "search":
            self.browser.search.pattern = pattern
            self.search()
        self.sync()

    def search(self) -> None:
        """Look for the browser's pattern, mark what it is found in, and go to the first."""
        raise NotImplementedError

    def action_match(self, direction: int) -> None:
        """Go to the next match, or the previous one."""
        if self.browser.search.pattern is None:
            self.say("nothing is searched for yet: / does")
        elif self.listing is not None and self.listing.move_to_match(direction):
            self.sync()
        else:
            self.say(f"no match for /{self.browser.search.pattern}/ here")

    def action_sort(self) -> None:
        """Sort by the next column."""
        if self.listing is not None:
            self.listing.cycle_sort()
            self.sync()

    def action_reverse(self) -> None:
        """Turn the order around."""
        if self.listing is not None:
            self.listing.reverse()
            self.sync()

    def action_reload(self) -> None:
        """Read again what is shown."""
        raise NotImplementedError

    def action_back(self) -> None:
        """Return to the screen before; from the first, out."""
        if self.is_first:
            self.app.exit()
        else:
            self.app.pop_screen()

    def action_leave(self) -> None:
        """Return to the screen before; one Escape too many does not quit."""
        if self.is_first:
            self.say("this is the first screen; q quits")
        else:
            self.action_back()


def _key_line(keys: Keys, width: int) -> Text:
    """As many keys as fit; help always does."""
    help_key = ("?", "help")
    line = Text()
    for key, label in (*keys, help_key):
        needed = cell_len(f"{key} {label}  ") + (0 if (key, label) == help_key else cell_len("? help  "))
        if line.cell_len + needed <= width:
            line.append(f"{key}", "bold #ffffff on #444444").append(f" {label}  ")
    return line
