"""`r1 traces export`: stored completions as files for other programs."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r1.cli.printing import printable
from r1.cli.trace_printing import HeldoutOption, RunFolder, no_traces, split_of
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
    from r1.trace_export import EXPORTS, right_once

    if form not in EXPORTS:
        raise UserError(f"option '--format': must be one of {', '.join(EXPORTS)}, got {form!r}")
    rows = _rows(run, step, heldout, right, min_reward, with_tokens=form == "tokens")
    if form == "sft":
        rows = right_once(rows)
    chosen = islice(rows, count)
    first = list(islice(chosen, 1))  # what cannot be read is said before anything is written
    written: list[int] = []
    pieces = EXPORTS[form](_counted(chain(first, chosen), written))
    if output is None:
        for piece in pieces:
            sys.stdout.write(printable(piece) if sys.stdout.isatty() else piece)
    else:
        _write(output, pieces)
    print(f"{len(written):,} completions{'' if output is None else f' in {output}'}", file=sys.stderr)


def _write(output: Path, pieces: Iterable[str]) -> None:
    """Write a file at once; a pipe or a device as the pieces come."""
    from r1.files import atomic_file

    target = output.resolve()  # a link stays a link
    if target.is_dir():
        raise UserError(f"option '--output': {str(output)!r} is a folder; give the name of a file")
    if not target.parent.is_dir():
        raise UserError(f"option '--output': the folder {str(output.parent)!r} does not exist; make it first")
    is_special = target.exists() and not target.is_file()
    try:
        place = nullcontext(target) if is_special else atomic_file(target)
        with place as path, path.open("w", encoding="utf-8", newline="") as file:
            file.writelines(pieces)
    except OSError as error:
        raise UserError(f"option '--output': cannot write {str(output)!r}: {error.strerror}; choose another place") from error


def _counted(rows: "Iterable[TraceRow]", counted: list[int]) -> "Iterator[TraceRow]":
    for row in rows:
        counted.append(row.step)
        yield row


def _rows(
    run: Path, step: int | None, heldout: bool, right: bool, min_reward: float | None, *, with_tokens: bool
) -> "Iterator[TraceRow]":
    from r1.trace_export import is_right
    from r1.traces import StepDamaged, StepGone, list_trace_files, read_traces, say_left_out

    split = split_of(heldout)
    steps = [step] if step is not None else list(list_trace_files(run, split))
    is_any_read = False
    for one_step in steps:
        try:
            rows = read_traces(run, one_step, split, with_tokens=with_tokens)
        except (StepGone, StepDamaged) as error:
            if step is not None:
                raise
            if isinstance(error, StepDamaged):
                say_left_out(error)
            continue
        is_any_read = True
        for row in rows:
            is_rewarded = min_reward is None or (row.reward is not None and row.reward >= min_reward)
            if is_rewarded and (not right or is_right(row)):
                yield row
    if not is_any_read:
        raise no_traces(run, heldout)
