"""Follows a run that is still writing: new steps, and the numbers of all of them, read in threads."""

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual.worker import get_current_worker

from r1.browse.lines import RunLine, StepKey, StepLine, run_columns
from r1.browse.run_folders import find_runs, run_line
from r1.errors import UserError

if TYPE_CHECKING:
    from r1.browse.app import Browser

POLL_S = 2.0
"""Seconds between two looks."""
SHOW_EVERY_S = 0.2
"""Seconds between two looks at the screen, while numbers are read from one trace file after another."""


class Follower:
    """Keeps the list of runs, and that of the steps, as they are on the disk; cursors stay where they are."""

    def __init__(self, browser: "Browser") -> None:
        self._browser = browser
        self._is_polling = False
        self._is_filling = False
        self._recorded_at: object = None
        self._failed: set[StepKey] = set()
        self._warning = ""
        self._is_warm = False

    def poll(self) -> None:
        """Look for what is new, unless a look is under way."""
        if self._is_polling:
            return
        self._is_polling = True
        if self._browser.is_among_runs:
            self._browser.read("poll", self._read_runs, self._show_runs)
        else:
            self._poll_steps()

    def read_anew(self) -> None:
        """Forget what was read of the steps."""
        self._recorded_at = None
        self._failed.clear()
        self._browser.position.known.clear()
        self.poll()

    def _read_runs(self) -> list[RunLine]:
        lines = []
        try:
            for run in find_runs(self._browser.folder):
                try:
                    lines.append(run_line(run))
                except FileNotFoundError:  # removed since its folder was listed
                    continue
        finally:
            self._is_polling = False
        return lines

    def _show_runs(self, lines: list[RunLine]) -> None:
        self._browser.runs.replace(lines, run_columns(lines))
        self._browser.sync()

    def _poll_steps(self) -> None:
        position = self._browser.position
        reader, opened = position.reader, position.rows

        def look() -> tuple[list[StepKey], dict[StepKey, StepLine], str]:
            try:
                keys = reader.step_keys()
                recorded_at = _modified(reader.run / "metrics.jsonl")
                known = {} if recorded_at == self._recorded_at else reader.recorded_lines()
                self._recorded_at = recorded_at
                warning = reader.warning_about(opened) if opened else ""
            finally:
                self._is_polling = False
            return keys, known, warning

        def show(result: tuple[list[StepKey], dict[StepKey, StepLine], str]) -> None:
            keys, known, warning = result
            if position is not self._browser.position:
                return  # another run has been opened
            if keys != position.keys or any(position.known.get(key) != line for key, line in known.items()):
                position.show_steps(keys, known)
                self._browser.sync()
            if warning and warning != self._warning:
                self._browser.fail(warning)
            self._warning = warning
            if not self._is_warm:
                self._is_warm = True
                self._browser.read("warm up", reader.warm_up, lambda _: None)
            self._fill([key for key in keys if key not in position.known and key not in self._failed])

        self._browser.read("poll", look, show)

    def _fill(self, keys: list[StepKey]) -> None:
        """Read the numbers of steps that are not on record from their trace files, the latest first."""
        position = self._browser.position
        if self._is_filling or not keys:
            return
        self._is_filling = True

        def look() -> dict[StepKey, StepLine]:
            worker, known, shown_at = get_current_worker(), dict[StepKey, StepLine](), time.monotonic()
            try:
                for key in reversed(keys):
                    if worker.is_cancelled:
                        break
                    try:
                        known[key] = position.reader.summarized_line(key)
                    except (UserError, OSError):  # damaged, or gone again: its line stays empty, and opening it says why
                        self._failed.add(key)
                    if time.monotonic() - shown_at > SHOW_EVERY_S:
                        self._browser.show_meanwhile(worker, partial(show, known))
                        known, shown_at = {}, time.monotonic()
            finally:
                self._is_filling = False
            return known

        def show(lines: dict[StepKey, StepLine]) -> None:
            if position is self._browser.position:
                # What is on record meanwhile counts more.
                position.show_steps(position.keys, {**lines, **position.known})
                self._browser.sync()

        self._browser.read("fill", look, show)


def _modified(path: Path) -> tuple[int, int] | None:
    """When a file was last written, and its size; None when it is not there."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size
