"""Calls to Ray actors with a deadline, whose errors say who did not answer, in which phase, at which version."""

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from r1.errors import RunError, UserError, WorkerLost
from r1.runtime.whereabouts import NOWHERE, Whereabouts
from r1.weight_transport import Place

TICK_S = 0.2
"""How often whatever runs beside a call is looked after."""

LAST_WORDS_S = 5.0
"""How long the others are heard when one has failed: where several compute together, the death of one makes the rest fail."""

_ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """An actor and what people call it."""

    name: str
    """e.g. "rollout worker 0"."""
    handle: Any
    at: Whereabouts = NOWHERE
    """Where its process is, once it is known."""

    @property
    def place(self) -> Place:
        return self.at.place


class Background(Protocol):
    """Work that goes on while the driver waits for something else."""

    def references(self) -> Sequence[Any]:
        """What it waits for itself."""
        ...

    def attend(self, ready: Sequence[Any]) -> None:
        """Called with those of its references that are ready, at least every `TICK_S`."""
        ...


def call(
    workers: Sequence[Worker],
    method: str,
    *args: Any,
    phase: str,
    deadline_s: float,
    about: str = "",
    each: Sequence[Sequence[Any]] | None = None,
    beside: Background | None = None,
) -> list[Any]:
    """Call a method on all workers at once and return their results in order.

    Waits until every worker has answered, the first one fails, or `deadline_s` has passed. A worker that dies, is late, or
    raises something unexpected ends in a `RunError`; r1's own errors keep their class and gain the worker and the phase.
    about: what was going on, for the message, e.g. "step 12, policy version 11".
    each: arguments of their own for each worker, instead of `args`.
    beside: what shall go on meanwhile.
    """
    results: dict[str, Any] = {}
    waiting = _begin(workers, method, args, each)
    for worker, result in _wait_for_all(waiting, phase, deadline_s, about, beside):
        if isinstance(result, Failure):
            reason = _reason(result, waiting, phase, about)
            raise reason.error from reason.cause
        results[worker.name] = result
    return [results[worker.name] for worker in workers]


def call_each(
    workers: Sequence[Worker],
    method: str,
    *args: Any,
    phase: str,
    deadline_s: float,
    about: str = "",
    each: Sequence[Sequence[Any]] | None = None,
) -> list["Any | Failure"]:
    """As `call`, but wait for all of them: a worker that fails has a `Failure` in the place of its result."""
    waiting = _begin(workers, method, args, each)
    results = {worker.name: result for worker, result in _wait_for_all(waiting, phase, deadline_s, about, None)}
    return [results[worker.name] for worker in workers]


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a call has no result."""

    error: RunError | UserError
    """In r1's words."""
    cause: Exception | None = None
    """In Ray's."""


def _begin(
    workers: Sequence[Worker], method: str, args: Sequence[Any], each: Sequence[Sequence[Any]] | None
) -> dict[Any, Worker]:
    arguments = each if each is not None else [args] * len(workers)
    return {getattr(worker.handle, method).remote(*own): worker for worker, own in zip(workers, arguments, strict=True)}


def _reason(first: Failure, waiting: dict[Any, Worker], phase: str, about: str) -> Failure:
    """The death of another worker, if that is why the first one failed."""
    if not isinstance(first.error, WorkerLost):
        for _, result in _wait_for_all(waiting, phase, LAST_WORDS_S, about, None):
            if isinstance(result, Failure) and isinstance(result.error, WorkerLost) and result.cause is not None:
                return result
    return first


def _wait_for_all(
    waiting: dict[Any, Worker], phase: str, deadline_s: float, about: str, beside: Background | None
) -> Iterator[tuple[Worker, Any]]:
    """Yield (worker, result or Failure), whoever answers first; those that are late come last."""
    start = time.monotonic()
    while waiting:
        # Whoever is ready first is looked at first: when one rank dies, the others would wait for it in vain.
        left = max(0.0, deadline_s - (time.monotonic() - start))
        others = list(beside.references()) if beside else []
        ready, _ = ray.wait([*waiting, *others], num_returns=1, timeout=min(left, TICK_S) if beside else left)
        if beside:
            beside.attend([reference for reference in ready if reference not in waiting])
        for reference in ready:
            if reference in waiting:
                worker = waiting.pop(reference)
                yield worker, result_of(reference, worker, phase, about, start)
        if not ready and (beside is None or time.monotonic() - start >= deadline_s):
            late = ", ".join(worker.name for worker in waiting.values())
            error = WorkerLost(f"{where(late, phase, about)}: no answer within the deadline of {deadline_s:.0f} s")
            for worker in waiting.values():
                yield worker, Failure(error=error)
            return


def wait_for(
    reference: Any, worker: Worker, *, phase: str, deadline_s: float, about: str = "", beside: Background | None = None
) -> Any:
    """Wait for one call that was made before: its result, or a `Failure`."""
    [(_, result)] = _wait_for_all({reference: worker}, phase, deadline_s, about, beside)
    return result


def result_of(reference: Any, worker: Worker, phase: str, about: str, start: float) -> Any:
    """What a call that is ready returned, or a `Failure`. start: of the call, time.monotonic()."""
    here = where(worker.name, phase, about)
    try:
        return ray.get(reference)
    except RayActorError as error:
        if getattr(error, "actor_init_failed", False):
            return Failure(error=_start_error(worker, error), cause=error)
        passed_s = time.monotonic() - start
        return Failure(error=WorkerLost(f"{here}: the worker died after {passed_s:.1f} s ({_first_line(error)})"), cause=error)
    except RayTaskError as error:
        if isinstance(error.cause, (RunError, UserError)):
            # They name step and version themselves.
            return Failure(error=type(error.cause)(f"{worker.name}, phase {phase}: {error.cause}"), cause=error)
        return Failure(error=RunError(f"{here}: {type(error.cause).__name__}: {error.cause}"), cause=error)
    except RayError as error:  # killed for want of memory, or the node with the answer is gone
        answer = f"the answer is lost ({type(error).__name__}: {_first_line(error)})"
        return Failure(error=WorkerLost(f"{here}: {answer}"), cause=error)


def where(name: str, phase: str, about: str) -> str:
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
