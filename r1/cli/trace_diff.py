"""`r1 traces diff`: the same problem earlier and later."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r1.cli.printing import format_number, new_console, new_table, print_line, text_cells
from r1.cli.trace_printing import (
    HeldoutOption,
    RunName,
    describe,
    fetched,
    fetched_steps,
    heading,
    mean_of,
    no_traces,
    print_completion,
    print_prompt,
    split_of,
)
from r1.errors import UserError

# rich, pyarrow and the store are imported where they are used: `r1 --help` answers without them.
if TYPE_CHECKING:
    from rich.console import Console

    from r1.trace_schema import TraceRow


def diff(
    run: RunName,
    problem: Annotated[
        str | None, typer.Option(help="The problem's id; without it, the one whose reward changed most.", show_default=False)
    ] = None,
    steps: Annotated[
        str | None, typer.Option(help="Steps to compare, e.g. 10,200; without it, the first and the last that have it.")
    ] = None,
    heldout: HeldoutOption = False,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Completions to show of each step, the best first.")] = 1,
) -> None:
    """Compare what the policy made of one problem at different steps.

    Held-out problems are the same at every evaluation; a training problem comes again when all have had their turn.

    \b
    Examples:
      r1 traces diff RUN --heldout
      r1 traces diff RUN --problem 37+485 --steps 10,200
    """
    from r1.trace_problems import problem_places, read_problem
    from r1.traces import StepDamaged, say_left_out

    split = split_of(heldout)
    wanted = _step_numbers(steps) if steps else []
    folder = fetched_steps(run, split, lambda stored: set(stored) & set(wanted)) if wanted else fetched(run)
    places = problem_places(folder, split, wanted)
    of_steps: dict[int, list[TraceRow]] = {}
    while not of_steps:
        chosen_problem, chosen = _choice(folder, heldout, problem, places, wanted)
        try:
            for step in chosen:
                of_steps[step] = read_problem(folder, step, chosen_problem, split)
        except StepDamaged as error:
            if step in wanted:
                raise
            say_left_out(error)
            of_steps = {}
            places = {name: others for name, known in places.items() if (others := [other for other in known if other != step])}
    console = new_console()
    first = of_steps[chosen[0]][0]
    print_line(console, f"problem {chosen_problem}  {first.task}  {split}", "bold")
    print_prompt(console, first)
    _print_comparison(console, of_steps)
    for rows in of_steps.values():
        rows = sorted(rows, key=lambda row: (row.reward is None, -(row.reward or 0.0)))
        for row in rows[:count]:
            print_line(console, heading(row), "bold")
            print_line(console, describe(row))
            print_completion(console, row)


def _choice(
    run: Path, heldout: bool, problem: str | None, places: dict[str, list[int]], wanted: list[int]
) -> tuple[str, list[int]]:
    """The problem and the steps to compare it at. places: problem -> the steps that have it."""
    from r1.trace_problems import most_changed

    if not places:
        raise no_traces(run, heldout)
    split = split_of(heldout)
    stored = sorted({step for known in places.values() for step in known})
    absent = [step for step in wanted if step not in stored]
    if absent:
        raise UserError(f"option '--steps': no {split} traces of step {absent[0]} in {str(run)!r}; see `r1 traces ls`")
    if problem is None:
        problem = most_changed(run, split, places, wanted)
    if problem is None:
        what = f"no {split} problem was sampled at all of these steps" if wanted else f"no {split} problem was sampled twice yet"
        other = "choose other steps" if heldout else "held-out problems are the same at every evaluation, try --heldout"
        raise UserError(f"option '--problem': {what}; {other}")
    if problem not in places:
        raise UserError(f"option '--problem': no {split} completions of {problem!r} in {str(run)!r}; ids: `r1 traces show RUN`")
    known = places[problem]
    chosen = wanted or list(dict.fromkeys((known[0], known[-1])))
    missing = [step for step in chosen if step not in known]
    if missing:
        have = ", ".join(map(str, known[:20])) + (" ..." if len(known) > 20 else "")
        raise UserError(f"option '--steps': problem {problem!r} was not sampled at step {missing[0]}; it was at {have}")
    return problem, chosen


def _step_numbers(steps: str) -> list[int]:
    try:
        numbers = [int(step) for step in steps.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) < 2:
        raise UserError(f"option '--steps': must be two numbers or more with commas between them such as 10,200, got {steps!r}")
    return numbers


def _print_comparison(console: "Console", of_steps: "dict[int, list[TraceRow]]") -> None:
    parts = list(dict.fromkeys(name for rows in of_steps.values() for row in rows for name in row.breakdown))
    table = new_table("step", "completions", "reward", *parts, "tokens", "truncated", "different answers")
    for step, rows in of_steps.items():
        rewards = [row.reward for row in rows if row.reward is not None]
        means = [mean_of([row.breakdown.get(name) for row in rows]) for name in parts]
        answers = {answer for row in rows if (answer := _answer(row))}
        table.add_row(
            *text_cells(step, len(rows), format_number(mean_of(rewards)), *map(format_number, means)),
            *text_cells(format_number(mean_of([row.num_tokens for row in rows]), ".1f")),
            *text_cells(format_number(mean_of([row.finish_reason == "length" for row in rows])), len(answers)),
        )
    console.print(table)


def _answer(row: "TraceRow") -> str:
    """"" where there is none."""
    from r1.completion_parts import answer_of, form_of

    return answer_of(row.prefill + row.completion, form_of(row.template)).strip()
