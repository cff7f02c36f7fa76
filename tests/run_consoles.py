"""Consoles that write into memory: a pipe, and a terminal whose panel can be read."""

import io
import re
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from run_records import Event, run_config
from scored_groups import scored_group

from r1.console import RunConsole
from r1.run_output import RunOutput
from r1.types import ScoredGroup

CSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What colours text and moves the cursor."""


def plain(num_steps: int = 60, events: Sequence[Event] = ()) -> tuple[RunConsole, io.StringIO]:
    """A console that writes to a pipe."""
    written = io.StringIO()
    return RunConsole(run_config(num_steps), RunOutput(Console(file=written, width=80)), events), written


def terminal(width: int = 80, height: int = 24, events: Sequence[Event] = ()) -> tuple[RunConsole, io.StringIO]:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=width, height=height, _environ={"TERM": "xterm"})
    return RunConsole(run_config(), RunOutput(console), events), written


def panel(written: io.StringIO) -> list[str]:
    """The lines of the panel as it was drawn last, without colours."""
    frame = written.getvalue().rpartition("\r" + "\x1b[2K")[2]
    return [line.rstrip() for line in CSI.sub("", frame).splitlines()]


def groups_of(*texts: str, rewards: tuple[float | None, ...] | None = None, **fields: Any) -> list[ScoredGroup]:
    """A step of a single group."""
    return [scored_group(texts, rewards or (0.0,) * len(texts), **fields)]
