"""Reads a run for the screens. Everything but `step_keys` may take long and belongs into a thread.

A run that still writes may add files, and one that goes back to a checkpoint removes some: an `OSError` or a `UserError` of
any of these methods means that the file is not there (any more), or not readable.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1.browse.lines import CompletionLine, GroupLine, StepKey, StepLine, group_line
from r1.errors import UserError
from r1.traces import list_trace_files, read_table, summarize

_LINE_COLUMNS = (
    *("group_id", "sample_id", "task", "problem_id", "question", "reward", "breakdown", "advantage", "num_tokens"),
    *("finish_reason", "error", "is_learnt"),
)
_TOKEN_COLUMNS = ("token_ids", "rollout_logprobs", "old_logprobs", "entropies")

CompletionKey = tuple[int, int]
"""(group_id, sample_id)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRows:
    """One step as its two lists need it, without the texts of the completions."""

    key: StepKey
    groups: list[GroupLine]
    """By rising group_id."""


class StepTexts:
    """The texts and metadata of a step's completions, kept as Arrow columns: a Python string is made when it is looked at."""

    def __init__(self, table: Any) -> None:
        self._table = table
        ids = zip(table["group_id"].to_pylist(), table["sample_id"].to_pylist(), strict=True)
        self._rows: dict[CompletionKey, int] = {key: row for row, key in enumerate(ids)}

    def fields(self, key: CompletionKey) -> dict[str, Any] | None:
        """Return all columns but those per token; None when the step has no such completion."""
        row = self._rows.get(key)
        if row is None:
            return None
        fields: dict[str, Any] = self._table.slice(row, 1).to_pylist()[0]
        return fields

    def search(self, pattern: re.Pattern[str]) -> Iterator[tuple[CompletionKey, bool]]:
        """Yield for each completion whether its question or its own text holds the pattern."""
        questions: dict[str, bool] = {}
        columns = self._table["question"], self._table["completion"]
        for key, question, completion in zip(self._rows, *columns, strict=True):
            text = question.as_py()
            if text not in questions:
                questions[text] = pattern.search(text) is not None
            yield key, questions[text] or pattern.search(completion.as_py()) is not None


class RunReader:
    """Reads one run folder. The last step that was read stays in memory until its file changes."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._rows: tuple[object, StepRows] | None = None
        self._texts: tuple[object, StepTexts] | None = None
        self._tokens: tuple[object, dict[int, dict[str, Any]]] | None = None

    def step_keys(self) -> list[StepKey]:
        """The trace files in the order of time, from their names alone."""
        train, heldout = list_trace_files(self.run, "train"), list_trace_files(self.run, "heldout")
        return sorted([*(StepKey(step, False) for step in train), *(StepKey(step, True) for step in heldout)])

    def recorded_lines(self) -> dict[StepKey, StepLine]:
        """What metrics.jsonl says of the steps, which is quick for any number of them; {} without the file."""
        from r1.metrics import read_metrics  # takes 0.2 s to import

        try:
            events = read_metrics(self.run)
        except UserError:  # no metrics.jsonl: all numbers come from the trace files
            return {}
        return {line.key: line for event in events for line in [_recorded_line(event)]}

    def summarized_line(self, key: StepKey) -> StepLine:
        """The same from the trace file, for steps that are not on record."""
        summary = summarize(self.run, key.step, key.split)
        return StepLine(
            key=key,
            num_completions=summary.num_completions,
            reward=summary.reward,
            parts=summary.breakdown,
            tokens=summary.completion_tokens,
            num_truncated=summary.truncated_share,
            num_errors=summary.num_errors,
        )

    def rows(self, key: StepKey) -> StepRows:
        """The groups and completions of a step."""
        signature = self.signature(key)
        if self._rows is None or self._rows[0] != signature:
            self._rows = signature, _step_rows(key, read_table(self.run, key.step, key.split, _LINE_COLUMNS))
        return self._rows[1]

    def texts(self, key: StepKey) -> StepTexts:
        """The texts of a step: for 16,384 completions of 4 kB some 70 MB, read in less than a second."""
        signature = self.signature(key)
        if self._texts is None or self._texts[0] != signature:
            self._texts = signature, StepTexts(read_table(self.run, key.step, key.split, _text_columns()))
        return self._texts[1]

    def tokens(self, key: StepKey, group_id: int) -> dict[int, dict[str, Any]]:
        """The columns per token of one group: sample_id -> column -> its values, as lists."""
        import pyarrow.compute as pc

        signature = (self.signature(key), group_id)
        if self._tokens is None or self._tokens[0] != signature:
            table = read_table(self.run, key.step, key.split, ("group_id", "sample_id", *_TOKEN_COLUMNS))
            group = table.filter(pc.equal(table["group_id"], group_id))
            self._tokens = signature, {row["sample_id"]: row for row in group.to_pylist()}
        return self._tokens[1]

    def search(self, key: StepKey, pattern: re.Pattern[str], is_stopped: Callable[[], bool]) -> bool:
        """Whether any completion of a step, or its question, holds the pattern; False as well when it was stopped."""
        table = read_table(self.run, key.step, key.split, ("group_id", "sample_id", "question", "completion"))
        return any(found for _, found in StepTexts(table).search(pattern) if not is_stopped())

    def warning_about(self, key: StepKey) -> str:
        """What to say when the file of a step that was read is gone or new; "" when it is neither."""
        try:
            is_same = self._rows is None or self._rows[1].key != key or self._rows[0] == self.signature(key)
        except (UserError, FileNotFoundError):
            return f"{key} is gone from the disk, the run went back to an earlier step; what is shown was read before"
        return "" if is_same else f"{key} was written anew; r reads it again"

    def forget(self) -> None:
        """Read everything from the disk again."""
        self._rows = self._texts = self._tokens = None

    def signature(self, key: StepKey) -> tuple[object, ...]:
        """Another one when the file was written anew; raises `UserError` or `OSError` when it is not there."""
        files = list_trace_files(self.run, key.split)
        if key.step not in files:
            raise UserError(f"{key} is gone: the run went back to an earlier step; r reads the list again")
        stat = files[key.step].stat()
        return key, stat.st_mtime_ns, stat.st_size, stat.st_ino


def _recorded_line(event: dict[str, Any]) -> StepLine:
    """A line of metrics.jsonl; a metric that was not finite is null there."""
    metrics: dict[str, float | None] = event["metrics"]
    num_completions, error_share = metrics.get("num_completions"), metrics.get("score_error_share")
    parts = {name.removeprefix("reward/"): value for name, value in metrics.items() if name.startswith("reward/")}
    if "accuracy" in metrics:
        parts = {"accuracy": metrics["accuracy"], **parts}
    return StepLine(
        key=StepKey(event["step"], event["kind"] == "heldout"),
        num_completions=None if num_completions is None else round(num_completions),
        reward=metrics.get("reward"),
        parts=parts,
        tokens=metrics.get("completion_tokens"),
        num_truncated=metrics.get("truncated_share"),
        num_errors=None if num_completions is None or error_share is None else round(num_completions * error_share),
    )


def _text_columns() -> list[str]:
    from dataclasses import fields

    from r1.traces import TraceRow

    return [field.name for field in fields(TraceRow) if field.name not in _TOKEN_COLUMNS]


def _step_rows(key: StepKey, table: Any) -> StepRows:
    groups: defaultdict[int, list[CompletionLine]] = defaultdict(list)
    problems: dict[int, tuple[str, str, str, bool]] = {}
    for row in zip(*(table[name].to_pylist() for name in _LINE_COLUMNS), strict=True):
        group_id, sample_id, task, problem_id, question, reward, breakdown, advantage, tokens, finish, error, is_learnt = row
        problems.setdefault(group_id, (task, problem_id, question, is_learnt))
        groups[group_id].append(
            CompletionLine(
                key=(group_id, sample_id),
                reward=reward,
                parts=dict(breakdown),
                advantage=advantage,
                tokens=tokens,
                finish_reason=finish,
                error=error,
            )
        )
    lines = [
        group_line(group_id, *problems[group_id], sorted(groups[group_id], key=lambda line: line.key))
        for group_id in sorted(groups)
    ]
    return StepRows(key=key, groups=lines)
