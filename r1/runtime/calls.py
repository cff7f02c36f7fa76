"""Calls to Ray actors with a deadline, whose errors say who did not answer, in which phase, at which version."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from r1.errors import RunError, UserError

_ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """An actor and what people call it."""

    name: str
    """e.g. "rollout worker 0"."""
    handle: Any


def call(
    workers: Sequence[Worker],
    method: str,
    *args: Any,
    phase: str,
    deadline_s: float,
    about: str = "",
    each: Sequence[Sequence[Any]] | None = None,
) -> list[Any]:
    """Call a method on all workers at once and return their results in order.

    Waits until every worker has answered, the first one fails, or `deadline_s` has passed. A worker that dies, is late, or
    raises something unexpected ends in a `RunError`; r1's own errors keep their class and gain the worker and the phase.
    about: what was going on, for the message, e.g. "step 12, policy version 11".
    each: arguments of their own for each worker, instead of `args`.
    """
    start = time.monotonic()
    arguments = each if each is not None else [args] * len(workers)
    references = [getattr(worker.handle, method).remote(*own) for worker, own in zip(workers, arguments, strict=True)]
    waiting = dict(zip(references, workers, strict=True))
    results: dict[Any, Any] = {}
    while waiting:
        # Whoever is ready first is looked at first: when one rank dies, the others would wait for it in vain.
        left = max(0.0, deadline_s - (time.monotonic() - start))
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=left)
        if not ready:
            late = ", ".join(worker.name for worker in waiting.values())
            raise RunError(f"{_where(late, phase, about)}: no answer within the deadline of {deadline_s:.0f} s")
        worker = waiting.pop(ready[0])
        results[ready[0]] = _result(ready[0], worker, phase, about, start)
    return [results[reference] for reference in references]


def _result(reference: Any, worker: Worker, phase: str, about: str, start: float) -> Any:
    where = _where(worker.name, phase, about)
    try:
        return ray.get(reference)
    except RayActorError as error:
        if getattr(error, "actor_init_failed", False):
            raise _start_error(worker, error) from error
        raise RunError(f"{where}: the worker died after {time.monotonic() - start:.1f} s ({_first_line(error)})") from error
    except RayTaskError as error:
        if isinstance(error.cause, (RunError, UserError)):
            # They name step and version themselves.
            raise type(error.cause)(f"{worker.name}, phase {phase}: {error.cause}") from error
        raise RunError(f"{where}: {type(error.cause).__name__}: {error.cause}") from error


def _where(name: str, phase: str, about: str) -> str:
    return f"{name}, phase {phase}" + (f", {about}" if about else "")


def _start_error(worker: Worker, error: RayActorError) -> RunError | UserError:
    """What the actor's __init__ raised: the last line of the traceback that Ray hands on as text."""
    kind, _, message = _plain_lines(error)[-1].partition(": ")
    if kind == f"{UserError.__module__}.{UserError.__qualname__}":
        return UserError(message)
    return RunError(f"{worker.name}, phase start: {kind}: {message}")


def _plain_lines(error: Exception) -> list[str]:
    """The lines of a message that say something, without Ray's colours."""
    return [line.strip() for line in _ANSI_COLOUR.sub("", str(error)).splitlines() if line.strip()] or [type(error).__name__]


def _first_line(error: Exception) -> str:
    return _plain_lines(error)[0]
