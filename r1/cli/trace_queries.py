"""`r1 traces stats|grep|flag`: questions to all completions of a run at once."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from r1.cli.printing import format_number, new_console, new_table, print_line, print_lines_of_cells, text_cells
from r1.cli.trace_printing import HeldoutOption, RunFolder, in_one_line, mean_of, no_traces, split_of
from r1.errors import UserError

# rich, pyarrow and the store are imported where they are used: `r1 --help` answers without them.
if TYPE_CHECKING:
    from rich.console import Console

    from r1.trace_flags import Flagged
    from r1.trace_search import Part, StepMatches
    from r1.trace_stats import Key
    from tasks.base import Split

CONTEXT_CHARS = 70
"""Shown on either side of a match."""
_PARTS: "Mapping[str, Part]" = {"completion": "completion", "thinking": "thinking", "answer": "answer", "question": "question"}
_KEYS: "Mapping[str, Key]" = {"step": "step", "task": "task", "finish": "finish_reason"}
Name = TypeVar("Name", bound=str)


def stats(
    run: RunFolder,
    by: Annotated[str, typer.Option(help="What a line of the table is: step, task or finish.")] = "step",
    heldout: HeldoutOption = False,
) -> None:
    """Compare steps, tasks or finish reasons: rewards, lengths, repeats and reflections.

    "duplicates" is the share of completions that say the same as an earlier sibling, "reflections" the number of "wait",
    "alternatively", "let me check" and the like in 1,000 tokens.

    \b
    Examples:
      r1 traces stats RUN
      r1 traces stats RUN --by finish        are the truncated ones wrong?
      r1 traces stats RUN --by task --heldout
    """
    from r1.trace_stats import trace_stats

    found = trace_stats(run, split_of(heldout), _chosen("--by", by, _KEYS))
    if not found:
        raise no_traces(run, heldout)
    parts = list(dict.fromkeys(name for line in found for name in line.breakdown))
    print_lines_of_cells(
        (by, "completions", "reward", *parts, "tokens", "truncated", "duplicates", "reflections", "errors"),
        (
            (
                *(line.key, line.num_completions, format_number(line.reward)),
                *(format_number(line.breakdown.get(name)) for name in parts),
                *(format_number(line.completion_tokens, ".1f"), format_number(line.truncated_share)),
                *(format_number(line.duplicate_share), format_number(line.reflections), line.num_errors),
            )
            for line in found
        ),
    )


def grep(
    run: RunFolder,
    pattern: Annotated[str, typer.Argument(help="A regular expression in RE2's syntax; (?i) ignores case.", show_default=False)],
    part: Annotated[str, typer.Option("--in", help="Where to look: completion, thinking, answer or question.")] = "completion",
    heldout: HeldoutOption = False,
    count: Annotated[int, typer.Option("-n", "--count", min=0, help="How many examples, spread over the steps.")] = 5,
) -> None:
    """Count the completions of each step that match a regular expression, and show examples.

    "share" is of the step's completions, "matches" counts every place, "reward" is the mean of those that match. Steps without
    a match are left out. Exit code 1 when nothing matches, as grep has it.

    \b
    Examples:
      r1 traces grep RUN "(?i)wait|let me check"
      r1 traces grep RUN --in answer '\\\\frac' -n 20
      r1 traces grep RUN --in thinking "[\\x{4e00}-\\x{9fff}]"    Chinese characters
    """
    from r1.trace_search import search

    place = _chosen("--in", part, _PARTS)
    found = search(run, pattern, split_of(heldout), place)
    if not found:
        raise no_traces(run, heldout)
    matching = [step for step in found if step.keys]
    console = new_console()
    total = sum(step.num_completions for step in found)
    hits = sum(len(step.keys) for step in found)
    if matching:
        print_lines_of_cells(
            ("step", "completions", "matching", "share", "matches", "reward"),
            (
                (
                    *(step.step, step.num_completions, len(step.keys)),
                    format_number(len(step.keys) / step.num_completions, ".3f"),
                    *(step.num_matches, format_number(mean_of(step.rewards))),
                )
                for step in matching
            ),
        )
        for number, key in _spread(matching, count):
            _print_match(console, run, number, key, split_of(heldout), pattern, place)
    print_line(console, f"{hits:,} of {total:,} completions in {len(matching)} of {len(found)} steps match", "bold")
    if not hits:
        raise typer.Exit(1)


def flag(
    run: RunFolder,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help="Only this kind; may be given again.", show_default=False)
    ] = None,
    step: Annotated[int | None, typer.Option("--step", help="Only this step; without it, all of them.")] = None,
    heldout: HeldoutOption = False,
    count: Annotated[int, typer.Option("-n", "--count", min=0, help="How many examples of each kind.")] = 3,
) -> None:
    """List suspicious completions: signs of reward hacking, and of a policy that falls apart.

    \b
    Kinds:
      no_thinking      a right answer with less than three words of working before it
      no_format        a reward although the format is wrong
      repeated         a loop: over 20 % of the 10-grams are repeated, or half of those at its end
      language_switch  words in a script that the question is not written in
      several_answers  different answers at once, in boxes, answer blocks or lines
      copied_answer    the answer is the question, a formula or a long phrase of it, or a number of it without working

    \b
    Examples:
      r1 traces flag RUN
      r1 traces flag RUN --kind no_thinking -n 20
    """
    from r1.trace_flags import FLAGS, flag_run, flag_step

    kinds = list(dict.fromkeys(kind or FLAGS))
    for one in kinds:
        _chosen("--kind", one, {name: name for name in FLAGS})
    split = split_of(heldout)
    total = 0
    by_kind: defaultdict[str, list[Flagged]] = defaultdict(list)
    of_steps = [flag_step(run, step, split, kinds)] if step is not None else list(flag_run(run, split, kinds))
    if not of_steps:
        raise no_traces(run, heldout)
    for num_completions, found in of_steps:
        total += num_completions
        for suspect in found:
            by_kind[suspect.flag].append(suspect)
    flagged = {(one.step, one.group_id, one.sample_id) for of_kind in by_kind.values() for one in of_kind}
    console = new_console()
    table = new_table("flag", "completions", "share", "first", "last")
    for name in kinds:
        of_kind = by_kind[name]
        ends = [f"step {of_kind[0].step}", f"step {of_kind[-1].step}"] if of_kind else ["-", "-"]
        table.add_row(*text_cells(name, len(of_kind), format_number(len(of_kind) / max(1, total), ".4f"), *ends))
    console.print(table)
    for suspect in [suspect for name in kinds for suspect in by_kind[name][:count]]:
        place = f"--step {suspect.step} --group {suspect.group_id} --sample {suspect.sample_id}"
        option = " --heldout" if heldout else ""
        print_line(console, f"{suspect.flag}: {in_one_line(suspect.reason)}: r1 traces show {run} {place}{option}")
    share = len(flagged) / max(1, total)
    print_line(console, f"{len(flagged):,} of {total:,} completions are flagged, {share:.2%}", "bold")


def _chosen(option: str, value: str, known: "Mapping[str, Name]") -> "Name":
    if value not in known:
        raise UserError(f"option {option!r}: must be one of {', '.join(known)}, got {value!r}")
    return known[value]


def _spread(matching: "Sequence[StepMatches]", count: int) -> "Iterator[tuple[int, tuple[int, int]]]":
    """Yield up to `count` (step, key) of completions that match, as far apart in the run as they come."""
    hits = [(step.step, key) for step in matching for key in step.keys]
    count = min(count, len(hits))
    for number in range(count):
        yield hits[number * (len(hits) - 1) // max(1, count - 1)]


def _print_match(
    console: "Console", run: Path, step: int, key: tuple[int, int], split: "Split", pattern: str, part: "Part"
) -> None:
    """One example: where it is, and its first match with what stands around it."""
    from rich.text import Text

    from r1.trace_search import first_match, part_of
    from r1.traces import StepDamaged, StepGone, read_rows, say_left_out

    try:
        [row] = read_rows(run, step, [key], split)
    except StepDamaged as error:  # in a column that was not searched
        say_left_out(error)
        return
    except (StepGone, ValueError):  # a run that went back to a checkpoint has removed it, or written another step in its place
        return
    text = row.question if part == "question" else part_of(row.prefill + row.completion, part, row.template)
    start, end = first_match(text, pattern)
    before, after = text[max(0, start - CONTEXT_CHARS) : start], text[end : end + CONTEXT_CHARS]
    place = f"step {row.step} group {row.group_id} sample {row.sample_id} reward {format_number(row.reward)}: "
    console.print(
        Text.assemble(
            (place, "dim"),
            in_one_line("..." if start > CONTEXT_CHARS else "") + in_one_line(before),
            (in_one_line(text[start:end][: 2 * CONTEXT_CHARS]), "bold red"),
            in_one_line(after) + ("..." if end + CONTEXT_CHARS < len(text) else ""),
        ),
        soft_wrap=True,
    )
