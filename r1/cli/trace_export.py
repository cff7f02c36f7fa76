"""`r1 traces export`: stored completions as files for other programs."""

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r1.cli.printing import printable
from r1.cli.trace_printing import HeldoutOption, RunFolder, split_of
from r1.errors import UserError

# The store is imported where it is used: `r1 --help` answers without it.
if TYPE_CHECKING:
    from r1.trace_schema import TraceRow


def export(
    run: RunFolder,
    form: Annotated[str, typer.Option("--format", help="jsonl, tokens, csv, md or sft.")] = "jsonl",
    output: Annotated[
        Path | None, typer.Option(help="The file to write; without it, standard output.", show_default=False)
    ] = None,
    step: Annotated[int | None, typer.Option("--step", help="Only this step; without it, all of them.")] = None,
    heldout: HeldoutOption = False,
    right: Annotated[bool, typer.Option("--right", help="Only those that are right.")] = False,
    min_reward: Annotated[float | None, typer.Option(help="Only those with at least this reward.")] = None,
    count: Annotated[int | None, typer.Option("-n", "--count", min=1, help="At most as many completions.")] = None,
) -> None:
    """Write stored completions as a file for other programs.

    \b
    Formats:
      jsonl   an object a line, with all columns but those with a number for each token
      tokens  the same with token ids, log-probabilities and entropies
      csv     for spreadsheets; a text that would be a formula there has an apostrophe before it
      md      Markdown, for people
      sft     the right ones as chats to fine-tune on: {"messages": [...]}, each pair once

    \b
    Examples:
      r1 traces export RUN --format sft --output sft.jsonl
      r1 traces export RUN --step 12 --format csv --output step12.csv
      r1 traces export RUN --heldout --right -n 20 --format md
    """
    from r1.files import atomic_file
    from r1.trace_export import EXPORTS

    if form not in EXPORTS:
        raise UserError(f"option '--format': must be one of {', '.join(EXPORTS)}, got {form!r}")
    rows = islice(_rows(run, step, heldout, right, min_reward, with_tokens=form == "tokens"), count)
    pieces = EXPORTS[form](rows)
    if output is None:
        for piece in pieces:
            sys.stdout.write(printable(piece) if sys.stdout.isatty() else piece)
        return
    if output.is_dir():
        raise UserError(f"option '--output': {str(output)!r} is a folder; give the name of a file")
    with atomic_file(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        num_written = 0
        for piece in pieces:
            num_written += file.write(piece)
    print(f"{output}: {num_written:,} characters", file=sys.stderr)


def _rows(
    run: Path, step: int | None, heldout: bool, right: bool, min_reward: float | None, *, with_tokens: bool
) -> "Iterator[TraceRow]":
    from r1.trace_export import is_right
    from r1.traces import list_trace_files, read_traces

    split = split_of(heldout)
    steps = [step] if step is not None else list(list_trace_files(run, split))
    if not steps:
        raise UserError(f"run folder {str(run)!r} holds no {split} traces; see `r1 traces ls` for what is stored")
    for one_step in steps:
        for row in read_traces(run, one_step, split, with_tokens=with_tokens):
            is_rewarded = min_reward is None or (row.reward is not None and row.reward >= min_reward)
            if is_rewarded and (not right or is_right(row)):
                yield row
