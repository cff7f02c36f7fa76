"""Stored completions for other programs: JSON lines, CSV, Markdown, and chats to fine-tune on."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from io import StringIO

from r1.evaluation.samples import RIGHT
from r1.trace_flags import correctness
from r1.trace_schema import TOKEN_COLUMNS, TraceRow

Export = Callable[[Iterable[TraceRow]], Iterator[str]]
"""Yields the pieces of the file's text, line ends included."""


def is_right(row: TraceRow) -> bool:
    """Whether the task's correctness reward says so."""
    value = row.breakdown.get(correctness(row.task, tuple(row.breakdown)))
    return value is not None and value >= RIGHT


def jsonl(rows: Iterable[TraceRow]) -> Iterator[str]:
    """One object a completion, with all columns of the store but those with a number for each token."""
    for row in rows:
        kept = {name: value for name, value in asdict(row).items() if name not in TOKEN_COLUMNS}
        yield json.dumps(kept, ensure_ascii=False) + "\n"


def jsonl_tokens(rows: Iterable[TraceRow]) -> Iterator[str]:
    """One object a completion, with all columns."""
    for row in rows:
        yield json.dumps(asdict(row), ensure_ascii=False) + "\n"


CSV_COLUMNS: Sequence[str] = (
    "step",
    "split",
    "task",
    "group_id",
    "sample_id",
    "problem_id",
    "reward",
    "advantage",
    "num_tokens",
    "finish_reason",
    "policy_version",
    "error",
    "breakdown",
    "reference",
    "question",
    "completion",
)


def csv_table(rows: Iterable[TraceRow]) -> Iterator[str]:
    """A header and one line a completion; breakdown and reference as JSON. Without what is there token by token.

    A text that a spreadsheet would take for a formula (= + - @ at its start) has an apostrophe before it.
    """
    yield _csv_line(CSV_COLUMNS)
    for row in rows:
        values = [getattr(row, name) for name in CSV_COLUMNS]
        cells = [json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping) else value for value in values]
        yield _csv_line([f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA_SIGNS) else cell for cell in cells])


def markdown(rows: Iterable[TraceRow]) -> Iterator[str]:
    """A section a completion, for people: what it says in blocks that nothing in it can close."""
    for row in rows:
        parts = "".join(f", {name} {value}" for name, value in row.breakdown.items())
        yield f"## Step {row.step}, group {row.group_id}, sample {row.sample_id}: reward {row.reward}\n\n"
        yield f"{row.num_tokens} tokens, {row.finish_reason}{parts}\n\n"
        reference = f"reference {json.dumps(row.reference, ensure_ascii=False)}"
        for text in (row.prompt_text.removesuffix(row.prefill), row.prefill + row.completion, reference):
            fence = _fence(text)
            yield f"{fence}text\n{text}\n{fence}\n\n"


def sft(rows: Iterable[TraceRow]) -> Iterator[str]:
    """Chats, {"messages": [user, assistant]}: what TRL, axolotl and others fine-tune on. See `right_once`.

    The user's message is the bare question: the model's own chat template belongs around it, not the one of the run.
    """
    for row in rows:
        pair = (("user", row.question), ("assistant", row.prefill + row.completion))
        yield json.dumps({"messages": [{"role": role, "content": text} for role, text in pair]}, ensure_ascii=False) + "\n"


def right_once(rows: Iterable[TraceRow]) -> Iterator[TraceRow]:
    """The right ones, the same question with the same completion once: what `sft` is to be given."""
    seen: set[tuple[str, str]] = set()
    for row in rows:
        pair = (row.question, row.prefill + row.completion)
        if is_right(row) and pair not in seen:
            seen.add(pair)
            yield row


EXPORTS: Mapping[str, Export] = {"jsonl": jsonl, "tokens": jsonl_tokens, "csv": csv_table, "md": markdown, "sft": sft}

_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")


def _csv_line(cells: Sequence[object]) -> str:
    text = StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()


def _fence(text: str) -> str:
    """More backticks than stand anywhere in the text."""
    longest = 0
    run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return "`" * max(3, longest + 1)
