"""How a run is asked to end: Ctrl-C, or SIGTERM from `ray job stop`, Slurm or Kubernetes.

The first signal is a request: what is being sampled is dropped at once, a step that is being learnt from is finished, and the
loop saves its last step. A second Ctrl-C ends the run where it stands, as does the first while a run starts up. SIGTERM again
is the same request: of one `kubectl delete` Ray's job server sends the first, and the pod's own hook another.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

_HELD = b"stopping: what is under way is finished, and the last step saved; Ctrl-C (once more) ends the run at once\n"


class Stopped(KeyboardInterrupt):
    """A signal has ended the run."""

    def __init__(self, signal_number: int, step: int | None = None) -> None:
        super().__init__(f"{signal.Signals(signal_number).name}, {_ending(step)}")
        self.signal_number = signal_number
        self.step = step
        """The last step, which has a checkpoint; 0 if there was none to save, None if the run ended at once, unsaved."""
        self.run: str | None = None
        """The folder or URL in which to go on; None while there is nothing."""


class Stop:
    """Whether a run has been asked to end, and whether that has to wait.

    Python runs a signal's handler between two instructions of the main thread, wherever that is: so it raises where all may
    be dropped, and only takes a note elsewhere.
    """

    def __init__(self) -> None:
        self._signals: list[int] = []
        self._is_held = False

    def receive(self, signal_number: int, frame: FrameType | None = None) -> None:
        """Handle a signal."""
        if self._signals and {*self._signals, signal_number} == {signal.SIGTERM}:
            return
        self._signals.append(signal_number)
        if self._is_held and self.is_graceful:
            with contextlib.suppress(OSError):  # nobody reads any more
                os.write(2, _HELD)  # print() may be what the signal came into
            return
        raise KeyboardInterrupt

    @property
    def is_asked_for(self) -> bool:
        return bool(self._signals)

    @property
    def is_graceful(self) -> bool:
        """Whether the run was asked to end, and not yet to hurry."""
        return len(self._signals) == 1

    def stopped(self, step: int | None = None) -> Stopped:
        return Stopped(self._signals[0], step)

    def check(self) -> None:
        """End here if that was asked for."""
        if self.is_asked_for:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let the block finish what it does; it calls `check`."""
        with self._holding(True):
            yield

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside of `held`: a block that may be dropped at any point."""
        with self._holding(False):
            self.check()
            yield
            # Python loses what a handler raises in a destructor or a callback; it has taken its note there too.
            self.check()

    @contextlib.contextmanager
    def _holding(self, value: bool) -> Iterator[None]:
        before, self._is_held = self._is_held, value
        try:
            yield
        finally:
            self._is_held = before


@contextlib.contextmanager
def stopped_by_signals(stop: Stop) -> Iterator[None]:
    """Send Ctrl-C and SIGTERM to `stop`; what they end ends with `Stopped`."""
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a shell's `command &` is not meant by its Ctrl-C
        numbers.append(signal.SIGINT)
    previous = {number: signal.signal(number, stop.receive) for number in numbers}
    try:
        yield
    except Stopped:
        raise
    except KeyboardInterrupt as interrupt:  # Ray raises one of its own in place of the handler's
        if not stop.is_asked_for:
            raise
        raise stop.stopped() from interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _ending(step: int | None) -> str:
    if step is None:
        return "ended at once"
    return f"stopped after step {step}" if step else "stopped before the first step was done"
