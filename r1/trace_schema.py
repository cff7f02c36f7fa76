"""What a trace file holds: one row a completion, the same columns in every file of a run.

docs/traces.md explains the columns to people who read the files with other tools. Only types that `datasets.load_dataset`, pandas
and DuckDB all read are used: a list of (name, value) where a map would be the natural type, JSON where a value may be anything.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from r1.types import FinishReason
from tasks.base import Split

# pyarrow takes 0.2 s to import, so the functions that need it do it themselves and `r1 --help` never pays.

TRACE_SCHEMA_VERSION = 2
"""Grows when a column changes its meaning or its type, or leaves; a new column alone does not need it.

2: `breakdown` and `later_versions` are lists (maps before); token columns may be empty; `num_tokens` and all behind it are new.
Version 1 is read as well."""


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
    """A key of tasks.TASKS, with its argument."""
    template: str
    """A key of r1.prompts.TEMPLATES, or a file."""
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
    """[L] as sampled, the end-of-sequence token included; () where the run stores text alone (`logging.traces`)."""
    rollout_logprobs: tuple[float, ...]
    """[L] of the distribution that the engine sampled from; () as `token_ids`."""
    finish_reason: FinishReason
    """"length": cut off at rollout.max_completion_tokens."""
    policy_version: int
    """The weights that sampled it; the oldest of them, if they changed in the middle."""
    reward: float | None
    """The weighted sum that the advantage was made of; None when it could not be judged."""
    breakdown: Mapping[str, float | None]
    """Reward name -> its unweighted value; a list of (name, value) in the file."""
    error: str | None
    """Why it could not be judged, in words."""
    advantage: float | None
    """What the step multiplied its gradient with; None for held-out rows."""
    is_learnt: bool = True
    """False: its group left the loss, or was replaced by another, since all rewards of it are equal."""
    later_versions: tuple[tuple[int, int], ...] = ()
    """(policy_version, first_token that it sampled) for each change of weights in the middle; a list in the file."""
    num_tokens: int = 0
    """L, the completion's length, end-of-sequence token included."""
    old_logprobs: tuple[float, ...] = ()
    """[L] the learner's before the step's first update; () where it was not learnt from, or as `token_ids`."""
    entropies: tuple[float, ...] = ()
    """[L] nats, of the learner's distribution for each token; () as `old_logprobs`."""
    sample_s: float | None = field(default=None, compare=False)
    """Seconds from when an engine took it to its last token. No matter of equality: a run that is repeated takes other times."""
    score_s: float | None = field(default=None, compare=False)
    """Seconds that the reward functions took, all together."""


FILE_PREFIX: Mapping[Split, str] = {"train": "step", "heldout": "heldout"}
TOKEN_COLUMNS = ("token_ids", "rollout_logprobs", "old_logprobs", "entropies")
"""Those with a number for each token: most of a file."""
_FILE_NAME = re.compile(rf"({'|'.join(FILE_PREFIX.values())})-([0-9]{{6,}})\.parquet")
COLUMNS = tuple(column.name for column in fields(TraceRow))


def trace_file(name: str) -> tuple[Split, int] | None:
    """The split and step of a file in RUN/traces; None for a name that `trace_path` does not give.

    >>> trace_file("heldout-000012.parquet"), trace_file(".step-000012.parquet.tmp")
    (('heldout', 12), None)
    """
    found = _FILE_NAME.fullmatch(name)
    if found is None:
        return None
    split: Split = "train" if found[1] == FILE_PREFIX["train"] else "heldout"
    return split, int(found[2])


def trace_path(run_dir: str | Path, step: int, split: Split) -> Path:
    """Where the completions of a step are stored."""
    return Path(run_dir) / "traces" / f"{FILE_PREFIX[split]}-{step:06d}.parquet"


def arrow_schema() -> Any:
    """The fields of `TraceRow` as Arrow columns."""
    import pyarrow as pa

    types = dict.fromkeys(COLUMNS, pa.string()) | {
        **dict.fromkeys(("schema_version", "step", "group_id", "sample_id", "policy_version", "num_tokens"), pa.int32()),
        **dict.fromkeys(("reward", "advantage"), pa.float64()),
        **dict.fromkeys(("sample_s", "score_s"), pa.float32()),
        "token_ids": pa.list_(pa.int32()),
        **dict.fromkeys(("rollout_logprobs", "old_logprobs", "entropies"), pa.list_(pa.float32())),
        "breakdown": pa.list_(pa.struct([("name", pa.string()), ("value", pa.float64())])),
        "is_learnt": pa.bool_(),
        "later_versions": pa.list_(pa.struct([("policy_version", pa.int32()), ("first_token", pa.int32())])),
    }
    may_be_null = ("reward", "error", "advantage", "sample_s", "score_s")
    return pa.schema([pa.field(name, types[name], nullable=name in may_be_null) for name in COLUMNS])


def in_current_schema(table: Any, columns: Sequence[str]) -> Any:
    """Return these columns of a table that a version 1 or 2 wrote, as version 2 has them; what an older file lacks is filled."""
    import pyarrow as pa

    schema = arrow_schema()
    made = []
    for name in columns:
        kind = schema.field(name).type
        if name in table.column_names:
            column = table[name]
            made.append(_as_lists(column, kind) if pa.types.is_map(column.type) else column)
        elif name == "num_tokens":
            import pyarrow.compute as pc

            made.append(pc.list_value_length(table["token_ids"]).cast(pa.int32()))
        else:
            made.append(pa.array([_default(name)] * table.num_rows, kind))
    return pa.table(made, names=list(columns))


def columns_to_read(columns: Sequence[str], stored: Sequence[str]) -> list[str]:
    """What has to be read of a file with the columns `stored`, so that `in_current_schema` can make `columns`."""
    wanted = [name for name in columns if name in stored]
    if "num_tokens" in columns and "num_tokens" not in stored and "token_ids" not in wanted:
        wanted.append("token_ids")
    return wanted


def trace_row(values: Mapping[str, Any]) -> TraceRow:
    """Make a row of what pyarrow's `to_pylist` gives for it; the token columns may be left out."""
    lists = {name: tuple(values.get(name, ())) for name in TOKEN_COLUMNS}
    return TraceRow(
        **{
            **values,
            **lists,
            "reference": json.loads(values["reference"]),
            "breakdown": {part["name"]: part["value"] for part in values["breakdown"]},
            "later_versions": tuple((part["policy_version"], part["first_token"]) for part in values["later_versions"]),
        }
    )


def _default(name: str) -> Any:
    value = next(column.default for column in fields(TraceRow) if column.name == name)
    return list(value) if isinstance(value, tuple) else value


def _as_lists(column: Any, kind: Any) -> Any:
    """Version 1's maps as lists of structs with the field names of version 2."""
    import pyarrow as pa

    maps = column.combine_chunks()
    names = [kind.value_type.field(i).name for i in range(2)]
    return pa.ListArray.from_arrays(maps.offsets, pa.StructArray.from_arrays([maps.keys, maps.items], names=names), type=kind)
