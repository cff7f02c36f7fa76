"""The tables that `r1 rewards` prints. Texts are a model's: `text_cells` shows them as they are."""

import json
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from r1.cli.printing import format_number, new_table, print_line, text_cells
from r1.cli.rescoring import Change, Tally, Value
from r1.cli.reward_cases import Outcome, count_verdicts, percentile

MAX_TAIL_CHARS = 70
"""How much of a text's end a table shows."""


def print_misses(console: Console, misses: Sequence[Outcome], limit: int) -> None:
    table = text_table("id", "kind", "gold", "end of the text", "expected", "got", "why it is a miss")
    for miss in misses[:limit]:
        case = miss.case
        got = _value(miss.value) if miss.error is None else "-"
        why = miss.verdict if miss.error is None else f"{miss.verdict}: {miss.error.partition(': ')[2]}"
        expected = case.expected if isinstance(case.expected, str) else _value(case.expected)
        table.add_row(*text_cells(case.case_id, case.kind, _one_line(case.gold), _one_line(case.text), expected, got, why))
    console.print(table)
    if len(misses) > limit:
        print_line(console, f"{len(misses) - limit} more misses; show them with --limit-misses {len(misses)}", style="dim")


def print_kinds(console: Console, outcomes: Sequence[Outcome]) -> None:
    verdicts = [verdict.replace("positive", "pos.").replace("negative", "neg.") for verdict in count_verdicts(outcomes)]
    table = new_table("kind", "cases", *verdicts, "p50 ms", "p99 ms", "max ms")
    for column in table.columns:  # a narrow terminal may break a heading between its words only
        column.min_width = max(len(word) for word in str(column.header).split())
    kinds = {kind: [outcome for outcome in outcomes if outcome.case.kind == kind] for kind in _kinds(outcomes)}
    rows = [*kinds.items(), ("all", outcomes)] if len(kinds) > 1 else [("all", outcomes)]
    for kind, chosen in rows:
        times = [percentile([1000 * outcome.seconds for outcome in chosen], share) for share in (0.5, 0.99, 1.0)]
        cells = [count or "" for count in count_verdicts(chosen).values()]
        table.add_row(*text_cells(kind, len(chosen), *cells, *(f"{milliseconds:.2f}" for milliseconds in times)))
    console.print(table)


def print_slowest(console: Console, slowest: Sequence[Outcome]) -> None:
    table = text_table("slowest", "kind", "ms", "gold", "end of the text")
    for outcome in slowest:
        case = outcome.case
        milliseconds = f"{1000 * outcome.seconds:.2f}"
        table.add_row(*text_cells(case.case_id, case.kind, milliseconds, _one_line(case.gold), _one_line(case.text)))
    console.print(table)


def print_tallies(console: Console, tallies: Mapping[str, Tally]) -> None:
    table = new_table("reward", "completions", "changed", "mean before", "mean now", "failed before", "failed now")
    for part, tally in tallies.items():
        means = [format_number(_mean(values), ".4f") for values in (tally.old, tally.new)]
        failures = [values.count("failed") for values in (tally.old, tally.new)]
        table.add_row(*text_cells(part, len(tally.new), tally.num_changed, *means, *failures))
    console.print(table)


def print_changes(console: Console, changes: Sequence[Change]) -> None:
    table = text_table("step", "group", "sample", "reward", "before", "now", "reference", "end of the completion")
    for change in changes:
        row = change.row
        new = f"failed: {change.error}" if change.new == "failed" else _value(change.new)
        reference = row.reference.get("answer", json.dumps(row.reference, ensure_ascii=False))
        table.add_row(
            *text_cells(row.step, row.group_id, row.sample_id, change.part, _value(change.old), new),
            *text_cells(_one_line(str(reference)), _one_line(row.completion)),
        )
    console.print(table)


def _kinds(outcomes: Sequence[Outcome]) -> list[str]:
    return sorted({outcome.case.kind for outcome in outcomes})


def _mean(values: Sequence[Value]) -> float | None:
    known = [value for value in values if isinstance(value, float)]
    return sum(known) / len(known) if known else None


def _value(value: Value) -> str:
    return format(value, "g") if isinstance(value, float) else str(value)


def _one_line(text: str) -> str:
    """The end of a text, where its answer stands, in one line."""
    tail = text if len(text) <= MAX_TAIL_CHARS else f"...{text[-MAX_TAIL_CHARS:]}"
    return tail.strip().replace("\n", " ⏎ ").replace("\t", " ")


def text_table(*headings: str) -> Table:
    """A table of words: to the left, where `new_table` is for numbers."""
    table = new_table(*headings)
    for column in table.columns:
        column.justify = "left"
    return table
