"""What an evaluation counts: one small value a completion, read from trace files or taken from scored groups."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from r1.evaluation.majority import answer_of
from r1.prompts import get_template
from r1.scoring_rules import FORMAT_GATE
from r1.types import Prompt, ScoredGroup
from tasks.base import Split

RIGHT = 1.0
"""The value of a correctness reward that counts as right. All shipped ones are 0.0 or 1.0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What one completion contributes.

    >>> Sample(is_right=True, is_judged=True, answer="72", num_tokens=9, is_truncated=False, format=1.0, error=None).answer
    '72'
    """

    is_right: bool
    """False as well where it could not be judged."""
    is_judged: bool
    """Whether the task's correctness reward has a value."""
    answer: str | None
    """What it answered, for majority voting; None where it has no answer."""
    num_tokens: int
    """Sampled tokens, the end-of-sequence token included."""
    is_truncated: bool
    """Cut off at the token limit."""
    format: float | None
    """The value of reasoning_format."""
    error: str | None
    """The reward function that failed on it."""

    def is_finished(self, budget: int) -> bool:
        """Whether it has come to its own end within so many tokens."""
        return self.num_tokens <= budget and not self.is_truncated


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluatedProblem:
    """A problem with its samples."""

    problem_id: str
    samples: tuple[Sample, ...]
    """[k] in the order of sample_id."""

    @property
    def num_right(self) -> int:
        return sum(sample.is_right for sample in self.samples)

    @property
    def num_judged(self) -> int:
        return sum(sample.is_judged for sample in self.samples)


_COLUMNS = "group_id sample_id problem_id reference template prefill completion finish_reason breakdown error num_tokens".split()


def read_problems(folder: str | Path, steps: Sequence[int], correctness: str, split: Split = "heldout") -> list[EvaluatedProblem]:
    """Return the problems of some trace files, in the order of (step, group_id)."""
    return [problem for step in steps for problem in _read_step(folder, step, correctness, split)]


def read_prompts(folder: str | Path, step: int, split: Split = "heldout") -> dict[int, tuple[str, str, Any]]:
    """Return group_id -> what was asked and what it was judged by, of a trace file; see `as_stored`."""
    from r1.traces import read_table

    rows = read_table(folder, step, split, ("group_id", "problem_id", "prompt_text", "reference")).to_pylist()
    return {row["group_id"]: (row["problem_id"], row["prompt_text"], json.loads(row["reference"])) for row in rows}


def as_stored(prompt: Prompt) -> tuple[str, str, Any]:
    """What `read_prompts` returns for a prompt that was written as traces: JSON has no tuples."""
    return prompt.problem.problem_id, prompt.text, json.loads(json.dumps(dict(prompt.problem.reference)))


def evaluated(group: ScoredGroup, correctness: str) -> EvaluatedProblem:
    """Return what `read_problems` would after `group` was written as traces."""
    prompt = group.prompt
    samples = tuple(
        _sample(
            correctness,
            text=prompt.prefill + completion.text,
            reference={"answer_form": prompt.answer_form, **prompt.problem.reference},
            num_tokens=len(completion.token_ids),
            finish_reason=completion.finish_reason,
            breakdown=score.breakdown,
            error=score.error,
        )
        for completion, score in zip(group.completions, group.scores, strict=True)
    )
    return EvaluatedProblem(problem_id=prompt.problem.problem_id, samples=samples)


def _read_step(folder: str | Path, step: int, correctness: str, split: Split) -> Iterator[EvaluatedProblem]:
    from r1.traces import read_table

    rows = read_table(folder, step, split, _COLUMNS).to_pylist()
    rows.sort(key=lambda row: (row["group_id"], row["sample_id"]))
    for _, of_group in groupby(rows, key=lambda row: row["group_id"]):
        group = list(of_group)
        samples = tuple(_sample_of_row(row, correctness) for row in group)
        yield EvaluatedProblem(problem_id=group[0]["problem_id"], samples=samples)


def _sample_of_row(row: Mapping[str, Any], correctness: str) -> Sample:
    return _sample(
        correctness,
        text=row["prefill"] + row["completion"],
        reference={"answer_form": get_template(row["template"]).answer_form, **json.loads(row["reference"])},
        num_tokens=row["num_tokens"],
        finish_reason=row["finish_reason"],
        breakdown={part["name"]: part["value"] for part in row["breakdown"]},
        error=row["error"],
    )


def _sample(
    correctness: str,
    *,
    text: str,
    reference: Mapping[str, Any],
    num_tokens: int,
    finish_reason: str,
    breakdown: Mapping[str, float | None],
    error: str | None,
) -> Sample:
    value = breakdown.get(correctness)
    return Sample(
        is_right=value is not None and value >= RIGHT,
        is_judged=value is not None,
        answer=answer_of(text, reference, correctness),
        num_tokens=num_tokens,
        is_truncated=finish_reason == "length",
        format=breakdown.get(FORMAT_GATE),
        error=None if error is None else error.partition(":")[0],
    )
