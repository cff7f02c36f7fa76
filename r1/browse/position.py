"""Where one is in a run: its lists, what is open of each, and what moves between them. Knows nothing of the terminal."""

from collections.abc import Mapping

from r1.browse.lines import (
    CompletionKey,
    CompletionLine,
    GroupLine,
    StepKey,
    StepLine,
    completion_columns,
    group_columns,
    step_columns,
)
from r1.browse.listing import Listing
from r1.browse.reader import GroupRows, RunReader, StepRows
from r1.trace_schema import TraceRow

SPLITS = ("both", "training", "held-out")
"""Which steps are listed, in the order of the key."""


class Position:
    """The lists of a run with their cursors, and the step and the group that are open."""

    def __init__(self, reader: RunReader) -> None:
        self.reader = reader
        self.steps: Listing[StepLine] = Listing()
        self.groups: Listing[GroupLine] = Listing()
        self.completions: Listing[CompletionLine] = Listing()
        self.splits = SPLITS[0]
        """One of SPLITS."""
        self.keys: list[StepKey] = []
        """All steps of the run in the order of time, whatever is listed of them."""
        self.known: dict[StepKey, StepLine] = {}
        """Their numbers, as far as they have been read."""
        self.rows: StepRows | None = None
        """The step that is open, or was last."""
        self.group: GroupLine | None = None
        """The group that is open."""
        self.texts: GroupRows = {}
        """Its completions."""

    def show_steps(self, keys: list[StepKey], known: Mapping[StepKey, StepLine]) -> None:
        """List the steps; at first, the cursor stands on the last one."""
        is_first = not self.keys
        self.keys = keys
        self.known |= known
        wanted = [key for key in keys if self.splits == "both" or key.is_heldout == (self.splits == "held-out")]
        lines = [self.known.get(key, StepLine(key=key)) for key in wanted]
        self.steps.replace(lines, step_columns(lines))
        if is_first:
            self.steps.move_to(len(self.steps.shown) - 1)

    def cycle_splits(self) -> None:
        """List training and held-out steps, only the former, only the latter."""
        self.splits = SPLITS[(SPLITS.index(self.splits) + 1) % len(SPLITS)]
        self.show_steps(self.keys, {})

    def nearest_group(self, rows: StepRows) -> GroupLine | None:
        """Where to go on in another step: the same problem, else the same group, else the last; None in an empty step."""
        before = self.group or self.groups.current
        if before is None or not rows.groups:
            return next(iter(rows.groups), None)
        same_problem = [line for line in rows.groups if _problem(line) == _problem(before)]
        same_group = [line for line in rows.groups if line.key == before.key]
        return [*same_problem, *same_group, rows.groups[-1]][0]

    def show_step(self, rows: StepRows) -> str:
        """Open a step, the cursor on the nearest group; return a warning when that is another problem."""
        before, nearest = self.group or self.groups.current, self.nearest_group(rows)
        if self.rows is not rows:
            self.rows = rows
            self.mark_found(None)
        self.groups.replace(rows.groups, group_columns(rows.groups))
        self.steps.move_to_key(rows.key)
        if nearest is None:
            return f"{rows.key} has no completions"
        self.groups.stand_at(nearest.key)
        if self.group is None:  # the list alone is on the screen, and the cursor is where it is drawn
            self.groups.gap = None
        if before is None or _problem(before) == _problem(nearest):
            return ""
        return f"{rows.key} has no completion of {before.problem_id}: this is another problem"

    def open_group(self, group: GroupLine, texts: GroupRows, sample_id: int = 0) -> None:
        """Open a group at a sample."""
        self.group, self.texts = group, texts
        self.completions.replace(group.completions, completion_columns(group.completions))
        if not self.completions.move_to_key((group.key, sample_id)):
            self.completions.move_to(0)

    def mark_found(self, found: set[CompletionKey] | None) -> None:
        """Mark what the search found in the open step; None: nothing is searched for."""
        self.groups.matches = None if found is None else {group_id for group_id, _ in found}
        self.completions.matches = None if found is None else set(found)

    def close_group(self) -> None:
        """Go back to the groups of the step."""
        self.group = self.groups.gap = None

    def neighbour_step(self, here: StepKey, by: int) -> StepKey | None:
        """The next step (1) or the one before (-1) of the same split; None at the ends."""
        same = [key for key in self.keys if key.is_heldout == here.is_heldout]
        if by > 0:
            return min((key for key in same if key > here), default=None)
        return max((key for key in same if key < here), default=None)

    def other_split(self, here: StepKey) -> StepKey | None:
        """The last step of the other split that is not later, or else its first; None without any."""
        others = [key for key in self.keys if key.is_heldout != here.is_heldout]
        return max((key for key in others if key.step <= here.step), default=min(others, default=None))

    @property
    def row(self) -> TraceRow | None:
        """The completion under the cursor; None when none is shown, or the file has lost it."""
        line = self.completions.current
        return None if line is None else self.texts.get(line.key)


def _problem(line: GroupLine) -> tuple[str, str]:
    return line.task, line.problem_id
