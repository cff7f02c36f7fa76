"""`r1 tasks`: the tasks by name, and their problems as a model would read them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from r1.cli.printing import new_console, new_table, print_line, text_cells
from r1.errors import UserError
from tasks.base import Loaded, NoProblemsError, Problem, Source, Split, Task

# Whatever takes long to import (pydantic, transformers) is imported where it is used: `r1 --help` answers without it.
if TYPE_CHECKING:
    from rich.console import Console

HELP = """Tasks: what there is, and their problems as prompts.

\b
Examples:
  r1 tasks ls
  r1 tasks show countdown -n 3
"""

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=HELP)

MAX_BAD_ROWS_SHOWN = 5


@app.command("ls")
def list_tasks() -> None:
    """List the tasks: their rewards, and what is asked for.

    \b
    Example:
      r1 tasks ls
    """
    from tasks import TASKS

    console = new_console()
    table = new_table("task", "rewards", "asks for")
    for name, task in TASKS.items():
        rewards = " + ".join(f"{weight:g} {reward}" for reward, weight in task.rewards.items())
        table.add_row(*text_cells(f"{name}:ARGUMENT" if task.configure else name, rewards, task.answer))
    console.print(table)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A task, e.g. gsm8k, math:3-5 or reasoning_gym:leg_counting.")],
    num_problems: Annotated[int, typer.Option("-n", "--num-problems", min=0, help="How many problems to show.")] = 3,
    template: Annotated[str, typer.Option(help="A template's name, or a .txt or .toml file.")] = "r1_zero",
    model: Annotated[str | None, typer.Option(help="Folder or hub name: for token counts, and its chat template.")] = None,
    path: Annotated[str | None, typer.Option(help="The problems, as task.path.")] = None,
    heldout_path: Annotated[str | None, typer.Option(help="The held-out problems, as task.heldout_path.")] = None,
    question_field: Annotated[str | None, typer.Option(help="As task.question_field.")] = None,
    answer_field: Annotated[str | None, typer.Option(help="As task.answer_field.")] = None,
    split: Annotated[str | None, typer.Option(help="train or heldout; a benchmark's problems are held out.")] = None,
    seed: Annotated[int | None, typer.Option(help="Draw them in this seed's order; without it, as they stand.")] = None,
    bad: Annotated[bool, typer.Option("--bad", help="List all bad rows, and nothing else.")] = False,
) -> None:
    """Show problems as prompts with their golds and token counts, and what became of the other rows.

    \b
    Examples:
      r1 tasks show countdown
      r1 tasks show gsm8k --path gsm8k.jsonl --template few_shot:2
      r1 tasks show gsm8k --path gsm8k.jsonl --template boxed_chat --model models/SmolLM2-135M-Instruct
      r1 tasks show jsonl --path mine.jsonl --question-field text --answer-field gold --bad
    """
    from r1.config import TaskConfig
    from r1.problem_sets import load_split
    from r1.task_options import find_task, rewarded_as_configured
    from tasks.data_set import describe

    if split not in (None, "train", "heldout"):
        raise UserError(f"option '--split': must be train or heldout, got {split!r}")
    source = Source(path=path, heldout_path=heldout_path, question_field=question_field, answer_field=answer_field)
    task = rewarded_as_configured(find_task(name), TaskConfig(name=name, template=template))
    only_heldout = path is None and (heldout_path is not None or task.is_benchmark)
    chosen: Split = "heldout" if split == "heldout" or (split is None and only_heldout) else "train"
    console = new_console()
    try:
        loaded = load_split(task, chosen, seed, source)
        bad_rows = loaded.bad_rows
    except UserError as error:
        # Where all rows are bad, listing them is what was asked for.
        if not (bad and isinstance(error.__cause__, NoProblemsError) and error.__cause__.bad_rows):
            raise
        bad_rows = error.__cause__.bad_rows
    if bad:
        for row in bad_rows:
            print_line(console, describe(row))
        return
    problems, texts, lengths = _rendered(task, loaded, source, template, model)
    for index in range(min(num_problems, len(problems))):
        problem, text = problems[index], texts[index]
        tokens = f", {lengths[index]} tokens" if lengths else ""
        print_line(console, f"--- problem {index + 1}, {problem.problem_id}{tokens}", "bold")
        print_line(console, text)
        print_line(console, f"--- gold: {problem.reference.get('answer')}", "bold")
    _print_counts(console, task, chosen, loaded, lengths)


def _rendered(
    task: Task, loaded: Loaded, source: Source, name: str, model: str | None
) -> tuple[Sequence[Problem], Sequence[str], Sequence[int]]:
    """Return the problems that the template does not show as examples, their prompts, and these in tokens: [] without a model."""
    from r1.problem_sets import load_examples
    from r1.prompt_stream import chat_renderer, encode
    from r1.prompts import get_template, render

    template = get_template(name)
    examples = load_examples(template, task, source)
    shown = {problem.problem_id for problem in examples}
    problems = [problem for problem in loaded.problems if problem.problem_id not in shown]
    if model is None:
        if template.is_chat:
            raise UserError(f"option 'task.template': a chat template is the model's, {name!r} needs one; add --model FOLDER")
        return problems, [render(template, task, problem, None, examples) for problem in problems], []
    from r1.model_files import open_model

    _, tokenizer = open_model(model, "--model")
    render_chat = chat_renderer(tokenizer)
    texts = [render(template, task, problem, render_chat, examples) for problem in problems]
    return problems, texts, [len(ids) for ids in encode(texts, template, tokenizer)]


def _print_counts(console: "Console", task: Task, split: Split, loaded: Loaded, lengths: Sequence[int]) -> None:
    from tasks.data_set import describe

    rewards = " + ".join(f"{weight:g} {name}" for name, weight in task.rewards.items())
    print_line(console, f"rewards: {rewards}; {task.correctness} tells right from wrong")
    rows = f" of {loaded.num_rows:,} rows" if loaded.num_rows else ""
    left_out = (
        f"{len(loaded.bad_rows):,} bad rows, {loaded.num_duplicates:,} repeated, {loaded.num_overlapping:,} held out as well"
    )
    print_line(console, f"{task.name}, {split}: {len(loaded.problems):,} problems{rows}; {left_out}")
    if lengths:
        ordered = sorted(lengths)
        half, most = ordered[(len(ordered) - 1) // 2], ordered[(len(ordered) - 1) * 99 // 100]
        print_line(
            console, f"tokens of a prompt: {ordered[0]} to {ordered[-1]}, half of them at most {half}, 99 % at most {most}"
        )
    for row in loaded.bad_rows[:MAX_BAD_ROWS_SHOWN]:
        print_line(console, f"bad row: {describe(row)}", "yellow")
    if len(loaded.bad_rows) > MAX_BAD_ROWS_SHOWN:
        print_line(console, f"and {len(loaded.bad_rows) - MAX_BAD_ROWS_SHOWN} more; --bad lists them all", "yellow")
