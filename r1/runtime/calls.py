"""Calls to Ray actors with a deadline, whose errors say who did not answer, in which phase, at which version."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from r1.errors import RunError, UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """An actor and what people call it."""

    name: str
    """e.g. "rollout worker 0"."""
    handle: Any


def call(
    workers: Sequence[Worker], method: str, *args: Any, phase: str, deadline_s: float, about: str = "", **kwargs: Any
) -> list[Any]:
    """Call a method on all workers at once and return their results in order.

    Waits until every worker has answered or `deadline_s` has passed. A worker that dies, is late, or raises
    something unexpected ends in a `RunError`; r1's own errors are passed on as they are.
    about: what was going on, for the message, e.g. "step 12, policy version 11".
    """
    start = time.monotonic()
    pending = [(worker, getattr(worker.handle, method).remote(*args, **kwargs)) for worker in workers]
    results = []
    for worker, reference in pending:
        where = f"{worker.name}, phase {phase}" + (f", {about}" if about else "")
        try:
            results.append(ray.get(reference, timeout=max(0.0, deadline_s - (time.monotonic() - start))))
        except GetTimeoutError as error:
            raise RunError(f"{where}: no answer within the deadline of {deadline_s:.0f} s") from error
        except RayActorError as error:
            raise RunError(f"{where}: the worker died after {time.monotonic() - start:.1f} s ({_first_line(error)})") from error
        except RayTaskError as error:
            if isinstance(error.cause, (RunError, UserError)):
                raise type(error.cause)(f"{where}: {error.cause}") from error
            raise RunError(f"{where}: {type(error.cause).__name__}: {error.cause}") from error
    return results


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
