"""One weight sync under way: who is still well, why the others are not, and the calls to both sides, each with a deadline."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from r1.errors import RunError, UserError, WorkerLost
from r1.runtime.calls import Failure, Worker, call, call_each, wait_for
from r1.types import WeightManifest

LAST_WAIT_S = 30.0
"""How long the learner may go on when all engines have answered."""


class SendingLearner(Protocol):
    """What a sync needs of the learner: its ranks, in order; the first one writes and sends."""

    workers: list[Worker]

    @property
    def sendable_version(self) -> int | None:
        """The version that the ranks could send if they were called now; None while they are busy."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Sending:
    """Calls to the learner's ranks that run while the engines are called."""

    calls: Sequence[tuple[Worker, Any]]
    phase: str
    since: float
    """time.monotonic()"""


class SyncRound:
    """The calls of one sync. Errors name worker, phase and version; a worker that failed is called no more."""

    def __init__(
        self,
        workers: Sequence[Worker],
        manifest: WeightManifest,
        *,
        verify: bool,
        deadline_s: float,
        learner: SendingLearner | None = None,
    ) -> None:
        self.workers = list(workers)
        self.manifest = manifest
        self.verify = verify
        self.failed: dict[str, RunError | UserError] = {}
        self._deadline_s = deadline_s
        self._learner = learner
        self._file = manifest if manifest.path or learner is None else None

    def file(self) -> WeightManifest:
        """The published file; learners on GPUs write one only when some engine cannot do without."""
        if self._file is None:
            self._file = self.learner("publish_file", "publish")[0]
            assert self._file.policy_version == self.manifest.policy_version
        return self._file

    @property
    def ranks(self) -> list[Worker]:
        """The learner's, the first one first."""
        assert self._learner is not None, "only a file that is there already can be loaded without a learner"
        return self._learner.workers

    def well(self, workers: Sequence[Worker] | None = None) -> list[Worker]:
        """Those of the workers that have not failed; of all, if none are given."""
        return [worker for worker in (self.workers if workers is None else workers) if worker.name not in self.failed]

    def engines(
        self,
        method: str,
        phase: str,
        *args: Any,
        only: Sequence[Worker] | None = None,
        each: Sequence[Sequence[Any]] | None = None,
    ) -> dict[str, Any]:
        """Call those workers that are well and return name -> result of those that stay well.

        each: arguments of their own; then nobody of `only` may have failed.
        """
        called = self.well(only)
        assert each is None or len(each) == len(called)
        options: dict[str, Any] = {"phase": phase, "deadline_s": self._deadline_s, "about": self._about, "each": each}
        results = dict(zip(called, call_each(called, method, *args, **options), strict=True))
        for worker, result in results.items():
            if isinstance(result, Failure):
                self.fail(worker, result.error)
        return {worker.name: result for worker, result in results.items() if worker.name not in self.failed}

    def fail(self, worker: Worker, error: RunError | UserError) -> None:
        self.failed[worker.name] = error

    def learner(self, method: str, phase: str, *args: Any, first_only: bool = False) -> list[Any]:
        """Call the learner's ranks; a failure of theirs is raised, since no engine can do without them."""
        ranks = self.ranks[:1] if first_only else self.ranks
        return call(ranks, method, *args, phase=phase, deadline_s=self._deadline_s, about=self._about)

    def begin(self, method: str, phase: str, *args: Any) -> Sending:
        """Call all ranks and do not wait: engines are to be called meanwhile."""
        calls = [(rank, getattr(rank.handle, method).remote(*args)) for rank in self.ranks]
        return Sending(calls=calls, phase=phase, since=time.monotonic())

    def end(self, sending: Sending) -> None:
        """Wait for what `begin` called. A rank that hangs because an engine failed is lost, and the error says why."""
        left_s = max(LAST_WAIT_S, self._deadline_s - (time.monotonic() - sending.since))
        for rank, reference in sending.calls:
            result = wait_for(
                reference, rank, phase=sending.phase, about=self._about, deadline_s=LAST_WAIT_S if self.failed else left_s
            )
            if isinstance(result, Failure):
                reasons = "; ".join(str(error) for error in self.failed.values())
                if isinstance(result.error, WorkerLost) and reasons:
                    raise WorkerLost(f"{result.error}, after {reasons}") from result.cause
                raise result.error from result.cause

    @property
    def _about(self) -> str:
        return f"policy version {self.manifest.policy_version}"
