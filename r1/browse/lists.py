"""The screens that are lists: runs, the steps of a run, the groups of a step."""

from typing import ClassVar

from textual.binding import Binding, BindingType

from r1.browse.item_table import ItemTable
from r1.browse.lines import GroupLine, RunLine, StepLine
from r1.browse.listing import Listing
from r1.browse.matching import found_at
from r1.browse.screen import BrowseScreen, Keys

_LIST_KEYS = (("/", "search"), ("n", "next"), ("f", "filter"), ("s", "sort"), ("S", "reverse"))


class RunsScreen(BrowseScreen):
    """The runs of a folder."""

    KEYS: ClassVar[Keys] = (("Enter", "open"), ("q", "back"), *_LIST_KEYS, ("r", "reload"))

    @property
    def is_first(self) -> bool:
        """Always."""
        return True

    @property
    def listing(self) -> Listing[RunLine]:
        """The runs."""
        return self.browser.runs

    def where(self) -> str:
        """The folder."""
        return f"runs in {self.browser.folder}"

    def on_screen_resume(self) -> None:
        """Back from a run that may have gone on."""
        super().on_screen_resume()
        self.browser.follower.poll()

    def on_item_table_opened(self) -> None:
        """Show the steps of the run under the cursor."""
        if self.listing.current is not None:
            self.browser.open_run(self.listing.current.key)

    def search(self) -> None:
        """Look through the names."""
        pattern, items = self.browser.search.pattern, self.listing.items
        self.listing.matches = {line.key for line in items if found_at(line.key.name, pattern)} if pattern else None
        self.listing.move_to_match(1, from_here=True)

    def action_reload(self) -> None:
        """Read the folder again."""
        self.browser.follower.poll()


class StepsScreen(BrowseScreen):
    """The steps of a run."""

    KEYS: ClassVar[Keys] = (("Enter", "open"), ("q", "back"), *_LIST_KEYS, ("h", "held-out"), ("r", "reload"))
    BINDINGS: ClassVar[list[BindingType]] = [Binding("h", "cycle_splits", show=False)]

    @property
    def listing(self) -> Listing[StepLine]:
        """The steps."""
        return self.browser.position.steps

    @property
    def is_first(self) -> bool:
        """Where there is no list of runs behind it."""
        return not self.browser.has_many_runs

    def where(self) -> str:
        """The run."""
        return self.browser.position.reader.run.name

    def state(self) -> str:
        """As everywhere, with the splits that are listed."""
        splits = self.browser.position.splits
        return ("steps  ·  " if splits == "both" else f"{splits} steps only  ·  ") + self.listing_state(self.listing)

    def sync(self) -> None:
        """Say what an empty list is waiting for."""
        is_empty = not self.listing.items
        self.query_one(ItemTable).empty = (
            "no traces yet: the first appear when the first step or evaluation ends" if is_empty else "nothing passes the filter"
        )
        super().sync()

    def on_item_table_opened(self) -> None:
        """Show the groups of the step under the cursor."""
        if self.listing.current is not None:
            self.browser.open_step(self.listing.current.key)

    def action_cycle_splits(self) -> None:
        """List both splits, training steps only, held-out evaluations only."""
        self.browser.position.cycle_splits()
        self.sync()

    def search(self) -> None:
        """Look through all texts of the run, which may take a while."""
        self.browser.search.in_run()

    def action_reload(self) -> None:
        """Look for new steps, and read their numbers again."""
        self.browser.follower.read_anew()

    def action_back(self) -> None:
        """To the runs, or out where there is only this one."""
        self.browser.search.stop()
        super().action_back()


class StepScreen(BrowseScreen):
    """What the screens inside of a step share."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "step(1)", show=False),
        Binding("T", "step(-1)", show=False),
        Binding("h", "other_split", show=False),
        Binding("right_curly_bracket", "group(1)", show=False),
        Binding("left_curly_bracket", "group(-1)", show=False),
    ]

    def where(self) -> str:
        """Run and step."""
        position = self.browser.position
        step = "" if position.rows is None else f" › {position.rows.key}"
        return f"{position.reader.run.name}{step}"

    def action_step(self, by: int) -> None:
        """Show the same problem, or else the same group, of a neighbouring step."""
        self.browser.go_to_neighbour(by)

    def action_other_split(self) -> None:
        """Go from a training step to the held-out evaluation before it, and back."""
        self.browser.go_to_other_split()

    def action_group(self, by: int) -> None:
        """Go to a neighbouring group, in the order of the list."""
        self.browser.go_to_group(by)

    def search(self) -> None:
        """Look through the texts of the step."""
        self.browser.search.in_step(is_new=True)

    def action_reload(self) -> None:
        """Read the step again."""
        self.browser.reload_step()


class GroupsScreen(StepScreen):
    """The groups of a step."""

    KEYS: ClassVar[Keys] = (("Enter", "open"), ("q", "back"), *_LIST_KEYS, ("t T", "step"), ("h", "held-out"), ("r", "reload"))

    @property
    def listing(self) -> Listing[GroupLine]:
        """The groups."""
        return self.browser.position.groups

    def state(self) -> str:
        """As everywhere."""
        return f"groups  ·  {self.listing_state(self.listing)}"

    def sync(self) -> None:
        """An empty list has been filtered."""
        self.query_one(ItemTable).empty = "no group" if not self.listing.items else "nothing passes the filter"
        super().sync()

    def on_item_table_opened(self) -> None:
        """Show the completions of the group under the cursor."""
        if self.listing.current is not None:
            self.browser.open_group(self.listing.current)


