"""Runs reward functions in child processes that can be killed, and turns their values into scores.

A thread that runs a slow comparison cannot be stopped, a process can. So each completion is judged in one of a few
persistent children (`r1.scoring_child`); a child that misses the deadline or dies is replaced.
"""

import json
import math
import selectors
import signal
import subprocess
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from r1.config import ScoringConfig
from r1.errors import ScoringError, UserError
from r1.scoring_process import START_LIMIT_S, Child, Job
from r1.scoring_rules import Rewarding, check_scores, weighted_sum, with_context
from r1.types import RolloutGroup, Score
from rewards import REWARDS

MAX_ATTEMPTS = 2
"""How often a completion is tried whose child crashed under it: once more may be bad luck, twice is its own doing."""
MAX_ATTEMPTS_WHEN_KILLED = 6
"""The same when the child was killed from outside, which tells nothing of the completion; it ends, since the kernel
also kills whoever takes too much memory."""
MAX_START_DEATHS = 50
"""Children in a row that may be killed before any of them was ready. The run stops then: something kills them all."""


def _kill_all(children: list[Child]) -> None:
    while children:
        children.pop().kill()


class RewardPool:
    """Scores completions with weighted reward functions in child processes.

    rewards: a name in rewards.REWARDS, or path/to/file.py:function -> its weight.
    correctness: the one of them that counts only where `reasoning_format`, if that is among them, is not 0.0;
        None, or `config.format_gates_accuracy` off: all of them count always.
    by_task: the same two for the tasks of a mixture, by name; a completion of another task gets `rewards`.
    max_completion_tokens: what rewards find as `max_tokens`; None where the limit is not known.

        with RewardPool({"math_answer": 1.0, "reasoning_format": 0.1}, config.scoring) as pool:
            scores_per_group = pool.score(groups)
    """

    def __init__(
        self,
        rewards: Mapping[str, float],
        config: ScoringConfig,
        *,
        correctness: str | None = None,
        by_task: Mapping[str, Rewarding] | None = None,
        max_completion_tokens: int | None = None,
        num_children: int = 2,
    ) -> None:
        self._default = Rewarding(weights=dict(rewards), correctness=correctness)
        self._by_task = dict(by_task or {})
        self._names = list(dict.fromkeys(name for one in (self._default, *self._by_task.values()) for name in one.weights))
        """What each child loads."""
        unknown = [name for name in self._names if ":" not in name and name not in REWARDS]
        if unknown or not rewards:
            wrong = f"no reward function {', '.join(map(repr, unknown))}" if unknown else "none given"
            raise UserError(f"rewards: {wrong}; choose from {', '.join(REWARDS)}, or give path/to/file.py:function")
        if correctness is not None and correctness not in rewards:
            raise UserError(f"correctness: {correctness!r} is not one of the rewards; choose from {', '.join(rewards)}")
        self.num_errors: Counter[str] = Counter()
        """Reward name -> failures of any kind, timeouts included, in the life of the pool."""
        self.num_timeouts: Counter[str] = Counter()
        self.num_restarts = 0
        self._config = config
        self._num_children = num_children
        self._max_completion_tokens = max_completion_tokens
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._children: list[Child] = []
        self._num_start_deaths = 0
        # Also runs when the pool is garbage and at the interpreter's exit.
        self._kill_children = weakref.finalize(self, _kill_all, self._children)
        self._work(deque(), lambda: all(child.is_ready for child in self._children))

    def score(self, groups: Sequence[RolloutGroup]) -> list[tuple[Score, ...]]:
        """Return [P][G] the scores of a step's completions; raise ScoringError when too many of them failed."""
        scores = self.judge(groups)
        check_scores(groups, scores)
        return scores

    def judge(self, groups: Sequence[RolloutGroup]) -> list[tuple[Score, ...]]:
        """Return [P][G] the scores of some completions, whatever the share of failures."""
        scores = self._score(
            [
                self._job(
                    group.prompt.prefill + completion.text,
                    with_context(
                        group.prompt.problem.reference,
                        answer_form=group.prompt.answer_form,
                        num_tokens=len(completion.token_ids),
                        max_tokens=self._max_completion_tokens,
                        finish_reason=completion.finish_reason,
                        question=group.prompt.problem.question,
                    ),
                    self._by_task.get(group.prompt.task, self._default),
                )
                for group in groups
                for completion in group.completions
            ]
        )
        remaining = iter(scores)
        return [tuple(islice(remaining, len(group.completions))) for group in groups]

    def score_texts(self, items: Sequence[tuple[str, Mapping[str, Any]]], tasks: Sequence[str] = ()) -> list[Score]:
        """Return one score for each (prefill + completion, reference), in order, whatever the share of failures.

        tasks: of each item, where there are several.
        """
        rewardings = [self._by_task.get(task, self._default) for task in tasks] or [self._default] * len(items)
        return self._score([self._job(*item, rewarding) for item, rewarding in zip(items, rewardings, strict=True)])

    def _job(self, text: str, reference: Mapping[str, Any], rewarding: Rewarding) -> Job:
        places = [self._names.index(name) for name in rewarding.weights]
        return Job(request=json.dumps([text, dict(reference), places]).encode() + b"\n", rewarding=rewarding)

    def _score(self, jobs: list[Job]) -> list[Score]:
        waiting = deque(jobs)
        with self._lock:
            self._work(waiting, lambda: not waiting and all(child.job is None for child in self._children))
            return [self._to_score(job) for job in jobs]

    def close(self) -> None:
        """Kill the children; the pool cannot be used afterwards."""
        with self._lock:
            self._kill_children()
            self._selector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _work(self, waiting: deque[Job], is_done: Callable[[], bool]) -> None:
        """Hand jobs out and take answers in until `is_done`; consumes `waiting`."""
        if not self._kill_children.alive:
            raise ValueError("this RewardPool is closed; open another one")
        try:
            while len(self._children) < self._num_children:
                self._spawn()
            while not is_done():
                self._hand_out(waiting)
                self._wait_once(waiting)
        except BaseException:
            # Ctrl-C, say, which may strike between a child's answer and its note. Start afresh: the next call shall not
            # wait for this call's completions.
            while self._children:
                self._discard(self._children[0])
            raise

    def _hand_out(self, waiting: deque[Job]) -> None:
        for child in list(self._children):
            if waiting and child.is_ready and child.job is None:
                child.start(waiting.popleft(), self._config.deadline_s)
                self._send(child, waiting)

    def _wait_once(self, waiting: deque[Job]) -> None:
        """Wait for bytes from any child or for the next deadline; unblocked by whichever comes first."""
        # Taken before looking at the sockets: an answer that came in time is read before its child is called late,
        # even when this process was itself held up.
        now = time.monotonic()
        next_deadline = min(child.kill_at for child in self._children)
        assert next_deadline < math.inf, "with nothing under way no byte would ever come"
        for key, events in self._selector.select(max(0.0, next_deadline - now)):
            if events & selectors.EVENT_READ:
                self._receive(key.data, waiting)
            elif events & selectors.EVENT_WRITE:
                self._send(key.data, waiting)
        for child in [child for child in self._children if child.kill_at <= now]:
            self._replace_late(child, waiting)

    def _send(self, child: Child, waiting: deque[Job]) -> None:
        try:
            child.send()
        except ConnectionError:
            self._replace_dead(child, waiting)
            return
        # A long completion does not fit into the socket at once: the rest follows when there is room.
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.unsent else 0)
        self._selector.modify(child.socket, events, child)

    def _receive(self, child: Child, waiting: deque[Job]) -> None:
        try:
            messages = child.receive()
        except ConnectionError:
            self._replace_dead(child, waiting)
            return
        for message in messages:
            self._take(child, message)

    def _take(self, child: Child, message: Any) -> None:
        if child.job is not None:
            child.job.parts.append(message)
            if len(child.job.parts) == len(child.job.rewarding.weights):
                child.rest()
        elif "error" in message:
            raise UserError(message["error"])
        else:
            child.is_ready = True
            self._num_start_deaths = 0
            child.rest()

    def _replace_late(self, child: Child, waiting: deque[Job]) -> None:
        was_stopped = child.is_stopped()
        self._discard(child)
        if child.job is None and was_stopped and self._num_start_deaths < MAX_START_DEATHS:
            self._num_start_deaths += 1
        elif child.job is None:
            raise ScoringError(f"a scoring child was not ready {START_LIMIT_S:g} s after its start; is the machine overloaded?")
        elif was_stopped and child.job.attempts < MAX_ATTEMPTS_WHEN_KILLED:
            waiting.appendleft(child.job)
        else:
            child.job.timed_out = self._current_reward(child.job)
            self.num_timeouts[child.job.timed_out] += 1
            child.job.parts.append((None, f"timed out after {self._config.deadline_s} s"))
        self.num_restarts += 1
        self._spawn()

    def _replace_dead(self, child: Child, waiting: deque[Job]) -> None:
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(1.0)  # it has closed its socket: let it end in its own way, to know how
        ending = self._discard(child)
        was_killed = child.process.returncode == -signal.SIGKILL
        if not child.is_ready:
            self._num_start_deaths += 1
            if not was_killed or self._num_start_deaths > MAX_START_DEATHS:
                raise ScoringError(f"a scoring child ended before it was ready ({ending}); see its own message on stderr")
        if child.job is not None and child.job.attempts < (MAX_ATTEMPTS_WHEN_KILLED if was_killed else MAX_ATTEMPTS):
            waiting.appendleft(child.job)
        elif child.job is not None:
            child.job.parts.append((None, f"its process died {child.job.attempts} times ({ending})"))
        self.num_restarts += 1
        self._spawn()

    def _spawn(self) -> None:
        child = Child([_absolute(name) for name in self._names], self._config)
        self._children.append(child)
        self._selector.register(child.socket, selectors.EVENT_READ, child)

    def _discard(self, child: Child) -> str:
        self._children.remove(child)
        self._selector.unregister(child.socket)
        return child.kill()

    def _current_reward(self, job: Job) -> str:
        return list(job.rewarding.weights)[len(job.parts)]

    def _to_score(self, job: Job) -> Score:
        # After a timeout or a death the reward functions behind the failed one have no part: they are None as well.
        weights = job.rewarding.weights
        parts = dict(zip(weights, job.parts, strict=False))
        breakdown = {name: parts[name][0] if name in parts else None for name in weights}
        errors = {name: error for name, (_, error) in parts.items() if error is not None}
        self.num_errors.update(errors.keys())
        return Score(
            reward=weighted_sum(breakdown, weights, job.rewarding.correctness if self._config.format_gates_accuracy else None),
            breakdown=breakdown,
            error=next((f"{name}: {error}" for name, error in errors.items()), None),
            failures={name: "timeout" if name == job.timed_out else "error" for name in errors},
            score_s=job.ended_s - job.started_s,
        )


def _absolute(name: str) -> str:
    """Anchor the path of a path/to/file.py:function, since children also start after a change of folder."""
    path, colon, function = name.rpartition(":")
    return f"{Path(path).resolve()}:{function}" if colon else name
