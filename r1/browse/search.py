"""The `/` key: looks for a regular expression in questions and completions, in a thread."""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.worker import get_current_worker

from r1.browse.lines import CompletionKey, StepKey
from r1.browse.listing import Listing
from r1.errors import UserError

if TYPE_CHECKING:
    from r1.browse.app import Browser

_RUN, _STEP = "search run", "search step"
"""Groups of threads."""


class Search:
    """What is searched for, and where it is being looked for."""

    def __init__(self, browser: "Browser") -> None:
        self._browser = browser
        self.pattern: str | None = None
        """In RE2's syntax; None: nothing is searched for."""

    def stop(self) -> None:
        """End a search that is under way."""
        for worker in self._browser.workers:
            if worker.group in (_RUN, _STEP):
                worker.cancel()

    def in_step(self, *, is_new: bool) -> None:
        """Mark the groups and completions of the open step that match; is_new: and go to the first."""
        browser, position, pattern = self._browser, self._browser.position, self.pattern
        rows = position.rows
        if rows is None or pattern is None:
            position.mark_found(None)
            return

        def show(found: set[CompletionKey]) -> None:
            if position.rows is not rows:
                return
            position.mark_found(found)
            if is_new:
                listing: Listing[Any] = position.groups if position.group is None else position.completions
                listing.move_to_match(1, from_here=True)
                browser.say(f"{len(found):,} completions of this step match; n goes to the next")
            browser.sync()

        browser.read(_STEP, lambda: position.reader.search(rows.key, pattern), show)

    def in_run(self) -> None:
        """Mark the steps with a match, from the one under the cursor on, and go to the first of them."""
        browser, position, pattern = self._browser, self._browser.position, self.pattern
        steps = position.steps
        self.stop()
        steps.matches = None if pattern is None else set()
        if pattern is None:
            return
        # In the order of the list, from the cursor on and around.
        keys = [line.key for line in [*steps.shown[steps.index :], *steps.shown[: steps.index]]]
        matches: set[Hashable] = set()
        steps.matches = matches

        def show(key: StepKey, number: int, is_found: bool) -> None:
            if is_found:
                if not matches:
                    steps.move_to_key(key)
                matches.add(key)
            browser.say(f"searching, {number:,} of {len(keys):,} steps …")
            browser.sync()

        def finish(unreadable: list[str]) -> None:
            left_out = f", {len(unreadable)} could not be read: {unreadable[0]}" if unreadable else ""
            browser.say(f"{len(matches):,} of {len(keys):,} steps have a match{left_out}")
            browser.sync()

        browser.read(_RUN, lambda: self._look(keys, pattern, show), finish)

    def _look(self, keys: Sequence[StepKey], pattern: str, show: Callable[[StepKey, int, bool], None]) -> list[str]:
        """In a thread: search step after step; return what was said of those that could not be read."""
        reader, worker = self._browser.position.reader, get_current_worker()
        unreadable: list[str] = []
        for number, key in enumerate(keys, start=1):
            is_found = False
            try:
                is_found = bool(reader.search(key, pattern))
            except (UserError, OSError) as error:  # one that the run has taken back, say; the others are searched
                unreadable.append(str(error))
            if worker.is_cancelled:
                break
            if is_found or number % 10 == 0:
                self._browser.show_meanwhile(worker, partial(show, key, number, is_found))
        return unreadable
