"""The trackers of a run: all get what metrics.jsonl gets, and none of them can end the training."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from r1.config import RunConfig
from r1.errors import UserError
from r1.faults import FaultLog
from r1.tracker_backends import TRACKERS, Tracker, in_one_line

Record = Sequence[tuple[int, Mapping[str, float]]]
"""(step, scalars by name) of each event so far, in order."""


class Trackers:
    """The trackers of a run. One that fails under way is switched off: the training is worth more than its copy of the curves."""

    def __init__(self, run_dir: Path, config: RunConfig, faults: FaultLog) -> None:
        self._faults = faults
        names = dict.fromkeys(config.logging.trackers)  # one that is given twice counts once
        self._trackers = {name: TRACKERS[name](run_dir, config) for name in names}

    def start(self, record: Record) -> None:
        """Open all of them; raises `UserError`: who asks for a tracker wants to hear at once that there is none."""
        for name, tracker in self._trackers.items():
            try:
                _begin(tracker, record)
            except Exception as error:
                for begun in self._trackers.values():
                    _close_quietly(begun)
                raise UserError(
                    f"option 'logging.trackers': {name!r} cannot start: {in_one_line(error)}; mend that or leave {name!r} out"
                ) from error

    def rewind(self, record: Record) -> None:
        """The run went back to the end of `record`."""
        self._each("going back", lambda tracker: _begin(tracker, record))

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        self._each(f"logging step {step}", lambda tracker: _log(tracker, step, scalars))

    def close(self, failed: bool = False) -> None:
        self._each("closing", lambda tracker: tracker.close(failed))
        self._trackers.clear()

    def _each(self, what: str, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            # Everything: a network that is gone, a server's refusal, a full disk, a package's own bug. None is the training's.
            except Exception as error:  # noqa: BLE001
                del self._trackers[name]
                _close_quietly(tracker)
                self._faults.add(
                    "tracker",
                    f"tracker {name} failed when {what}: {type(error).__name__}: {in_one_line(error)}; it is switched off, and "
                    "the run goes on: metrics.jsonl has all",
                )


def _begin(tracker: Tracker, record: Record) -> None:
    wanted = tracker.begin()
    if wanted is None:
        return
    for step, scalars in record:
        if step >= wanted:
            tracker.log(step, scalars)
    tracker.flush()


def _log(tracker: Tracker, step: int, scalars: Mapping[str, float]) -> None:
    tracker.log(step, scalars)
    tracker.flush()


def _close_quietly(tracker: Tracker) -> None:
    """End its threads and its files. It has failed already, so that whatever it raises now is known."""
    with contextlib.suppress(Exception):
        tracker.close(failed=True)
