"""From the configuration's tasks to prompts: loaded, chosen by difficulty, rendered, and counted on the way."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1.config import RunConfig
from r1.errors import UserError
from r1.prompt_mix import HeldoutPrompts, PromptMix
from r1.prompt_stream import PromptStream, make_prompt_stream, worked_examples
from r1.prompts import get_template
from r1.seeds import derive_seed
from r1.task_options import TaskPart
from tasks.base import BadRow, Loaded, Problem, Source, Split, Task

DIFFICULTIES = ("learnable", "easy_first")


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

    @property
    def bad_rows(self) -> list[BadRow]:
        """Of all files, each once: one file may serve both splits."""
        return list({row.where: row for split in self.splits for row in split.loaded.bad_rows}.values())


def load_problem_sets(config: RunConfig, parts: Sequence[TaskPart], tokenizer: Any) -> ProblemSets:
    """Load what the run trains and is measured on; raises `UserError` when too little is left."""
    seed, heldout_seed = config.seed, derive_seed(config.seed, "heldout")
    splits: list[PreparedSplit] = []
    for number, part in enumerate(parts):
        if part.weight:
            splits.append(_prepare(config, part, "train", seed if number == 0 else derive_seed(seed, part.task.name), tokenizer))
        if config.evaluate.num_completions:
            splits.append(_prepare(config, part, "heldout", heldout_seed, tokenizer))
    train = [split for split in splits if split.split == "train"]
    num_train = sum(len(split.stream.prompts) for split in train)
    if num_train < config.rollout.num_prompts:
        raise UserError(
            f"option 'task.path': {num_train} training problems are left, a step takes rollout.num_prompts="
            f"{config.rollout.num_prompts}: {'; '.join(split.describe() for split in train)}; give more, or lower it"
        )
    heldout = [split.stream for split in splits if split.split == "heldout"]
    return ProblemSets(
        train=PromptMix(
            streams=[split.stream for split in train], weights=[part.weight for part in parts if part.weight], seed=seed
        ),
        heldout=HeldoutPrompts(streams=heldout, num_completions=config.evaluate.num_completions, seed=heldout_seed)
        if heldout
        else None,
        splits=splits,
    )


def load_split(task: Task, split: Split, seed: int | None, source: Source) -> Loaded:
    """`Task.load`, with what the user can mend as `UserError`."""
    try:
        return task.load(split, seed, source)
    except (ValueError, OSError) as error:  # what a task says of a bad file or name; a file that may not be read
        raise UserError(f"{error}" if isinstance(error, ValueError) else f"option 'task.path': {error}") from error


def _prepare(config: RunConfig, part: TaskPart, split: Split, seed: int, tokenizer: Any) -> PreparedSplit:
    task, template = part.task, get_template(config.task.template)
    loaded = load_split(task, split, seed, part.source)
    problems = loaded.problems
    examples: tuple[Problem, ...] = ()
    if template.num_examples:
        # The same ones for both splits, in the data's own order: a prompt's text must not depend on the seed.
        shown_from = loaded if split == "heldout" and not part.weight else load_split(task, "train", None, part.source)
        examples = worked_examples(template, task, shown_from.problems)
    rates: Mapping[str, float] | None = None
    num_before = len(problems)
    if split == "train" and config.task.difficulty:
        kind, rates = _read_difficulty(config.task.difficulty, task.name)
        problems = tuple(one for one in problems if rates.get(one.problem_id) not in (0.0, 1.0))
        if not problems:
            raise UserError(
                f"option 'task.difficulty': all {num_before} problems of {task.name!r} are always or never solved; "
                "measure more samples of each (-k), or leave it out"
            )
        rates = rates if kind == "easy_first" else None
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
    )


def _read_difficulty(option: str, task: str) -> tuple[str, Mapping[str, float]]:
    """Return the kind and problem_id -> pass rate, from a file of {task: {problem_id: [num_correct, num_judged]}}."""
    kind, _, name = option.partition(":")
    if kind not in DIFFICULTIES or not name:
        raise UserError(
            f"option 'task.difficulty': {option!r} must be learnable:FILE or easy_first:FILE, with the pass_rates.json of "
            "python -m launch.evaluate MODEL --tasks TASK --split train -k 8"
        )
    try:
        measured = json.loads(Path(name).read_text(encoding="utf-8")).get(task, {})
        return kind, {problem_id: correct / judged for problem_id, (correct, judged) in measured.items() if judged}
    except OSError as error:
        raise UserError(f"option 'task.difficulty': {name!r}: {error.strerror}; give a pass_rates.json") from error
    except (ValueError, TypeError, AttributeError) as error:  # no JSON; other JSON than is written there
        raise UserError(f"option 'task.difficulty': {name!r} is no pass_rates.json ({error})") from error
