"""`r1 traces`: read the completions that a run has stored."""

import json
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r1.cli.browse import browse
from r1.cli.printing import format_number, new_console, new_table, print_line, print_lines_of_cells, text_cells
from r1.cli.trace_diff import diff
from r1.cli.trace_export import export
from r1.cli.trace_printing import (
    HeldoutOption,
    RunFolder,
    RunName,
    StepOption,
    describe,
    fetched_steps,
    heading,
    no_traces,
    print_completion,
    print_prompt,
    split_of,
)
from r1.cli.trace_queries import flag, grep, stats
from r1.errors import UserError

# The store is imported where it is used: `r1 --help` answers without it.
if TYPE_CHECKING:
    from r1.trace_schema import TraceRow

HELP = """Read the completions that a run has stored.

RUN is the folder that a run writes to.

\b
Examples:
  r1 traces browse RUN                  walk through steps, groups and completions
  r1 traces show RUN --step 12 --best   one completion, whole
  r1 traces stats RUN --by finish       numbers of all of them
"""

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=HELP)


@app.command("ls")
def list_steps(run: RunFolder) -> None:
    """List the stored steps with their mean rewards and lengths.

    "tokens" is the mean length of a completion, "truncated" the share that was cut off at the token limit, "errors" the number
    that a reward function failed on.

    \b
    Example:
      r1 traces ls runs/quickstart-20250101-120000
    """
    from r1.trace_stats import summarize_all
    from r1.traces import list_trace_files

    summaries = [*summarize_all(run, "train"), *summarize_all(run, "heldout")]
    # In the order of time: the held-out evaluation of a step comes after it.
    summaries.sort(key=lambda summary: (summary.step, summary.split == "heldout"))
    if not summaries:
        for heldout in (False, True):
            if list_trace_files(run, split_of(heldout)):
                raise no_traces(run, heldout)
        raise UserError(f"run folder {str(run)!r} holds no traces; the first appear when its first step or evaluation ends")
    parts = list(dict.fromkeys(name for summary in summaries for name in summary.breakdown))
    print_lines_of_cells(
        ("step", "split", "completions", "reward", *parts, "tokens", "truncated", "errors"),
        (
            (
                *(summary.step, summary.split, summary.num_completions, format_number(summary.reward)),
                *(format_number(summary.breakdown.get(name)) for name in parts),
                *(format_number(summary.completion_tokens, ".1f"), format_number(summary.truncated_share), summary.num_errors),
            )
            for summary in summaries
        ),
    )


@app.command()
def show(
    run: RunName,
    step: StepOption = None,
    group: Annotated[int | None, typer.Option("--group", help="Only completions of this prompt.")] = None,
    sample: Annotated[int | None, typer.Option("--sample", help="Only this one of each group.")] = None,
    best: Annotated[bool, typer.Option("--best", help="Highest reward first.")] = False,
    worst: Annotated[bool, typer.Option("--worst", help="Lowest reward first.")] = False,
    heldout: HeldoutOption = False,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many completions.")] = 1,
) -> None:
    """Show completions of one step.

    Each with its prompt, its thinking and answer in two colours, its reward parts and its advantage. Without --best or
    --worst they come in the order of group and sample; with either, completions that could not be judged come last.

    \b
    Examples:
      r1 traces show RUN                                   the first completion of the last step
      r1 traces show RUN --step 12 --best -n 3             the three best of step 12
      r1 traces show RUN --step 12 --group 3 --sample 7    this one
      r1 traces show RUN --step 0 --heldout                an answer of the model before training
    """
    if best and worst:
        raise UserError("--best and --worst exclude each other; give one of them")
    folder, step, entries = _entries(run, step, group, heldout)
    entries = [entry for entry in entries if sample is None or entry[1] == sample]
    if not entries:
        raise UserError(f"step {step} of {run!r} has no sample {sample} there; see `r1 traces group`")
    if best or worst:
        sign = -1.0 if best else 1.0
        entries.sort(key=lambda entry: (entry[2] is None, sign * (entry[2] or 0.0)))
    console = new_console()
    previous_group = None
    for row in _rows(folder, step, heldout, [entry[:2] for entry in entries[:count]]):
        print_line(console, heading(row), style="bold")
        print_line(console, describe(row))
        if row.group_id != previous_group:
            print_prompt(console, row)
        print_completion(console, row)
        previous_group = row.group_id
    left = len(entries) - count
    if left > 0:
        print_line(console, f"{left} more; show them with -n {len(entries)}", style="dim")


@app.command("group")
def show_group(
    run: RunName,
    step: StepOption = None,
    group: Annotated[int | None, typer.Option("--group", help="The prompt; without it, the first of the step.")] = None,
    heldout: HeldoutOption = False,
) -> None:
    """Compare all completions of one prompt.

    A table of their reward parts and advantages comes first, then their text.

    \b
    Example:
      r1 traces group RUN --step 12 --group 3
    """
    folder, step, entries = _entries(run, step, group, heldout)
    siblings = _rows(folder, step, heldout, [entry[:2] for entry in entries if entry[0] == entries[0][0]])
    console = new_console()
    first = siblings[0]
    print_line(console, f"step {first.step}  {first.split}  group {first.group_id}  problem {first.problem_id}", style="bold")
    print_line(console, f"reference {json.dumps(first.reference, ensure_ascii=False)}")
    print_prompt(console, first)
    parts = list(dict.fromkeys(name for row in siblings for name in row.breakdown))
    table = new_table("sample", "reward", *parts, "advantage", "tokens", "finish")
    for row in siblings:
        numbers = [
            format_number(row.reward),
            *(format_number(row.breakdown.get(name)) for name in parts),
            format_number(row.advantage, "+.2f"),
        ]
        table.add_row(*text_cells(row.sample_id, *numbers, row.num_tokens, row.finish_reason))
    console.print(table)
    for row in siblings:
        error = "" if row.error is None else f", error {row.error}"
        print_completion(console, row, f"sample {row.sample_id}, reward {format_number(row.reward)}{error}")


for command in (browse, stats, grep, diff, flag, export):
    app.command()(command)


def _entries(
    run: str, step: int | None, group: int | None, heldout: bool
) -> tuple[Path, int, list[tuple[int, int, float | None]]]:
    """The run's folder, the step, and (group_id, sample_id, reward) of the completions that the options choose; at least one."""
    folder, step, entries = _newest(run, heldout) if step is None else _named(run, step, heldout)
    if not entries:
        raise UserError(f"step {step} of {run!r} has no {split_of(heldout)} completions; choose another step, see `r1 traces ls`")
    chosen = [entry for entry in entries if group is None or entry[0] == group]
    if not chosen:
        groups = list(dict.fromkeys(entry[0] for entry in entries))
        some = ", ".join(map(str, groups[:10])) + (f" ... {groups[-1]}" if len(groups) > 10 else "")
        raise UserError(f"step {step} of {run!r} has no {split_of(heldout)} group {group}; choose one of {some}")
    return folder, step, chosen


def _named(run: str, step: int, heldout: bool) -> tuple[Path, int, list[tuple[int, int, float | None]]]:
    from r1.traces import no_step

    def choose(stored: Sequence[int]) -> list[int]:
        if step not in stored:
            raise no_step(run, step, split_of(heldout), stored)
        return [step]

    folder = fetched_steps(run, split_of(heldout), choose)
    return folder, step, _places(folder, step, heldout)


def _newest(run: str, heldout: bool) -> tuple[Path, int, list[tuple[int, int, float | None]]]:
    """Of the last step that holds any and can be read: of a share of the groups (`logging.traces`) a step may have none."""
    from r1.traces import StepDamaged, is_empty, list_trace_files, say_left_out

    # Most often it is the very last, and of a run at a URL no other need be fetched; 0: all.
    for count in (1, 9, 0):
        folder = fetched_steps(run, split_of(heldout), itemgetter(slice(-count, None)))
        stored, damaged = list_trace_files(folder, split_of(heldout)), list[StepDamaged]()
        for step in [step for step in list(stored)[-count:][::-1] if not is_empty(stored[step])]:
            try:
                entries = _places(folder, step, heldout)
            except StepDamaged as error:
                damaged.append(error)
                continue
            for left_out in damaged:
                say_left_out(left_out)
            return folder, step, entries
    if damaged:
        raise damaged[0]
    step = max(stored, default=0 if heldout else 1)
    return folder, step, _places(folder, step, heldout)


def _places(folder: Path, step: int, heldout: bool) -> list[tuple[int, int, float | None]]:
    from r1.traces import read_table

    table = read_table(folder, step, split_of(heldout), ("group_id", "sample_id", "reward"))
    return sorted(zip(*(column.to_pylist() for column in table.columns), strict=True), key=lambda entry: entry[:2])


def _rows(run: Path, step: int, heldout: bool, keys: list[tuple[int, int]]) -> "list[TraceRow]":
    """The completions with these (group_id, sample_id), in this order."""
    from r1.traces import read_rows

    rows = {(row.group_id, row.sample_id): row for row in read_rows(run, step, keys, split_of(heldout))}
    if not rows:
        raise UserError(f"step {step} of {str(run)!r} was written anew just now; try again")
    return [rows[key] for key in keys if key in rows]
