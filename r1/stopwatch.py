"""Where a step's time goes."""

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Wall seconds by phase.

    >>> clock = Stopwatch()
    >>> with clock("sample"):
    ...     pass
    >>> list(clock.seconds)
    ['sample']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start
