"""The trace store: every completion of a run, for people and for notebooks.

RUN/traces/step-000012.parquet holds the completions that step 12 sampled, RUN/traces/heldout-000012.parquet those of the
held-out evaluation after step 12 (0: before training). One row is one completion; `r1.trace_schema` says what the columns mean.
Any Parquet reader will do: `pandas.read_parquet("RUN/traces/step-000012.parquet")`.
"""

import json
import re
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from r1.errors import UserError
from r1.files import atomic_file
from r1.prompts import problem_fields
from r1.trace_choice import TraceChoice
from r1.trace_schema import (
    COLUMNS,
    TOKEN_COLUMNS,
    TRACE_SCHEMA_VERSION,
    TraceRow,
    arrow_schema,
    columns_to_read,
    in_current_schema,
    trace_row,
)
from r1.types import ScoredGroup, TokenValues
from tasks.base import Split

__all__ = [
    "TRACE_SCHEMA_VERSION",
    "TraceRow",
    "list_trace_files",
    "read_lengths",
    "read_rows",
    "read_table",
    "read_traces",
    "remove_traces_after",
    "trace_path",
    "write_traces",
]

KEEP_ALL = TraceChoice()
ROWS_PER_ROW_GROUP = 1024
"""A reader of one completion decodes the tokens of as many: 0.1 s where all of 16,384 x 2,000 tokens would take 2 s."""

_FILE_PREFIX: Mapping[Split, str] = {"train": "step", "heldout": "heldout"}


def write_traces(
    run_dir: str | Path,
    step: int,
    groups: Sequence[ScoredGroup],
    *,
    template: str,
    split: Split = "train",
    choice: TraceChoice = KEEP_ALL,
    seed: int = 0,
) -> Path:
    """Write the completions of one step, in the order of (group_id, sample_id); readers see the whole file or none of it.

    choice: which groups of a training step, and whether token by token. seed: the run's, which draws them.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = trace_path(run_dir, step, split)
    same_in_all_rows = {"schema_version": TRACE_SCHEMA_VERSION, "step": step, "split": split, "template": template}
    kept = [
        group for group in groups if split == "heldout" or choice.keeps(seed=seed, step=step, group_id=group.prompt.group_id)
    ]
    rows = [
        of_group | of_completion
        for group in sorted(kept, key=lambda group: group.prompt.group_id)
        for of_group in [same_in_all_rows | _group_fields(group)]
        for of_completion in _completion_fields(group, split, choice.with_tokens)
    ]
    schema = arrow_schema()
    columns = [
        _list_column([row[field.name] for row in rows], field.type.value_type)
        if pa.types.is_list(field.type) and not pa.types.is_struct(field.type.value_type)
        else pa.array([row[field.name] for row in rows], field.type)
        for field in schema
    ]
    with atomic_file(path) as temporary:
        # Dictionaries only for texts, which repeat: of the numbers they make the file larger, and take half of the time.
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        # The four bytes of the floats apart from each other: 6 % smaller.
        floats = [f"{name}.list.element" for name in TOKEN_COLUMNS if name != "token_ids"]
        pq.write_table(
            pa.Table.from_arrays(columns, schema=schema),
            temporary,
            compression="zstd",
            use_dictionary=texts,
            use_byte_stream_split=floats,
            row_group_size=ROWS_PER_ROW_GROUP,
        )
    return path


def trace_path(run_dir: str | Path, step: int, split: Split) -> Path:
    """Where the completions of a step are stored."""
    return Path(run_dir) / "traces" / f"{_FILE_PREFIX[split]}-{step:06d}.parquet"


def list_trace_files(run_dir: str | Path, split: Split) -> dict[int, Path]:
    """Step -> trace file, by rising step; empty when none is written yet."""
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise UserError(
            f"run folder {str(run_dir)!r} does not exist; give the folder that the run writes to, e.g. runs/NAME-YYYYMMDD-HHMMSS"
        )
    # The pattern leaves out what `atomic_file` has not finished.
    pattern = re.compile(rf"{_FILE_PREFIX[split]}-(\d+)\.parquet")
    return dict(sorted((int(match[1]), path) for path in run_dir.glob("traces/*") if (match := pattern.fullmatch(path.name))))


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
    for split in _FILE_PREFIX:
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
    """The Parquet file of a step, of a version that this r1 reads; while it is read, damage is a `UserError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = trace_path(run_dir, step, split)
    if not path.is_file():
        steps = list(list_trace_files(run_dir, split))
        raise UserError(f"no {split} traces of step {step} in {str(run_dir)!r}; {_say_steps(steps)}")
    try:
        # Not pq.read_table: it would add a column for a run folder that is called like "lr=1e-4".
        with pq.ParquetFile(path) as file:
            version = _schema_version(file)
            if not 1 <= version <= TRACE_SCHEMA_VERSION:
                raise UserError(
                    f"trace file {str(path)!r} has schema version {version}, this r1 reads 1 to {TRACE_SCHEMA_VERSION}; "
                    "read it with the r1 that wrote it"
                )
            yield file
    except FileNotFoundError as error:  # a run that goes back to a checkpoint removes what it is going to write again
        raise UserError(f"trace file {str(path)!r} was removed just now; see `r1 traces ls` for what is there") from error
    except (pa.ArrowInvalid, OSError) as error:  # OSError: what does not decompress
        raise UserError(f"trace file {str(path)!r} is damaged; remove it and choose another step ({error})") from error


def _schema_version(file: Any) -> int:
    """The newest of its rows', by the footer; of a file without rows, this r1's."""
    footer = file.metadata
    column = file.schema_arrow.names.index("schema_version")
    parts = [footer.row_group(number).column(column).statistics for number in range(footer.num_row_groups)]
    return max((part.max for part in parts if part and part.has_min_max), default=TRACE_SCHEMA_VERSION)


def _say_steps(steps: Sequence[int]) -> str:
    """Say which steps there are, runs of neighbours as one: "steps with traces: 1-3, 5"."""
    if not steps:
        return "there are none of this kind yet"
    known = set(steps)
    pairs = zip((step for step in steps if step - 1 not in known), (step for step in steps if step + 1 not in known), strict=True)
    spans = [str(first) if first == last else f"{first}-{last}" for first, last in pairs]
    return f"steps with traces: {', '.join(spans)}"


def _list_column(lists: Sequence[Sequence[float]], value_type: Any) -> Any:
    """Arrow lists of 32-bit numbers, made of one block of bytes: pyarrow itself looks at every number."""
    import pyarrow as pa

    offsets = array("i", [0])
    values: Any = array("i" if pa.types.is_integer(value_type) else "f")
    for numbers in lists:
        values.extend(numbers)
        offsets.append(len(values))
    parts = [
        pa.Array.from_buffers(kind, len(numbers), [None, pa.py_buffer(numbers)])
        for kind, numbers in ((pa.int32(), offsets), (value_type, values))
    ]
    return pa.ListArray.from_arrays(*parts)


def _group_fields(group: ScoredGroup) -> dict[str, Any]:
    prompt = group.prompt
    return {
        **problem_fields(prompt.problem),
        "reference": json.dumps(dict(prompt.problem.reference), ensure_ascii=False),
        "task": prompt.task,
        "group_id": prompt.group_id,
        "prompt_text": prompt.text,
        "prefill": prompt.prefill,
    }


def _completion_fields(group: ScoredGroup, split: Split, with_tokens: bool) -> Iterator[dict[str, Any]]:
    # Nothing is learnt from held-out groups: whatever their advantages are, they would mislead a reader.
    advantages = group.advantages if split == "train" else (None,) * len(group.completions)
    token_values: Sequence[TokenValues | None] = group.token_values or (None,) * len(group.completions)
    for completion, score, advantage, values in zip(group.completions, group.scores, advantages, token_values, strict=True):
        yield {
            "sample_id": completion.sample_id,
            "completion": completion.text,
            "token_ids": completion.token_ids if with_tokens else (),
            "rollout_logprobs": completion.rollout_logprobs if with_tokens else (),
            "finish_reason": completion.finish_reason,
            "policy_version": completion.policy_version,
            "reward": score.reward,
            "breakdown": [{"name": name, "value": value} for name, value in score.breakdown.items()],
            "error": score.error,
            "advantage": advantage,
            "is_learnt": group.is_learnt,
            "later_versions": [{"policy_version": version, "first_token": first} for version, first in completion.later_versions],
            "num_tokens": len(completion.token_ids),
            "old_logprobs": values.old_logprobs if values and with_tokens else (),
            "entropies": values.entropies if values and with_tokens else (),
            "sample_s": completion.sample_s,
            "score_s": score.score_s,
        }
