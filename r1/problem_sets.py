"""From the configuration's tasks to prompts: loaded, chosen by difficulty, rendered, and counted on the way."""

import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from r1.config import RunConfig
from r1.errors import UserError
from r1.prompt_mix import HeldoutPrompts, PromptMix
from r1.prompt_stream import PromptStream, make_prompt_stream, worked_examples
from r1.prompts import Template, get_template
from r1.seeds import derive_seed
from r1.task_options import TaskPart
from tasks.base import Loaded, Problem, Source, Split, Task, question_id

DIFFICULTIES = ("learnable", "easy_first")
HELDOUT_SEED = derive_seed(0, "heldout")
"""Chooses the held-out problems of every run: curves of two seeds are of the same problems, with other samples of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedSplit:
    """One task's prompts of a split, and what became of its rows."""

    task: str
    split: Split
    loaded: Loaded
    stream: PromptStream
    num_examples: int
    """Worked examples that the template shows; they are not trained on."""
    num_unlearnable: int
    source: Source

    def show_command(self) -> str:
        """What lists all of its bad rows."""
        given = {"path": self.source.path, "heldout-path": self.source.heldout_path}
        given |= {"question-field": self.source.question_field, "answer-field": self.source.answer_field, "split": self.split}
        return " ".join([f"r1 tasks show {self.task} --bad", *(f"--{name} {value}" for name, value in given.items() if value)])

    def describe(self) -> str:
        """For people: "gsm8k, train: 7,470 problems of 7,473 rows (2 bad, 1 repeated)"."""
        loaded = self.loaded
        left_out = {
            "bad": len(loaded.bad_rows),
            "repeated": loaded.num_duplicates,
            "held out as well": loaded.num_overlapping,
            "shown as examples": self.num_examples,
            "always or never solved": self.num_unlearnable,
            "too long": self.stream.num_skipped,
        }
        counts = ", ".join(f"{count:,} {what}" for what, count in left_out.items() if count)
        rows = f" of {loaded.num_rows:,} rows" if loaded.num_rows else ""
        kind = "training" if self.split == "train" else "held-out"
        return f"{self.task}: {len(self.stream.prompts):,} {kind} problems{rows}{f' ({counts})' if counts else ''}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProblemSets:
    """All prompts of a run."""

    train: PromptMix
    heldout: HeldoutPrompts | None
    """None when evaluation is off."""
    splits: Sequence[PreparedSplit]

    def describe(self, max_bad_rows: int) -> list[str]:
        """Lines for people: what there is of each split, and the first bad rows of each file."""
        lines, said = [], set[str]()
        for split in self.splits:
            lines.append(f"task {split.describe()}")
            bad_rows = [row for row in split.loaded.bad_rows if row.where not in said]  # one file may serve both splits
            said |= {row.where for row in bad_rows}
            lines += [f"bad row: {row.where}: {row.reason}" for row in bad_rows[:max_bad_rows]]
            if len(bad_rows) > max_bad_rows:
                lines.append(f"and {len(bad_rows) - max_bad_rows} more bad rows; all of them: {split.show_command()}")
        return lines


def load_problem_sets(config: RunConfig, parts: Sequence[TaskPart], tokenizer: Any) -> ProblemSets:
    """Load what the run trains and is measured on; raises `UserError` when too little is left."""
    seed = config.seed
    is_evaluated = config.evaluate.num_completions > 0
    heldout = [_prepare(config, part, "heldout", HELDOUT_SEED, tokenizer) for part in parts if is_evaluated]
    # Whatever any task holds out is trained on by none: a benchmark may be part of another task's training set.
    heldout_ids = {one for split in heldout for problem in split.loaded.problems for one in _ids(problem)}
    train = [
        _prepare(config, part, "train", seed if number == 0 else derive_seed(seed, part.task.name), tokenizer, heldout_ids)
        for number, part in enumerate(parts)
        if part.weight
    ]
    mix = PromptMix(streams=[split.stream for split in train], weights=[part.weight for part in parts if part.weight], seed=seed)
    for split, task in zip(train, mix.tasks, strict=True):
        if task.num_problems < config.rollout.num_prompts * task.share:
            its_share, what = ("", "it") if task.share == 1.0 else (f", {task.share:.1%} of them its", "its weight")
            raise UserError(
                f"option 'task.path': {task.num_problems} training problems are left, a step takes rollout.num_prompts="
                f"{config.rollout.num_prompts}{its_share}: {split.describe()}; give more, or lower {what}"
            )
    return ProblemSets(
        train=mix,
        heldout=HeldoutPrompts(
            streams=[split.stream for split in heldout],
            num_completions=config.evaluate.num_completions,
            seed=derive_seed(seed, "heldout"),
        )
        if heldout
        else None,
        splits=[*train, *heldout],
    )


def load_split(task: Task, split: Split, seed: int | None, source: Source, section: str = "task") -> Loaded:
    """`Task.load`, with what the user can mend as `UserError`. section: where the source's options stand."""
    try:
        return task.load(split, seed, source)
    except (ValueError, OSError) as error:  # what a task says of a bad file or name; a file that may not be read
        message = str(error) if isinstance(error, ValueError) else f"option 'task.path': {error}"
        is_heldout_path = source.heldout_path is not None and repr(source.heldout_path) in message
        option = "heldout_path" if is_heldout_path and source.heldout_path != source.path else "path"
        message = message.replace(" task.heldout_path", f" {section}.heldout_path")
        raise UserError(message.replace("option 'task.path'", f"option '{section}.{option}'")) from error


def load_examples(template: Template, task: Task, source: Source) -> tuple[Problem, ...]:
    """What a few-shot template shows: training problems, in the data's own order, since a prompt must not depend on a seed."""
    if not template.num_examples:
        return ()
    if task.is_benchmark and source.path is None:
        raise UserError(
            f"option 'task.template': few_shot shows training problems, and {task.name!r} has none; choose another template"
        )
    return worked_examples(template, task, load_split(task, "train", None, source).problems)


def _prepare(
    config: RunConfig, part: TaskPart, split: Split, seed: int, tokenizer: Any, not_these: AbstractSet[str] = frozenset()
) -> PreparedSplit:
    """not_these: ids of problems that a task holds out."""
    task, template = part.task, get_template(config.task.template)
    loaded = load_split(task, split, seed, part.source, part.section)
    problems = tuple(one for one in loaded.problems if not_these.isdisjoint(_ids(one)))
    loaded = replace(loaded, num_overlapping=loaded.num_overlapping + len(loaded.problems) - len(problems))
    examples = load_examples(template, task, part.source)
    num_before = len(problems)
    rates: Mapping[str, float] | None = None
    if split == "train" and config.task.difficulty:
        kind, measured = _read_difficulty(config.task.difficulty, task.name, problems)
        problems = tuple(one for one in problems if measured.get(one.problem_id) not in (0.0, 1.0))
        rates = measured if kind == "easy_first" else None
        if not problems:
            raise UserError(
                f"option 'task.difficulty': all {num_before} problems of {task.name!r} are always or never solved; "
                "measure more samples of each (-k), or leave it out"
            )
    stream = make_prompt_stream(
        problems,
        task,
        template,
        tokenizer,
        max_prompt_tokens=config.rollout.max_prompt_tokens,
        seed=seed,
        examples=examples,
    )
    stream.pass_rates = rates
    return PreparedSplit(
        task=task.name,
        split=split,
        loaded=loaded,
        stream=stream,
        num_examples=len({one.problem_id for one in examples} & {one.problem_id for one in problems}),
        num_unlearnable=num_before - len(problems),
        source=part.source,
    )


def _ids(problem: Problem) -> tuple[str, str]:
    """A problem's own id, and that of its question, which other spellings and other tasks' problems share."""
    return problem.problem_id, question_id(problem.question)


def _read_difficulty(option: str, task: str, problems: Sequence[Problem]) -> tuple[str, Mapping[str, float]]:
    """Return the kind and problem_id -> pass rate, from a file of {task: {problem_id: [num_correct, num_judged]}}."""
    kind, _, name = option.partition(":")
    if kind not in DIFFICULTIES or not name:
        raise UserError(
            f"option 'task.difficulty': {option!r} must be learnable:FILE or easy_first:FILE, with the pass_rates.json of "
            "python -m launch.evaluate MODEL --tasks TASK --split train -k 8"
        )
    try:
        by_task = json.loads(Path(name).read_text(encoding="utf-8"))
        # By the question alone: rates of `math` serve `math:3-5`.
        measured = {
            problem_id: correct / judged
            for rates in by_task.values()
            for problem_id, (correct, judged) in rates.items()
            if judged
        }
    except OSError as error:
        raise UserError(f"option 'task.difficulty': {name!r}: {error.strerror}; give a pass_rates.json") from error
    except (ValueError, TypeError, AttributeError) as error:  # no JSON; other JSON than is written there
        raise UserError(f"option 'task.difficulty': {name!r} is no pass_rates.json ({error})") from error
    if not any(problem.problem_id in measured for problem in problems):
        raise UserError(
            f"option 'task.difficulty': {name!r} has measured none of the {len(problems)} training problems of {task!r}; measure "
            "them with python -m launch.evaluate MODEL --tasks TASK --split train -k 8"
        )
    return kind, measured
