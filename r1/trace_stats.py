"""Numbers of stored completions: one line a trace file, or one a step, task or finish reason."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from r1.traces import read_steps, read_table
from tasks.base import Split

Key = Literal["step", "task", "finish_reason"]

REFLECTION = (
    r"(?i)\bwait\s*(?:[,:;!\x{2026}]|\.\.)|(?:^|[.!?>\n])\s*(?:but |oh,? |no,? )?wait\b|"
    r"\b(?:alternatively|hm+|hold on|on second thought)\b|"
    r"\blet(?: me|'s|\x{2019}s| us) (?:just )?(?:re-?|double[- ]?)?(?:check|verify|think|consider|examine)\b"
)
"""What counts as a reflection, in RE2's syntax: words by which a model goes back over its own working. Narrower than the
reflective words that DeepSeek-R1's authors count (verify, check, but, however, error ...): sound working is full of those."""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceStats:
    """The completions that share a step, a task or a finish reason. Means and None as in `TraceSummary`."""

    key: int | str
    num_completions: int
    num_errors: int
    reward: float | None
    breakdown: Mapping[str, float | None]
    completion_tokens: float | None
    truncated_share: float | None
    duplicate_share: float | None
    """Share that says the same, character by character, as an earlier sibling."""
    reflections: float | None
    """Matches of `REFLECTION` per 1,000 tokens."""


def summarize(run_dir: str | Path, step: int, split: Split = "train") -> TraceSummary:
    """Summarise one step; reads only the columns that it needs, and none of the text."""
    return TraceSummary(step=step, split=split, **_sums(read_table(run_dir, step, split, _NUMBERS)).means())


def summarize_all(run_dir: str | Path, split: Split = "train") -> list[TraceSummary]:
    """Summarise every stored step, in order."""
    return list(read_steps(run_dir, split, lambda step: summarize(run_dir, step, split)))


def trace_stats(run_dir: str | Path, split: Split = "train", by: Key = "step") -> list[TraceStats]:
    """Return the statistics of a run's stored completions, by rising key; reads every text once."""

    def read(step: int) -> list[tuple[int | str, _Sums]]:
        table = read_table(run_dir, step, split, _TEXTS)
        keys = [step] if by == "step" else table[by].unique().to_pylist()
        return [(key, _sums(table if len(keys) == 1 else _where(table, by, key))) for key in keys]

    totals: defaultdict[int | str, _Sums] = defaultdict(_Sums)
    for found in read_steps(run_dir, split, read):
        for key, sums in found:
            totals[key].add(sums)
    return [
        TraceStats(
            key=key,
            **sums.means(),
            duplicate_share=sums.num_duplicates / sums.num_completions if sums.num_completions else None,
            reflections=1000 * sums.num_reflections / sums.num_tokens if sums.num_tokens else None,
        )
        for key, sums in sorted(totals.items())
    ]


_NUMBERS = ("reward", "breakdown", "error", "finish_reason", "num_tokens")
_TEXTS = (*_NUMBERS, "task", "group_id", "completion")


@dataclass(kw_only=True, slots=True)
class _Sums:
    """Sums and counts over completions."""

    num_completions: int = 0
    num_errors: int = 0
    num_truncated: int = 0
    num_tokens: int = 0
    num_duplicates: int = 0
    num_reflections: int = 0
    values: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Reward part, "" for the reward itself -> sum and number of its known values."""

    def add(self, other: "_Sums") -> None:
        for name in ("num_completions", "num_errors", "num_truncated", "num_tokens", "num_duplicates", "num_reflections"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name, (total, count) in other.values.items():
            mine, known = self.values.get(name, (0.0, 0))
            self.values[name] = (mine + total, known + count)

    def means(self) -> dict[str, Any]:
        count = self.num_completions
        means = {name: total / known if known else None for name, (total, known) in self.values.items()}
        return {
            "num_completions": count,
            "num_errors": self.num_errors,
            "reward": means.pop("", None),
            "breakdown": means,
            "completion_tokens": self.num_tokens / count if count else None,
            "truncated_share": self.num_truncated / count if count else None,
        }


def _sums(table: Any) -> _Sums:
    """The sums of a table; those over its texts where it has them.

    Counts and products with Python's numbers are left to Python: Arrow would import pandas to look at them, 0.25 s.
    """
    import pyarrow.compute as pc

    def total(numbers: Any) -> Any:
        return pc.sum(numbers).as_py() or 0

    sums = _Sums(
        num_completions=table.num_rows,
        num_errors=table.num_rows - table["error"].null_count,
        num_truncated=table["finish_reason"].to_pylist().count("length"),
        num_tokens=total(table["num_tokens"]),
        values={"": (total(table["reward"]), table.num_rows - table["reward"].null_count)},
    )
    parts = table["breakdown"].combine_chunks().flatten()
    for name, value in zip(parts.field("name").to_pylist(), parts.field("value").to_pylist(), strict=True):
        sum_so_far, count = sums.values.get(name, (0.0, 0))
        sums.values[name] = (sum_so_far, count) if value is None else (sum_so_far + value, count + 1)
    if "completion" in table.column_names:
        texts = table["completion"]
        sums.num_reflections = total(pc.count_substring_regex(texts, REFLECTION))
        # A sibling is of the same group.
        sums.num_duplicates = table.num_rows - len(set(zip(table["group_id"].to_pylist(), texts.to_pylist(), strict=True)))
    return sums


def _where(table: Any, name: str, value: object) -> Any:
    """The rows with this value, in slices: to compare with a value of Python's, Arrow would import pandas."""
    import pyarrow as pa

    places = [place for place, found in enumerate(table[name].to_pylist()) if found == value]
    starts = [place for place, before in zip(places, [-2, *places], strict=False) if place != before + 1]
    ends = [place + 1 for place, behind in zip(places, [*places[1:], -2], strict=True) if place + 1 != behind]
    return pa.concat_tables([table.slice(start, end - start) for start, end in zip(starts, ends, strict=True)])
