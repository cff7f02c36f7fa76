"""Reads a run for the screens. Everything but `step_keys` may take long and belongs into a thread.

A run that still writes adds files, and one that goes back to a checkpoint removes some: an `OSError` or a `UserError` of any of
these methods means that the file is not there (any more), or not readable.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1.browse.lines import CompletionKey, CompletionLine, GroupLine, StepKey, StepLine, group_line
from r1.browse.matching import found_in
from r1.errors import UserError
from r1.trace_schema import TraceRow
from r1.trace_search import whole_texts
from r1.traces import list_trace_files, read_rows, read_table, trace_path

_LINE_COLUMNS = (
    *("group_id", "sample_id", "task", "problem_id", "question", "reward", "breakdown", "advantage", "num_tokens"),
    *("finish_reason", "error", "is_learnt"),
)

GroupRows = dict[CompletionKey, TraceRow]
"""The completions of a group with their texts and tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRows:
    """One step as its two lists need it, without the texts of the completions."""

    key: StepKey
    groups: list[GroupLine]
    """By rising group_id."""
    signature: object
    """Of the file that was read."""


class RunReader:
    """Reads one run folder. The step that was read last stays in memory until its file changes."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._rows: StepRows | None = None

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
        from r1.trace_stats import summarize

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

    def step(self, key: StepKey) -> StepRows:
        """The groups of a step, and the numbers of its completions."""
        signature = self._signature(key)
        if self._rows is None or self._rows.signature != signature:
            table = read_table(self.run, key.step, key.split, _LINE_COLUMNS)
            self._rows = StepRows(key=key, groups=_group_lines(table), signature=signature)
        return self._rows

    def group(self, key: StepKey, group: GroupLine) -> GroupRows:
        """The texts and tokens of a group; a completion that the file has lost meanwhile is left out."""
        wanted = {line.key for line in group.completions}
        return {(row.group_id, row.sample_id): row for row in read_rows(self.run, key.step, wanted, key.split)}

    def search(self, key: StepKey, pattern: str) -> set[CompletionKey]:
        """The completions of a step that hold the pattern, themselves, prefill included, or in their question."""
        import pyarrow.compute as pc

        table = read_table(self.run, key.step, key.split, ("group_id", "sample_id", "question", "prefill", "completion"))
        found = pc.or_(found_in(table["question"], pattern), found_in(whole_texts(table), pattern))
        ids = table.select(["group_id", "sample_id"]).filter(found)
        return set(zip(*(column.to_pylist() for column in ids.columns), strict=True))

    def warm_up(self) -> None:
        """Import now what the first open and the first search would wait for, 0.2 s."""
        import pyarrow.compute
        import pyarrow.parquet  # noqa: F401

    def warning_about(self, rows: StepRows) -> str:
        """What to say when the file of a step that was read is gone or new; "" when it is neither."""
        try:
            is_same = rows.signature == self._signature(rows.key)
        except UserError:
            return f"{rows.key} is gone from the disk, the run went back to an earlier step; what is shown was read before"
        return "" if is_same else f"{rows.key} was written anew; r reads it again"

    def forget(self) -> None:
        """Read the step from the disk again."""
        self._rows = None

    def _signature(self, key: StepKey) -> tuple[object, ...]:
        """Another one when the file was written anew."""
        try:
            stat = trace_path(self.run, key.step, key.split).stat()
        except FileNotFoundError as error:
            raise UserError(f"{key} is gone from the disk: the run went back to an earlier step") from error
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


def _group_lines(table: Any) -> list[GroupLine]:
    groups: defaultdict[int, list[CompletionLine]] = defaultdict(list)
    problems: dict[int, tuple[str, str, str, bool]] = {}
    for row in zip(*(table[name].to_pylist() for name in _LINE_COLUMNS), strict=True):
        group_id, sample_id, task, problem_id, question, reward, breakdown, advantage, tokens, finish, error, is_learnt = row
        problems.setdefault(group_id, (task, problem_id, question, is_learnt))
        groups[group_id].append(
            CompletionLine(
                key=(group_id, sample_id),
                reward=reward,
                parts={part["name"]: part["value"] for part in breakdown},
                advantage=advantage,
                tokens=tokens,
                finish_reason=finish,
                error=error,
            )
        )
    return [
        group_line(group_id, *problems[group_id], sorted(groups[group_id], key=lambda line: line.key))
        for group_id in sorted(groups)
    ]
