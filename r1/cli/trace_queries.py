"""`r1 traces stats|grep|diff|flag`: questions to all completions of a run at once."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from r1.cli.printing import format_number, new_console, new_table, print_line, print_lines_of_cells, printable, text_cells
from r1.cli.trace_printing import HeldoutOption, RunFolder, describe, heading, print_completion, print_prompt, split_of
from r1.errors import UserError

# rich, pyarrow and the store are imported where they are used: `r1 --help` answers without them.
if TYPE_CHECKING:
    from rich.console import Console

    from r1.trace_flags import Flagged
    from r1.trace_schema import TraceRow
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
        raise _no_traces(run, heldout)
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
        raise _no_traces(run, heldout)
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
                    *(step.num_matches, format_number(_mean(step.rewards))),
                )
                for step in matching
            ),
        )
        for number, key in _spread(matching, count):
            _print_match(console, run, number, key, split_of(heldout), pattern, place)
    print_line(console, f"{hits:,} of {total:,} completions in {len(matching)} of {len(found)} steps match", "bold")
    if not hits:
        raise typer.Exit(1)


def diff(
    run: RunFolder,
    problem: Annotated[
        str | None, typer.Option(help="The problem's id; without it, the one whose reward changed most.", show_default=False)
    ] = None,
    steps: Annotated[
        str | None, typer.Option(help="Steps to compare, e.g. 10,200; without it, the first and the last that have it.")
    ] = None,
    heldout: HeldoutOption = False,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Completions to show of each step, the best first.")] = 1,
) -> None:
    """Compare what the policy made of one problem at different steps.

    Held-out problems are the same at every evaluation; a training problem comes again when all have had their turn.

    \b
    Examples:
      r1 traces diff RUN --heldout
      r1 traces diff RUN --problem 37+485 --steps 10,200
    """
    from r1.trace_problems import most_changed, problem_places, read_problem

    split = split_of(heldout)
    places = problem_places(run, split)
    if not places:
        raise _no_traces(run, heldout)
    wanted = _step_numbers(steps) if steps else []
    if problem is None:
        problem = most_changed(run, split, places, wanted)
    if problem is None:
        raise UserError(f"option '--problem': no {split} problem was sampled at two of these steps; give one, or try --heldout")
    if problem not in places:
        raise UserError(f"option '--problem': no {split} completions of {problem!r} in {str(run)!r}; ids: `r1 traces show RUN`")
    known = places[problem]
    chosen = wanted or list(dict.fromkeys((known[0], known[-1])))
    missing = [step for step in chosen if step not in known]
    if missing:
        have = ", ".join(map(str, known[:20])) + (" ..." if len(known) > 20 else "")
        raise UserError(f"option '--steps': problem {problem!r} was not sampled at step {missing[0]}; it was at {have}")
    of_steps = {step: read_problem(run, step, problem, split) for step in chosen}
    console = new_console()
    first = of_steps[chosen[0]][0]
    print_line(console, f"problem {problem}  {first.task}  {split}", "bold")
    print_prompt(console, first)
    _print_comparison(console, of_steps)
    for rows in of_steps.values():
        rows = sorted(rows, key=lambda row: (row.reward is None, -(row.reward or 0.0)))
        for row in rows[:count]:
            print_line(console, heading(row), "bold")
            print_line(console, describe(row))
            print_completion(console, row)


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
      no_thinking      a right answer with no working before it
      no_format        a reward although the format is wrong
      repeated         the same ten words again and again
      language_switch  words in a script that the question is not written in
      several_answers  different answers at once, in boxes or answer blocks
      copied_answer    the answer is a formula of the question

    \b
    Examples:
      r1 traces flag RUN
      r1 traces flag RUN --kind no_thinking -n 20
    """
    from r1.trace_flags import FLAGS, flag_step
    from r1.traces import list_trace_files

    kinds = kind or list(FLAGS)
    for one in kinds:
        _chosen("--kind", one, {name: name for name in FLAGS})
    split = split_of(heldout)
    steps = [step] if step is not None else list(list_trace_files(run, split))
    if not steps:
        raise _no_traces(run, heldout)
    total = 0
    by_kind: defaultdict[str, list[Flagged]] = defaultdict(list)
    for one_step in steps:
        num_completions, found = flag_step(run, one_step, split, kinds)
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
        print_line(console, f"{suspect.flag}: {_in_one_line(suspect.reason)}: r1 traces show {run} {place}{option}")
    share = len(flagged) / max(1, total)
    print_line(console, f"{len(flagged):,} of {total:,} completions are flagged, {share:.2%}", "bold")


def _chosen(option: str, value: str, known: "Mapping[str, Name]") -> "Name":
    if value not in known:
        raise UserError(f"option {option!r}: must be one of {', '.join(known)}, got {value!r}")
    return known[value]


def _no_traces(run: Path, heldout: bool) -> UserError:
    return UserError(f"run folder {str(run)!r} holds no {split_of(heldout)} traces; see `r1 traces ls` for what is stored")


def _step_numbers(steps: str) -> list[int]:
    try:
        return [int(step) for step in steps.split(",")]
    except ValueError as error:
        raise UserError(f"option '--steps': must be numbers with commas between them such as 10,200, got {steps!r}") from error


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
    from r1.traces import read_rows

    [row] = read_rows(run, step, [key], split)
    text = row.question if part == "question" else part_of(row.prefill + row.completion, part)
    start, end = first_match(text, pattern)
    before, after = text[max(0, start - CONTEXT_CHARS) : start], text[end : end + CONTEXT_CHARS]
    place = f"step {row.step} group {row.group_id} sample {row.sample_id} reward {format_number(row.reward)}: "
    console.print(
        Text.assemble(
            (place, "dim"),
            _in_one_line("..." if start > CONTEXT_CHARS else "") + _in_one_line(before),
            (_in_one_line(text[start:end][: 2 * CONTEXT_CHARS]), "bold red"),
            _in_one_line(after) + ("..." if end + CONTEXT_CHARS < len(text) else ""),
        ),
        soft_wrap=True,
    )


def _in_one_line(text: str) -> str:
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _print_comparison(console: "Console", of_steps: "dict[int, list[TraceRow]]") -> None:
    parts = list(dict.fromkeys(name for rows in of_steps.values() for row in rows for name in row.breakdown))
    table = new_table("step", "completions", "reward", *parts, "tokens", "truncated", "different answers")
    for step, rows in of_steps.items():
        rewards = [row.reward for row in rows if row.reward is not None]
        means = [_mean([row.breakdown.get(name) for row in rows]) for name in parts]
        answers = Counter(_answer(row) for row in rows)
        table.add_row(
            *text_cells(step, len(rows), format_number(_mean(rewards)), *map(format_number, means)),
            *text_cells(format_number(_mean([row.num_tokens for row in rows]), ".1f")),
            *text_cells(format_number(_mean([row.finish_reason == "length" for row in rows])), len(answers)),
        )
    console.print(table)


def _answer(row: "TraceRow") -> str:
    from r1.prompts import split_completion

    return split_completion(row.prefill + row.completion).answer.strip()


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
