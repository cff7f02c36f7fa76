"""The trace store: every completion of a run, for people and for notebooks.

RUN/traces/step-000012.parquet holds the completions that step 12 sampled, RUN/traces/heldout-000012.parquet those of the
held-out evaluation after step 12 (0: before training). One row is one completion; `TraceRow` says what the columns mean.
Any Parquet reader will do: `pandas.read_parquet("RUN/traces/step-000012.parquet")`.
"""

import json
import re
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from r1.errors import UserError
from r1.files import atomic_file
from r1.prompts import problem_fields
from r1.types import FinishReason, ScoredGroup
from tasks.base import Split

# pyarrow takes 0.2 s to import, so the functions that need it do it themselves and `r1 --help` never pays.

TRACE_SCHEMA_VERSION = 1
"""Grows when a column changes its meaning or leaves; a new column alone does not need it."""

_FILE_PREFIX: Mapping[Split, str] = {"train": "step", "heldout": "heldout"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceRow:
    """One completion as the store returns it; in the file, the columns have the same names and order."""

    schema_version: int
    """TRACE_SCHEMA_VERSION of the writer."""
    step: int
    """1 for the first update; a held-out row has the last step before its evaluation, 0 before training."""
    split: Split
    """"train" when it was sampled to learn from, "heldout" when it was only to be measured."""
    task: str
    """A key of tasks.TASKS."""
    template: str
    """A key of r1.prompts.TEMPLATES."""
    group_id: int
    """0 .. P-1, the prompt's position in the step."""
    sample_id: int
    """0 .. G-1, the completion's position in its group."""
    problem_id: str
    """Stable between steps and runs: join traces on it."""
    question: str
    """The bare question, without instructions or template."""
    reference: Mapping[str, Any]
    """What the reward functions checked against; a JSON string in the file."""
    prompt_text: str
    """The whole prompt as the policy read it, prefill included."""
    prefill: str
    """The end of `prompt_text` that belongs to the answer; "" for templates without one."""
    completion: str
    """The decoded tokens without the end-of-sequence token and without the prefill."""
    token_ids: tuple[int, ...]
    """[L] as sampled, the end-of-sequence token included."""
    rollout_logprobs: tuple[float, ...]
    """[L] of the distribution that the engine sampled from."""
    finish_reason: FinishReason
    """"length": cut off at rollout.max_completion_tokens."""
    policy_version: int
    """The weights that sampled it; the oldest of them, if they changed in the middle."""
    reward: float | None
    """The weighted sum that the advantage was made of; None when it could not be judged."""
    breakdown: Mapping[str, float | None]
    """Reward name -> its unweighted value; a map in the file."""
    error: str | None
    """Why it could not be judged, in words."""
    advantage: float | None
    """What the step multiplied its gradient with; None for held-out rows."""
    is_learnt: bool = True
    """False: its group left the loss, or was replaced by another, since all rewards of it are equal. Not in older files."""
    later_versions: tuple[tuple[int, int], ...] = ()
    """(policy_version, first token that it sampled) for each change of weights in the middle; a map in the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceSummary:
    """One trace file in one line. Means leave out completions without a value; None when there is none at all."""

    step: int
    split: Split
    num_completions: int
    num_errors: int
    """Completions that a reward function failed on."""
    reward: float | None
    breakdown: Mapping[str, float | None]
    """Reward name -> mean unweighted value."""
    completion_tokens: float | None
    """Mean length in tokens, end-of-sequence token included."""
    truncated_share: float | None
    """Share that was cut off at the token limit."""


def write_traces(run_dir: str | Path, step: int, groups: Sequence[ScoredGroup], *, template: str, split: Split = "train") -> Path:
    """Write the completions of one step; readers see the whole file or none of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(run_dir) / "traces" / f"{_FILE_PREFIX[split]}-{step:06d}.parquet"
    same_in_all_rows = {"schema_version": TRACE_SCHEMA_VERSION, "step": step, "split": split, "template": template}
    rows = [
        of_group | fields
        for group in groups
        for of_group in [same_in_all_rows | _group_fields(group)]
        for fields in _completion_fields(group, split)
    ]
    columns = [
        _list_column([row[field.name] for row in rows], field.type.value_type)
        if pa.types.is_list(field.type)
        else pa.array([row[field.name] for row in rows], field.type)
        for field in _schema()
    ]
    with atomic_file(path) as temporary:
        # Dictionaries only for texts, which repeat: of the numbers they make the file larger, and take half of the time.
        texts = [field.name for field in _schema() if pa.types.is_string(field.type)]
        pq.write_table(pa.Table.from_arrays(columns, schema=_schema()), temporary, compression="zstd", use_dictionary=texts)
    return path


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


def read_traces(run_dir: str | Path, step: int, split: Split = "train") -> list[TraceRow]:
    """Return the completions of one step, in the order of (group_id, sample_id)."""
    rows = [_trace_row(values) for values in read_table(run_dir, step, split).to_pylist()]
    return sorted(rows, key=lambda row: (row.group_id, row.sample_id))


def read_lengths(run_dir: str | Path, step: int, split: Split = "train") -> list[list[int]]:
    """Return the tokens of each completion, group by group in the order of group_id; reads no text."""
    import pyarrow.compute as pc

    table = read_table(run_dir, step, split, ("group_id", "sample_id", "token_ids"))
    lengths = pc.list_value_length(table["token_ids"]).to_pylist()
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for group_id, _, length in sorted(zip(table["group_id"].to_pylist(), table["sample_id"].to_pylist(), lengths, strict=True)):
        groups[group_id].append(length)
    return [groups[group_id] for group_id in sorted(groups)]


def summarize(run_dir: str | Path, step: int, split: Split = "train") -> TraceSummary:
    """Summarise one step; reads only the columns that it needs, and none of the text."""
    import pyarrow.compute as pc

    table = read_table(run_dir, step, split, ("reward", "breakdown", "error", "finish_reason", "token_ids"))
    parts: defaultdict[str, list[float | None]] = defaultdict(list)
    for breakdown in table["breakdown"].to_pylist():
        for name, value in breakdown:
            parts[name].append(value)
    return TraceSummary(
        step=step,
        split=split,
        num_completions=table.num_rows,
        num_errors=table.num_rows - table["error"].null_count,
        reward=_mean(table["reward"].to_pylist()),
        breakdown={name: _mean(values) for name, values in parts.items()},
        completion_tokens=_mean(pc.list_value_length(table["token_ids"]).to_pylist()),
        truncated_share=_mean([reason == "length" for reason in table["finish_reason"].to_pylist()]),
    )


def remove_traces_after(run_dir: str | Path, last_step: int) -> None:
    """Drop the files of later steps: a run that resumes after `last_step` is going to sample them again."""
    for split in _FILE_PREFIX:
        for step, path in list_trace_files(run_dir, split).items():
            if step > last_step:
                path.unlink()


def _schema() -> Any:
    """The fields of `TraceRow` as Arrow columns."""
    import pyarrow as pa

    names = [field.name for field in fields(TraceRow)]
    types = dict.fromkeys(names, pa.string()) | {
        **dict.fromkeys(("schema_version", "step", "group_id", "sample_id", "policy_version"), pa.int32()),
        **dict.fromkeys(("reward", "advantage"), pa.float64()),
        "token_ids": pa.list_(pa.int32()),
        "rollout_logprobs": pa.list_(pa.float32()),
        "breakdown": pa.map_(pa.string(), pa.float64()),
        "is_learnt": pa.bool_(),
        "later_versions": pa.map_(pa.int32(), pa.int32()),
    }
    return pa.schema([pa.field(name, types[name], nullable=name in ("reward", "error", "advantage")) for name in names])


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


def _completion_fields(group: ScoredGroup, split: Split) -> Iterator[dict[str, Any]]:
    # Nothing is learnt from held-out groups: whatever their advantages are, they would mislead a reader.
    advantages = group.advantages if split == "train" else (None,) * len(group.completions)
    for completion, score, advantage in zip(group.completions, group.scores, advantages, strict=True):
        yield {
            "sample_id": completion.sample_id,
            "completion": completion.text,
            "token_ids": completion.token_ids,
            "rollout_logprobs": completion.rollout_logprobs,
            "finish_reason": completion.finish_reason,
            "policy_version": completion.policy_version,
            "reward": score.reward,
            "breakdown": list(score.breakdown.items()),
            "error": score.error,
            "advantage": advantage,
            "is_learnt": group.is_learnt,
            "later_versions": list(completion.later_versions),
        }


def read_table(run_dir: str | Path, step: int, split: Split, columns: Sequence[str] | None = None) -> Any:
    """Return one step as an Arrow table, or some columns of it; the rows in no particular order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = list_trace_files(run_dir, split)
    if step not in files:
        raise UserError(f"no {split} traces of step {step} in {str(run_dir)!r}; {_say_steps(list(files))}")
    try:
        # Not pq.read_table: it would add a column for a run folder that is called like "lr=1e-4".
        with pq.ParquetFile(files[step]) as file:
            table = file.read(columns=None if columns is None else ["schema_version", *columns])
    except pa.ArrowInvalid as error:
        raise UserError(f"trace file {str(files[step])!r} is damaged; remove it and choose another step ({error})") from error
    versions = set(table["schema_version"].to_pylist())
    if versions - {TRACE_SCHEMA_VERSION}:
        raise UserError(
            f"trace file {str(files[step])!r} has schema version {max(versions)}, this r1 reads {TRACE_SCHEMA_VERSION}; "
            "read it with the r1 that wrote it"
        )
    return table


def _say_steps(steps: Sequence[int]) -> str:
    """Say which steps there are, runs of neighbours as one: "steps with traces: 1-3, 5"."""
    if not steps:
        return "there are none of this kind yet"
    known = set(steps)
    pairs = zip((step for step in steps if step - 1 not in known), (step for step in steps if step + 1 not in known), strict=True)
    spans = [str(first) if first == last else f"{first}-{last}" for first, last in pairs]
    return f"steps with traces: {', '.join(spans)}"


def _trace_row(values: Mapping[str, Any]) -> TraceRow:
    lists = {name: tuple(values[name]) for name in ("token_ids", "rollout_logprobs", "later_versions") if name in values}
    return TraceRow(**{**values, **lists, "reference": json.loads(values["reference"]), "breakdown": dict(values["breakdown"])})


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
