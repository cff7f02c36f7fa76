"""Regular expressions over stored completions: how many match in each step, and where."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, count
from pathlib import Path
from typing import Any, Literal, get_args

from r1.completion_parts import answer_of, form_of, thinking_of
from r1.errors import UserError
from r1.traces import read_steps, read_table
from tasks.base import Split

Part = Literal["completion", "thinking", "answer", "question"]
"""Where to look; "completion" is the whole of it, with the template's prefill before it."""
PARTS: Sequence[Part] = get_args(Part)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMatches:
    """What one step's file holds of a pattern."""

    step: int
    num_completions: int
    keys: tuple[tuple[int, int], ...]
    """(group_id, sample_id) of the completions that match."""
    rewards: tuple[float | None, ...]
    """As long as `keys`."""
    num_matches: int
    """Of all of them, counted without overlap."""


def search(run_dir: str | Path, pattern: str, split: Split = "train", part: Part = "completion") -> list[StepMatches]:
    """Look for a regular expression in every stored step; the steps without a match are in the list as well.

    pattern: RE2's syntax, which takes time in proportion to the text whatever the expression: no look-around, no
    back-references; (?i) ignores case, (?s) lets the dot match line ends. Raises `UserError`.
    """
    check_pattern(pattern)
    return list(read_steps(run_dir, split, lambda step: _search_step(run_dir, step, pattern, split, part)))


def check_pattern(pattern: str) -> None:
    """Raise `UserError` unless RE2 takes the pattern."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        pc.match_substring_regex(pa.nulls(1, pa.string()), pattern)  # a text of ours would make Arrow import pandas, 0.25 s
    except pa.ArrowInvalid as error:
        reason = str(error).partition("Invalid regular expression: ")[2] or str(error)
        remedy = "see github.com/google/re2/wiki/Syntax, which has no look-around"
        raise UserError(f"pattern {pattern!r}: {reason}; {remedy}") from error


def part_of(text: str, part: Part, template: str) -> str:
    """Return the thinking or the answer of prefill + completion, or all of it; where they are, the template says."""
    if part == "completion":
        return text
    return thinking_of(text) if part == "thinking" else answer_of(text, form_of(template))


def _search_step(run_dir: str | Path, step: int, pattern: str, split: Split, part: Part) -> StepMatches:
    import pyarrow.compute as pc

    names = ("question",) if part == "question" else ("prefill", "completion", "template")
    table = read_table(run_dir, step, split, ("group_id", "sample_id", "reward", *names))
    texts = table["question"] if part == "question" else whole_texts(table)
    if part in ("thinking", "answer"):
        whole = zip(texts.to_pylist(), table["template"].to_pylist(), strict=True)
        texts = text_column([part_of(text, part, template) for text, template in whole])
    counts = pc.count_substring_regex(texts, pattern)
    columns = (table[name].to_pylist() for name in ("group_id", "sample_id", "reward"))
    found = [place for *place, count in zip(*columns, counts.to_pylist(), strict=True) if count]
    return StepMatches(
        step=step,
        num_completions=table.num_rows,
        keys=tuple((group_id, sample_id) for group_id, sample_id, _ in found),
        rewards=tuple(reward for _, _, reward in found),
        num_matches=pc.sum(counts).as_py() or 0,
    )


def text_column(texts: Sequence[str]) -> Any:
    """Arrow's column of these texts, made of bytes: `pa.array` would import pandas to look at them, 0.25 s."""
    import pyarrow as pa

    encoded = [text.encode() for text in texts]
    offsets = array("i", accumulate(map(len, encoded), initial=0))
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))


def whole_texts(table: Any) -> Any:
    """Return prefill + completion of each row of a table with these columns."""
    import pyarrow.compute as pc

    # Most templates have none, and to join texts takes as long as to read them.
    if not any(table["prefill"].unique().to_pylist()):
        return table["completion"]
    return pc.binary_join_element_wise(table["prefill"], table["completion"], "")


def first_match(text: str, pattern: str) -> tuple[int, int]:
    """Return where the first match begins and ends, in characters; (0, 0) where there is none.

    >>> first_match("42é, let me check: 42", "(me|you) check")
    (9, 17)
    """
    import pyarrow.compute as pc

    # By RE2, since Python's own `re` reads some patterns otherwise; Arrow finds places only for patterns without groups, so a
    # mark that the text does not have is put there. It begins and ends otherwise: no part of it can pass for the whole.
    mark = next(f"\x00{number}\x01" for number in count() if f"\x00{number}\x01" not in text)
    [marked] = pc.replace_substring_regex(text_column([text]), pattern, mark, max_replacements=1).to_pylist()
    start = marked.find(mark)
    return (start, len(text) - (len(marked) - start - len(mark))) if start >= 0 else (0, 0)
