"""The panel at the bottom of a terminal: where the run stands, the last step's numbers, one of its completions."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.constrain import Constrain
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from r1.console_numbers import Number, clock
from r1.console_sample import StepSample, sample_lines
from r1.run_history import RECENT

SAMPLE_LINES = 12
"""Its heading included; fewer on a terminal of less than 24 lines."""
FEWEST_SAMPLE_LINES = 5
SCROLLBACK_LINES = 3
"""What the panel leaves of the terminal, so that the last lines of the run can be read above it."""
MAX_WIDTH = 100
"""Text is read easily up to here; and a terminal that is made narrower breaks lines of the panel that are wider than it, which
then stay above."""
NUMBER_COLUMNS = ((76, 3), (50, 2), (0, 1))
"""From so many cells on, so many columns: three take 76 with the widest numbers seen."""


@dataclass
class Panel:
    """What it shows; RunConsole keeps it up to date. A rich renderable: it looks at the terminal's size each time."""

    name: str
    num_steps: int
    step: int = 0
    left: str = ""
    """The time left, from the first step on."""
    doing: str = ""
    """What the run does now, and since when (time.monotonic())."""
    since_s: float = 0.0
    numbers: Sequence[Number] = ()
    seconds: Sequence[Number] = ()
    """The whole step, and its phases."""
    heldout: str = ""
    """The last evaluation, in words."""
    warnings: Sequence[str] = ()
    """Keys of those that hold."""
    is_alarming: bool = False
    """The mismatch is above its bound."""
    sample: StepSample | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, MAX_WIDTH)
        parts: list[RenderableType] = [Rule(Text(self._title()), style="dim", align="left"), self._progress()]
        if self.numbers:
            columns = next(count for cells, count in NUMBER_COLUMNS if width >= cells)
            rows = [*_number_rows(self.numbers, columns, self.is_alarming), _seconds_line(self.seconds)]
            parts += [_cropped(row, width) for row in rows]
        if self.heldout:
            parts.append(_cropped(Text.assemble(("held-out ", "dim"), self.heldout), width))
        if self.warnings:
            parts.append(_cropped(Text(f"warnings {', '.join(self.warnings)}: docs/tuning.md", style="yellow"), width))
        room = min(SAMPLE_LINES, options.size.height - SCROLLBACK_LINES - len(parts))  # each part is a line
        if self.sample and room >= FEWEST_SAMPLE_LINES:
            heading = f"step {self.sample.step}: {self.sample.chosen}  ({self.sample.place})"
            parts += [Rule(Text(heading), style="dim", align="left"), *sample_lines(self.sample, console, width, room - 1)]
        yield Constrain(Group(*parts), width)

    def _title(self) -> str:
        against = f" (+- against the {RECENT} steps before)" if self.step > 1 else ""
        return f"{self.name}, after step {self.step}{against}" if self.step else self.name

    def _progress(self) -> Table:
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True, overflow="crop")
        grid.add_column(no_wrap=True, overflow="crop", style="dim")
        passed = f"{self.doing} {clock(time.monotonic() - self.since_s)}" if self.doing else ""
        counted = f"{self.step}/{self.num_steps}{f'  left {self.left}' if self.left else ''}"
        grid.add_row(ProgressBar(total=self.num_steps, completed=self.step), counted, passed)
        return grid


def _number_rows(numbers: Sequence[Number], num_columns: int, is_alarming: bool) -> list[Text]:
    """Down the columns: what belongs together stands together. No table: they took half of the time of a frame."""
    num_rows = -(-len(numbers) // num_columns)
    rows = [Text() for _ in range(num_rows)]
    for start in range(0, len(numbers), num_rows):
        column = numbers[start : start + num_rows]
        label_width, text_width, change_width = (
            max(len(getattr(number, name)) for number in column) for name in ("label", "text", "change")
        )
        for row, number in zip(rows, column, strict=False):
            is_red = is_alarming and number.label == "mismatch"
            row.append(f"{number.label:<{label_width}} ", "dim")
            row.append(f"{number.text:>{text_width}}", "bold red" if is_red else "bold")
            row.append(f" {number.change:>{change_width}}  ", "dim")
    return rows


def _seconds_line(seconds: Sequence[Number]) -> Text:
    total, *phases = [Text.assemble((f"{number.label} ", "dim"), number.text.removesuffix("s")) for number in seconds]
    return Text(": ").join([total, Text(", ").join(phases)])


def _cropped(text: Text, width: int) -> Text:
    text.rstrip()
    text.truncate(width, overflow="crop")
    return text
