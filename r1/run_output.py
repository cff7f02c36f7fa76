"""Where the lines of a run go: the one place that writes to the display, and that can do without it.

A training that has cost days does not end since nobody can be told of it: a full disk behind `> log`, a reader that is gone
(`| head`), a terminal that was closed.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from typing import IO, Any, cast

from rich.console import Console, RenderableType
from rich.text import Text

from r1.cli.printing import printable_line
from r1.faults import FaultLog


class RunOutput:
    """Writes lines and tables; once that has failed it is silent, and the fault log has one line on it."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.faults = FaultLog(lambda text: self.say(text, style="yellow"))
        """The run's faults, each of which is said here."""
        self.is_gone = False
        """Whether writing has failed."""
        file = console.file
        # What an encoding such as ASCII lacks is shown as its code: a reward file's name is no reason to end a run.
        if isinstance(file, TextIOWrapper) and file.errors == "strict":
            file.reconfigure(errors="backslashreplace")
        # Below rich, since it writes from a thread of its own as well, and answers a pipe without a reader by SystemExit.
        console.file = cast("IO[str]", _GuardedFile(file, self._lose))

    def say(self, text: str, style: str = "", soft_wrap: bool = True) -> None:
        """Write one line, whatever the text has in it: names, paths and errors may hold anything."""
        self.print(Text(printable_line(text), style=style), soft_wrap=soft_wrap)

    def print(self, what: RenderableType, soft_wrap: bool = False) -> None:
        """Write a line or a table that has been made printable."""
        self.console.print(what, soft_wrap=soft_wrap)

    def _lose(self, error: Exception) -> None:
        if self.is_gone:
            return
        self.is_gone = True
        self.console.quiet = True
        reason = f"{type(error).__name__}: {error}"
        self.faults.add("display", f"the display cannot be written to ({reason}): the run goes on, metrics.jsonl has all")


class _GuardedFile:
    """A file whose failure to be written to is told to `lose`, once; then it takes everything and keeps nothing."""

    def __init__(self, file: IO[str], lose: Callable[[Exception], None]) -> None:
        self._file, self._lose, self._is_lost = file, lose, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        self._try(lambda: self._file.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._file.flush)

    def _try(self, call: Callable[[], object]) -> None:
        if self._is_lost:
            return
        try:
            call()
        # No space (28), no reader of the pipe (32), no terminal any more (5); or a file that was closed.
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError) and not self._file.closed:
                raise
            self._is_lost = True
            if self._file in (sys.stdout, sys.__stdout__):
                _drop_unwritten(self._file)
            self._lose(error)


def _drop_unwritten(file: IO[str]) -> None:
    """Send what Python still holds to nowhere: flushed at the end it would fail again, and turn exit code 0 into 120."""
    with suppress(OSError, ValueError):  # one without a descriptor, or that is closed, holds nothing
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, file.fileno())
        os.close(nowhere)
