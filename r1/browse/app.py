"""The browser: one run at a time, its screens, and the ways between them."""

from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.events import Key

from r1.browse.colours import COLOURINGS, Colouring, Painter
from r1.browse.completions import CompletionsScreen
from r1.browse.document import Span, shown_text
from r1.browse.follow import POLL_S, Follower
from r1.browse.help import HelpScreen
from r1.browse.lines import GroupLine, RunLine, StepKey
from r1.browse.listing import Listing
from r1.browse.lists import GroupsScreen, RunsScreen, StepsScreen
from r1.browse.position import Position
from r1.browse.reader import GroupRows, RunReader, StepRows
from r1.browse.run_folders import find_runs, is_run
from r1.browse.screen import PromptInput
from r1.browse.search import Search
from r1.browse.style import CSS
from r1.browse.threads import ReadingApp
from r1.errors import UserError


class Browser(ReadingApp):
    """Goes from runs to steps, groups and completions; a model's text is never markup here."""

    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]  # noqa: RUF012 - Textual declares it without ClassVar
    CSS = CSS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q,Q", "quit", show=False),
        Binding("question_mark", "help", show=False),
    ]

    def __init__(self, folder: Path) -> None:
        """Raises `UserError` when there is nothing to browse."""
        super().__init__()
        runs = find_runs(folder)
        self.folder = folder
        self.has_many_runs = not is_run(folder)
        self.runs: Listing[RunLine] = Listing()
        self.position = Position(RunReader(runs[0]))
        self.colouring: Colouring = "none"
        self.search = Search(self)
        self.follower = Follower(self)
        self._painter = Painter(self.position.reader.run)
        self._painted: dict[object, tuple[list[Span], Text]] = {}
        self._other_split: tuple[StepKey, StepKey] | None = None  # where `h` went to, and from where
        self._target: StepKey | None = None  # the step that is being read: a second `t` goes on from there

    @property
    def is_among_runs(self) -> bool:
        """Whether no run is open."""
        return not any(isinstance(screen, StepsScreen) for screen in self.screen_stack)

    def on_mount(self) -> None:
        """Show the first screen from file names alone, and look for more every two seconds."""
        if self.has_many_runs:
            self.push_screen(RunsScreen())
        else:
            self.open_run(self.folder)
        self.set_interval(POLL_S, lambda: self.follower.poll())  # of the run that is open then

    def open_run(self, folder: Path) -> None:
        """Show the steps of a run."""
        self.position = Position(RunReader(folder))
        self.follower = Follower(self)
        self._painter = Painter(self.position.reader.run)
        self._painted.clear()
        self.position.show_steps(self.position.reader.step_keys(), {})
        self.push_screen(StepsScreen())
        # The screen is drawn before pyarrow and pydantic are imported for its numbers, which takes half a second.
        self.call_after_refresh(self.follower.poll)

    def open_step(self, key: StepKey) -> None:
        """Show the groups of a step."""
        self._load_step(key, is_opened=True)

    def open_group(self, group: GroupLine) -> None:
        """Show the completions of a group."""
        self._load_group(group, is_opened=True)

    def go_to_group(self, by: int) -> None:
        """Go to a neighbour of the group, and into it where one is inside of a group."""
        position = self.position
        if not position.groups.move(by):
            self.say(f"this is the {'last' if by > 0 else 'first'} group; {'t' if by > 0 else 'T'} goes to another step")
        elif position.group is not None and position.groups.current is not None:
            self._load_group(position.groups.current)
        else:
            self.sync()

    def go_to_neighbour(self, by: int) -> None:
        """Show the same problem, or else the same group, in the next step of the split (1) or the one before (-1)."""
        here = self._here()
        key = None if here is None else self.position.neighbour_step(here, by)
        if key is None:
            self.say(f"there is no {'later' if by > 0 else 'earlier'} step of this kind")
        else:
            self._load_step(key)

    def go_to_other_split(self) -> None:
        """Show the held-out evaluation before this training step, and from there this step again."""
        here = self._here()
        if here is None:
            return
        arrived, left = self._other_split or (None, None)
        key = left if arrived == here and left in self.position.keys else self.position.other_split(here)
        if key is None:
            self.say("the run has no traces of the other split")
        else:
            self._other_split = (key, here)
            self._load_step(key)

    def reload_step(self) -> None:
        """Read the open step again."""
        if self.position.rows is not None:
            self.position.reader.forget()
            self._load_step(self.position.rows.key)

    def fail(self, text: str) -> None:
        """Write to the status line what did not work; the next step key goes on from the step that is shown."""
        self._target = None
        super().fail(text)

    def cycle_colouring(self) -> None:
        """Choose the next kind of colours."""
        self.colouring = COLOURINGS[(COLOURINGS.index(self.colouring) + 1) % len(COLOURINGS)]

    def colours(self) -> tuple[list[Span], Text]:
        """Return the coloured stretches of the completion under the cursor and their legend; later where that takes time."""
        rows, group, row = self.position.rows, self.position.group, self.position.row
        colouring, painter = self.colouring, self._painter
        if colouring == "none" or rows is None or group is None or row is None:
            return [], Text()
        place = (rows.key, row.group_id, row.sample_id, colouring)
        if place in self._painted:
            return self._painted[place]

        def paint() -> tuple[list[Span], Text]:
            try:
                spans, scale = painter.paint(colouring, group, row)
            except UserError as error:
                return [], Text(f"no colours by {colouring}: {shown_text(str(error))[0]}", style="#ff8787")
            return spans, scale.legend()

        def show(painted: tuple[list[Span], Text]) -> None:
            self._painted[place] = painted
            self.sync()

        self.read("paint", paint, show)
        return [], Text(f"{colouring} …", style="dim")

    def on_key(self, event: Key) -> None:
        """Give the prompt what was typed so quickly behind the key that opens it that the list has got it."""
        prompt = self.screen.focused
        if isinstance(prompt, PromptInput) and event.is_printable and event.character:
            prompt.insert_text_at_cursor(event.character)
            event.prevent_default()  # or it would be looked up among the keys of the list

    def action_help(self) -> None:
        """List the keys."""
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen())

    def _here(self) -> StepKey | None:
        """The step that is open, or being read."""
        return self._target or (self.position.rows.key if self.position.rows else None)

    def _load_step(self, key: StepKey, *, is_opened: bool = False) -> None:
        """Read a step, and its group where one is inside of one; then show it on the screen that is open, or on a new one."""
        position, asked_on = self.position, self.screen
        is_inside = position.group is not None
        self._target = key
        self.say(f"reading {key} …")

        def read() -> tuple[StepRows, GroupLine | None, GroupRows]:
            rows = position.reader.step(key)
            group = position.nearest_group(rows) if is_inside else None
            return rows, group, position.reader.group(key, group) if group else {}

        def show(result: tuple[StepRows, GroupLine | None, GroupRows]) -> None:
            self._target = None
            if self.screen is not asked_on:
                return  # one has gone elsewhere meanwhile
            self._painted.clear()
            rows, group, texts = result
            sample = position.completions.current
            warning = position.show_step(rows)
            if group is not None:
                position.open_group(group, texts, sample.key[1] if sample else 0)
            if is_opened:
                self.push_screen(GroupsScreen())
            else:
                self.sync()
                self.say(warning)
            self.search.in_step(is_new=False)

        self.read("step", read, show)

    def _load_group(self, group: GroupLine, *, is_opened: bool = False) -> None:
        """Read the texts of a group, then show them on the screen that is open, or on a new one."""
        position, rows, asked_on = self.position, self.position.rows, self.screen
        if rows is None:
            return

        def show(texts: GroupRows) -> None:
            if self.screen is not asked_on:
                return
            position.open_group(group, texts)
            if is_opened:
                self.push_screen(CompletionsScreen())
            else:
                self.say("")
                self.sync()

        self.say(f"reading group {group.key} …")
        # The same thread as that of steps: what is asked for last is shown.
        self.read("step", lambda: position.reader.group(rows.key, group), show)
