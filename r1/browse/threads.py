"""The part of the app that reads in threads, so that no key ever waits for a file."""

from collections.abc import Callable
from typing import Any, TypeVar

from textual.app import App
from textual.message import Message
from textual.worker import Worker, get_current_worker

from r1.browse.screen import BrowseScreen
from r1.errors import UserError

Result = TypeVar("Result")


class Finished(Message):
    """A thread has read something: `then` shows it, in the app's own thread."""

    def __init__(self, worker: Worker[Any], then: Callable[[], None]) -> None:
        super().__init__()
        self.worker, self.then = worker, then


class ReadingApp(App[None]):
    """Runs reads in threads, and shows what they bring on the screen of that moment."""

    def read(self, group: str, read: Callable[[], Result], then: Callable[[Result], None]) -> None:
        """Call read() in a thread and then(its result) here; a later call of the same group takes its place."""

        def work() -> None:
            worker = get_current_worker()
            try:
                result = read()
            except (UserError, OSError) as error:  # a file that is gone or damaged: the lists are right without it
                message = str(error)
                self.post_message(Finished(worker, lambda: self.fail(message)))
            else:
                self.post_message(Finished(worker, lambda: then(result)))

        self.run_worker(work, group=group, exclusive=True, thread=True)

    def show_meanwhile(self, worker: Worker[Any], then: Callable[[], None]) -> None:
        """From a thread that goes on: show what it has so far."""
        self.post_message(Finished(worker, then))

    def on_finished(self, message: Finished) -> None:
        """Show what was read, unless something else has been asked for meanwhile."""
        if not message.worker.is_cancelled:
            message.then()

    def say(self, text: str) -> None:
        """Write the status line."""
        if isinstance(self.screen, BrowseScreen):
            self.screen.say(text)

    def fail(self, text: str) -> None:
        """Write to the status line what did not work."""
        if isinstance(self.screen, BrowseScreen):
            self.screen.fail(text)

    def sync(self) -> None:
        """Show the position as it is now."""
        if isinstance(self.screen, BrowseScreen):
            self.screen.sync()
