"""The tasks that a configuration names: looked up, with their rewards, weights and sources."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from r1.config import TaskConfig
from r1.errors import UserError
from r1.prompts import get_template
from r1.scoring_rules import FORMAT_GATE
from rewards import REWARDS
from tasks import TASKS, get_task
from tasks.base import Source, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskPart:
    """A task of the run, and what the configuration says of it."""

    task: Task
    weight: float
    """0: evaluated and not trained on."""
    source: Source
    section: str = "task"
    """Where its options stand: "task", or "task.mix.NAME"."""


def task_parts(options: TaskConfig) -> list[TaskPart]:
    """The run's tasks, task.name first, each with its weight and source."""
    first = TaskPart(
        task=rewarded_as_configured(find_task(options.name), options),
        weight=1.0,
        source=Source(
            path=options.path,
            heldout_path=options.heldout_path,
            question_field=options.question_field,
            answer_field=options.answer_field,
        ),
    )
    if options.name in options.mix:
        raise UserError(f"option 'task.mix': {options.name!r} is task.name already; give its path there, and name others here")
    own_rewards = options.model_copy(update={"rewards": None})
    others = [
        TaskPart(
            task=rewarded_as_configured(find_task(name), own_rewards),
            weight=other.weight,
            source=Source(path=other.path, heldout_path=other.heldout_path)
            if other.weight
            else Source(heldout_path=other.heldout_path or other.path),  # what is only evaluated is evaluated whole
            section=f"task.mix.{name}",
        )
        for name, other in options.mix.items()
    ]
    return [first, *others]


def find_task(name: str) -> Task:
    """Look a task up by NAME or NAME:ARGUMENT; raises `UserError`."""
    known_name("task.name", name.partition(":")[0], TASKS)
    try:
        return get_task(name)
    except ValueError as error:
        raise UserError(str(error)) from error


def rewarded_as_configured(task: Task, options: TaskConfig) -> Task:
    """Return the task with the rewards that the configuration sets, checked, and the one of them that is its correctness.

    A task's own rewards lose `reasoning_format` under a template that does not name <think>: by its 0.0 the format gate would
    close for every completion.

    >>> options = TaskConfig(name="gsm8k", rewards={"math_answer": 1.0, "tag_count": 0.2})
    >>> rewarded_as_configured(TASKS["gsm8k"], options).rewards
    {'math_answer': 1.0, 'tag_count': 0.2}
    >>> rewarded_as_configured(TASKS["gsm8k"], TaskConfig(name="gsm8k", template="boxed_chat")).rewards
    {'math_answer': 1.0}
    >>> list(rewarded_as_configured(TASKS["gsm8k"], TaskConfig(name="gsm8k", template="r1_zero")).rewards)
    ['math_answer', 'reasoning_format']
    """
    if options.rewards is None and not get_template(options.template).asks_for_thinking:
        return replace(task, rewards={name: weight for name, weight in task.rewards.items() if name != FORMAT_GATE})
    rewards = options.rewards or task.rewards
    if not any(rewards.values()):
        raise UserError(
            f"option 'task.rewards': a weight must be other than 0, or nothing can be learnt, got {dict(rewards)}; raise one"
        )
    for name in rewards:
        path, colon, _ = name.rpartition(":")
        if not colon:
            known_name("task.rewards", name, REWARDS)
        elif not Path(path).is_file():
            raise UserError(f"option 'task.rewards': {name!r}: no file {path!r}; give path/to/file.py:function")
    return replace(task, rewards=rewards, correctness=task.correctness if task.correctness in rewards else next(iter(rewards)))


def known_name(option: str, name: str, known: Iterable[str]) -> None:
    """Raise `UserError`, with the nearest right name, unless the name is known."""
    known = list(known)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(known)}"
        raise UserError(f"option {option!r}: no {name!r} here; {remedy}")
