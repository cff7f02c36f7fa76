"""The trace store: every completion of a run, for people and for notebooks.

RUN/traces/step-000012.parquet holds the completions that step 12 sampled, RUN/traces/heldout-000012.parquet those of the
held-out evaluation after step 12 (0: before training). One row is one completion; `r1.trace_schema` says what the columns mean.
Any Parquet reader will do: `pandas.read_parquet("RUN/traces/step-000012.parquet")`.
"""

import os
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

from r1.errors import UserError
from r1.trace_schema import (
    COLUMNS,
    FILE_PREFIX,
    TOKEN_COLUMNS,
    TRACE_SCHEMA_VERSION,
    TraceRow,
    columns_to_read,
    in_current_schema,
    trace_file,
    trace_path,
    trace_row,
)
from r1.trace_writer import write_traces
from tasks.base import Split

__all__ = [
    "TRACE_SCHEMA_VERSION",
    "StepDamaged",
    "StepGone",
    "TraceRow",
    "is_empty",
    "list_trace_files",
    "no_step",
    "read_lengths",
    "read_rows",
    "read_steps",
    "read_table",
    "read_traces",
    "remove_traces_after",
    "say_left_out",
    "trace_path",
    "write_traces",
]

Result = TypeVar("Result")
_FROM_THE_FIRST = [field.name for field in fields(TraceRow) if field.default is MISSING]
"""Columns that every version has."""


class StepGone(UserError):
    """The step's file is not there, or not any more."""


class StepDamaged(UserError):
    """The step's file cannot be read, or none of r1's programs wrote it."""


def say_left_out(error: StepDamaged) -> None:
    """Say on stderr that a question to the whole run goes on without this file; once, since the live page keeps asking."""
    from r1.cli.printing import printable_line

    line = f"left out: {printable_line(str(error))}"
    if line not in _said:
        _said.add(line)
        print(line, file=sys.stderr, flush=True)


_said: set[str] = set()


def list_trace_files(run_dir: str | Path, split: Split) -> dict[int, Path]:
    """Step -> trace file, by rising step; empty when none is written yet."""
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise UserError(
            f"run folder {str(run_dir)!r} does not exist; give the folder that the run writes to, e.g. runs/NAME-YYYYMMDD-HHMMSS"
        )
    # Not what `atomic_file` has not finished.
    found = ((known[1], path) for path in run_dir.glob("traces/*") if (known := trace_file(path.name)) and known[0] == split)
    return dict(sorted(found))


def is_empty(path: Path) -> bool:
    """Whether a trace file holds no completion, by its footer (0.2 ms): `logging.traces` may have kept no group of a step.

    A file that is gone or damaged is not empty: whoever reads it says what is the matter.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return bool(pq.read_metadata(path).num_rows == 0)
    except (pa.ArrowInvalid, OSError):
        return False


def read_steps(
    run_dir: str | Path, split: Split, read: Callable[[int], Result], named: Collection[int] = ()
) -> Iterator[Result]:
    """Yield what `read` returns for each stored step, in order; some steps are read at the same time.

    Steps whose file is gone when it is their turn are left out: a run that goes back to a checkpoint removes what it is going to
    write again. Damaged ones are left out too, which is said on stderr; but of the `named` steps it is an error.
    """

    def read_if_possible(step: int) -> tuple[Result] | StepDamaged | None:
        try:
            return (read(step),)
        except StepGone:
            return None
        except StepDamaged as error:
            if step in named:
                raise
            return error

    # Decompressing and matching let other threads run.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as readers:
        for found in readers.map(read_if_possible, list_trace_files(run_dir, split)):
            if isinstance(found, StepDamaged):
                say_left_out(found)
            elif found:
                yield found[0]


def read_traces(run_dir: str | Path, step: int, split: Split = "train", *, with_tokens: bool = True) -> list[TraceRow]:
    """Return the completions of one step, in the order of (group_id, sample_id).

    with_tokens: False leaves the token columns (), which are most of what there is to read.
    """
    columns = [name for name in COLUMNS if with_tokens or name not in TOKEN_COLUMNS]
    rows = [trace_row(values) for values in read_table(run_dir, step, split, columns).to_pylist()]
    return sorted(rows, key=lambda row: (row.group_id, row.sample_id))


def read_rows(
    run_dir: str | Path, step: int, keys: Collection[tuple[int, int]], split: Split = "train"
) -> list[TraceRow]:
    """Return some completions of one step, by (group_id, sample_id) and in that order; keys that it lacks are left out.

    Decodes the parts of the file that hold them, and no others.
    """
    import pyarrow as pa

    with _opened(run_dir, step, split) as file:
        parts = []
        for number in range(file.num_row_groups):
            ids = file.read_row_group(number, columns=["group_id", "sample_id"])
            pairs = zip(ids["group_id"].to_pylist(), ids["sample_id"].to_pylist(), strict=True)
            wanted = [place for place, key in enumerate(pairs) if key in keys]
            if wanted:
                part = file.read_row_group(number)
                # Not `take`: Arrow would import pandas to look at the places, 0.2 s.
                parts += [part.slice(place, 1) for place in wanted]
        if not parts:
            return []
        rows = [trace_row(values) for values in in_current_schema(pa.concat_tables(parts), COLUMNS).to_pylist()]
    return sorted(rows, key=lambda row: (row.group_id, row.sample_id))


def read_lengths(run_dir: str | Path, step: int, split: Split = "train") -> list[list[int]]:
    """Return the tokens of each completion, group by group in the order of group_id; reads no text."""
    table = read_table(run_dir, step, split, ("group_id", "sample_id", "num_tokens"))
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for group_id, _, length in sorted(zip(*(column.to_pylist() for column in table.columns), strict=True)):
        groups[group_id].append(length)
    return [groups[group_id] for group_id in sorted(groups)]


def remove_traces_after(run_dir: str | Path, last_step: int) -> None:
    """Drop the files of later steps: a run that resumes after `last_step` is going to sample them again."""
    for split in FILE_PREFIX:
        for step, path in list_trace_files(run_dir, split).items():
            if step > last_step:
                path.unlink()


def read_table(run_dir: str | Path, step: int, split: Split, columns: Sequence[str] | None = None) -> Any:
    """Return one step as an Arrow table with these columns of `TraceRow`, or all of them; rows as they stand in the file."""
    columns = list(COLUMNS) if columns is None else list(columns)
    with _opened(run_dir, step, split) as file:
        stored = columns_to_read(columns, file.schema_arrow.names)
        # Never no column at all: then Arrow would not know how many rows there are.
        return in_current_schema(file.read(columns=stored or ["step"]), columns)


@contextmanager
def _opened(run_dir: str | Path, step: int, split: Split) -> Iterator[Any]:
    """The Parquet file of a step, of a version that this r1 reads; while it is read, damage is a `StepDamaged`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = trace_path(run_dir, step, split)
    if not path.is_file():
        raise no_step(run_dir, step, split, list(list_trace_files(run_dir, split)))
    try:
        # Not pq.read_table: it would add a column for a run folder that is called like "lr=1e-4".
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            missing = [name for name in _FROM_THE_FIRST if name not in file.schema_arrow.names]
            if missing:
                raise StepDamaged(f"trace file {str(path)!r} was not written by r1: it has no column {missing[0]!r}; remove it")
            version = _schema_version(file)
            if not 1 <= version <= TRACE_SCHEMA_VERSION:
                raise UserError(
                    f"trace file {str(path)!r} has schema version {version}, this r1 reads 1 to {TRACE_SCHEMA_VERSION}; "
                    "read it with the r1 that wrote it"
                )
            yield file
    except FileNotFoundError as error:  # a run that goes back to a checkpoint removes what it is going to write again
        raise StepGone(f"trace file {str(path)!r} was removed just now; see `r1 traces ls` for what is there") from error
    # OSError: what does not decompress, or has another checksum; the others: a footer, which has none.
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise StepDamaged(f"trace file {str(path)!r} is damaged ({reason}); remove it") from error


def _schema_version(file: Any) -> int:
    """The newest of its rows', by the footer; of a file without rows, this r1's."""
    footer = file.metadata
    column = file.schema_arrow.names.index("schema_version")
    parts = [footer.row_group(number).column(column).statistics for number in range(footer.num_row_groups)]
    return max((part.max for part in parts if part and part.has_min_max), default=TRACE_SCHEMA_VERSION)


def no_step(run: str | Path, step: int, split: Split, stored: Sequence[int]) -> StepGone:
    """The error about a step that is not stored."""
    return StepGone(f"no {split} traces of step {step} in {str(run)!r}; {_say_steps(stored)}")


def _say_steps(steps: Sequence[int]) -> str:
    """Say which steps there are, runs of neighbours as one: "steps with traces: 1-3, 5"."""
    if not steps:
        return "there are none of this kind yet"
    known = set(steps)
    pairs = zip((step for step in steps if step - 1 not in known), (step for step in steps if step + 1 not in known), strict=True)
    spans = [str(first) if first == last else f"{first}-{last}" for first, last in pairs]
    return f"steps with traces: {', '.join(spans)}"
