"""The problems of an evaluation as prompts, and the chunks in which they are sampled."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from r1.config import TaskConfig
from r1.errors import UserError
from r1.evaluation.settings import EvaluationSettings
from r1.problem_sets import load_examples, load_split
from r1.prompt_stream import make_prompt_stream, worked_examples
from r1.prompts import Template, get_template
from r1.scoring_rules import FORMAT_GATE
from r1.seeds import derive_seed
from r1.task_options import find_task, rewarded_as_configured
from r1.types import Prompt
from tasks.base import Loaded, Problem, Source, Split, Task
from tasks.rows import is_file, split_hub_name


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskPrompts:
    """A task, ready to be sampled and scored."""

    task: Task
    """With reasoning_format among its rewards, at weight 0 where the task itself has none."""
    format_gates_accuracy: bool
    """Whether its reward is gated as in training; the accuracy of an evaluation never is."""
    prompts: list[Prompt]
    """group_id: the place of the problem in the task, from 0."""
    loaded: Loaded
    """What became of the rows."""
    num_examples: int
    """Problems that the template shows; they are left out before the first so many are taken."""
    num_too_long: int
    """Of those that were taken, with a prompt that is too long; left out as well."""

    @property
    def left_out(self) -> dict[str, int]:
        """Why -> how many rows or problems are not evaluated."""
        return {
            "bad": len(self.loaded.bad_rows),
            "repeated": self.loaded.num_duplicates,
            "held_out_as_well": self.loaded.num_overlapping,
            "shown_as_examples": self.num_examples,
            "too_long": self.num_too_long,
        }


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


def load_prompts(settings: EvaluationSettings, tokenizer: Any) -> list[TaskPrompts]:
    """Load, render and tokenise the problems of each task, in the order of their source; a template has to be set."""
    assert settings.template is not None, "the tokenizer says which one"
    template = get_template(settings.template)
    loaded = []
    for named in settings.tasks:
        options = TaskConfig(name=named.name, template=settings.template, rewards=named.rewards)
        task = rewarded_as_configured(find_task(named.name), options)
        fields = {"question_field": named.question_field, "answer_field": named.answer_field}
        found = _load(task, settings.split, named.path, fields)
        examples = _examples(settings, template, task, fields)
        shown = {one.problem_id for one in examples}
        problems = [problem for problem in found.problems if problem.problem_id not in shown]
        stream = make_prompt_stream(
            problems[: settings.num_problems],
            task,
            template,
            tokenizer,
            max_prompt_tokens=settings.max_prompt_tokens,
            seed=settings.seed,
            examples=examples,
        )
        has_format = FORMAT_GATE in task.rewards
        loaded.append(
            TaskPrompts(
                task=task if has_format else replace(task, rewards={**task.rewards, FORMAT_GATE: 0.0}),
                format_gates_accuracy=has_format,
                prompts=[replace(prompt, group_id=number) for number, prompt in enumerate(stream.prompts)],
                loaded=found,
                num_examples=len(found.problems) - len(problems),
                num_too_long=stream.num_skipped,
            )
        )
    return loaded


def _load(task: Task, split: Split, path: str | None, fields: Mapping[str, Any]) -> Loaded:
    """The problems of a split. A file or a hub name with @SPLIT is taken whole, whichever split it stands for."""
    has_splits = path is None or not (is_file(path) or split_hub_name(path)[2])
    if split == "train" and has_splits:
        return load_split(task, "train", None, Source(path=path, **fields))
    return load_split(task, "heldout", None, Source(heldout_path=path, **fields))


def _examples(settings: EvaluationSettings, template: Template, task: Task, fields: dict[str, Any]) -> tuple[Problem, ...]:
    """What a few-shot template shows: problems of `settings.examples`, else the task's own training problems."""
    if settings.examples is not None:
        try:
            shown = _load(task, "train", settings.examples, fields)
        except UserError as error:
            raise UserError(re.sub(r"'task\.(heldout_)?path'", "'--examples'", str(error))) from error
        return worked_examples(template, task, shown.problems)
    try:
        return load_examples(template, task, Source(**fields))
    except UserError as error:
        raise UserError(f"{error}; or give --examples PATH: {settings.template} shows training problems") from error


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
