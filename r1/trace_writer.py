"""Writing a step's completions into the trace store."""

import json
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from r1.files import atomic_file
from r1.prompts import problem_fields
from r1.trace_choice import TraceChoice
from r1.trace_schema import TOKEN_COLUMNS, TRACE_SCHEMA_VERSION, arrow_schema, trace_path
from r1.types import ScoredGroup, TokenValues
from tasks.base import Split

# pyarrow takes 0.2 s to import, so the functions that need it do it themselves and `r1 --help` never pays.

KEEP_ALL = TraceChoice()
ROWS_PER_ROW_GROUP = 1024
"""A reader of one completion decodes the tokens of as many, and not of all 16,384 of a large step."""


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
            # Without, a flipped bit is mostly read as another number.
            write_page_checksum=True,
        )
    return path


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
