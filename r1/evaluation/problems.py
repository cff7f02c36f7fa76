"""The problems of an evaluation as prompts, and the chunks in which they are sampled.

How tasks are found and loaded stands in `find_task` and `load_problems`, and nowhere else.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from r1.errors import UserError
from r1.evaluation.settings import EvaluationSettings, TaskSource
from r1.prompt_stream import make_prompt_stream
from r1.prompts import get_template
from r1.scoring_rules import FORMAT_GATE
from r1.seeds import derive_seed
from r1.types import Prompt
from tasks import TASKS
from tasks.base import Problem, Split, Task

ORDER_SEED = 0
"""Problems come in the order in which their task draws them with this seed, whatever the evaluation's own: "the first 200" are
the same ones in each evaluation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskPrompts:
    """A task, ready to be sampled and scored."""

    task: Task
    """With reasoning_format among its rewards, at weight 0 where the task itself has none."""
    format_gates_accuracy: bool
    """Whether its reward is gated as in training; the accuracy of an evaluation never is."""
    prompts: list[Prompt]
    """group_id: the place of the problem in the task, from 0."""
    num_too_long: int
    """Problems that were left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Problems that are sampled together, and written as one trace file; the next chunk begins when all of it is there.

    What is sampled depends on who else is in the batch, in the last bits: so a resumed evaluation must see the same batches.
    """

    number: int
    """From 1 and over all tasks: the step of its trace file."""
    part: str
    """What it is a part of, for people."""
    task: TaskPrompts
    prompts: Sequence[Prompt]
    group_size: int
    seed: int
    """Of its samples, with group_id and sample_id."""


def find_task(name: str) -> Task:
    """Return the task of a name; a wrong one is a `UserError`."""
    if name in TASKS:
        return TASKS[name]
    close = difflib.get_close_matches(name, TASKS, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(TASKS)}"
    raise UserError(f"option '--tasks': no task {name!r}; {remedy}")


def load_problems(task: Task, source: TaskSource, split: Split) -> list[Problem]:
    """Return all problems of a source, in an order that does not depend on the evaluation's seed.

    What is given for the held-out split is held out as a whole, and not divided once more.
    """
    path, heldout_path = source.path, None
    if path is not None and split == "heldout":
        path, heldout_path = f"no training problems beside {path}", path
    try:
        return list(task.load(split, ORDER_SEED, path, heldout_path))
    except (ValueError, OSError) as error:  # what a task says of a bad file or name; a file that may not be read
        raise UserError(f"task {source.name!r}: {error}") from error


def load_prompts(settings: EvaluationSettings, tokenizer: Any) -> list[TaskPrompts]:
    """Load, render and tokenise the problems of each task; a template has to be set."""
    assert settings.template is not None, "the tokenizer says which one"
    loaded = []
    for source in settings.tasks:
        task = find_task(source.name)
        problems = load_problems(task, source, settings.split)[: settings.num_problems]
        stream = make_prompt_stream(
            problems,
            task,
            get_template(settings.template),
            tokenizer,
            max_prompt_tokens=settings.max_prompt_tokens,
            seed=settings.seed,
        )
        prompts = [replace(prompt, group_id=place) for place, prompt in enumerate(stream.prompts)]
        has_format = FORMAT_GATE in task.rewards
        loaded.append(
            TaskPrompts(
                task=task if has_format else replace(task, rewards={**task.rewards, FORMAT_GATE: 0.0}),
                format_gates_accuracy=has_format,
                prompts=prompts,
                num_too_long=stream.num_skipped,
            )
        )
    return loaded


def chunks_of(settings: EvaluationSettings, tasks: Sequence[TaskPrompts]) -> Iterator[Chunk]:
    """Yield the chunks of all tasks, one task after the other: a function of the settings and the problems alone."""
    size = max(1, settings.completions_per_chunk // settings.num_samples)
    number = 0
    for task in tasks:
        seed = derive_seed(settings.seed, "evaluate", task.task.name)
        for start in range(0, len(task.prompts), size):
            number += 1
            yield Chunk(
                number=number,
                part=task.task.name,
                task=task,
                prompts=task.prompts[start : start + size],
                group_size=settings.num_samples,
                seed=seed,
            )
