"""`r1 traces`: read the completions that a run has stored.

The text is a model's: it is shown in full, as `printable` leaves it, and never read as markup or obeyed by the terminal.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r1.cli.printing import format_number, new_console, new_table, print_line, printable, text_cells
from r1.errors import UserError

# rich, pyarrow and the store are imported where they are used: `r1 --help` answers without them.
if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from r1.traces import TraceRow
    from tasks.base import Split

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Read the completions that a run has stored.")

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that the run writes to.", show_default=False)]
StepOption = Annotated[int | None, typer.Option("--step", help="The step; without it, the last one that is stored.")]
HeldoutOption = Annotated[bool, typer.Option("--heldout", help="Held-out evaluations instead of training steps.")]


@app.command("ls")
def list_steps(run: RunFolder) -> None:
    """List the stored steps with their mean rewards and lengths.

    "tokens" is the mean length of a completion, "truncated" the share that was cut off at the token limit, "errors" the number
    that a reward function failed on.

    \b
    Example:
      r1 traces ls runs/quickstart-20250101-120000
    """
    from r1.trace_stats import summarize_all

    summaries = [*summarize_all(run, "train"), *summarize_all(run, "heldout")]
    # In the order of time: the held-out evaluation of a step comes after it.
    summaries.sort(key=lambda summary: (summary.step, summary.split == "heldout"))
    if not summaries:
        raise UserError(f"run folder {str(run)!r} holds no traces; the first appear when its first step or evaluation ends")
    parts = list(dict.fromkeys(name for summary in summaries for name in summary.breakdown))
    table = new_table("step", "split", "completions", "reward", *parts, "tokens", "truncated", "errors")
    for summary in summaries:
        means = [format_number(summary.breakdown.get(name)) for name in parts]
        table.add_row(
            *text_cells(summary.step, summary.split, summary.num_completions, format_number(summary.reward), *means),
            *text_cells(
                format_number(summary.completion_tokens, ".1f"), format_number(summary.truncated_share), summary.num_errors
            ),
        )
    new_console().print(table)


@app.command()
def show(
    run: RunFolder,
    step: StepOption = None,
    group: Annotated[int | None, typer.Option("--group", help="Only completions of this prompt.")] = None,
    best: Annotated[bool, typer.Option("--best", help="Highest reward first.")] = False,
    worst: Annotated[bool, typer.Option("--worst", help="Lowest reward first.")] = False,
    heldout: HeldoutOption = False,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many completions.")] = 1,
) -> None:
    """Show completions of one step.

    Each with its prompt, its thinking and answer in two colours, its reward parts and its advantage. Without --best or
    --worst they come in the order of group and sample; with either, completions that could not be judged come last.

    \b
    Examples:
      r1 traces show RUN                          the first completion of the last step
      r1 traces show RUN --step 12 --best -n 3    the three best of step 12
      r1 traces show RUN --step 0 --heldout       an answer of the model before training
    """
    if best and worst:
        raise UserError("--best and --worst exclude each other; give one of them")
    rows = _read(run, step, group, heldout)
    if best or worst:
        sign = -1.0 if best else 1.0
        rows = sorted(rows, key=lambda row: (row.reward is None, sign * (row.reward or 0.0)))
    console = new_console()
    previous_group = None
    for row in rows[:count]:
        print_line(console, _heading(row), style="bold")
        print_line(console, _describe(row))
        if row.group_id != previous_group:
            _print_prompt(console, row)
        _print_completion(console, row)
        previous_group = row.group_id
    left = len(rows) - count
    if left > 0:
        print_line(console, f"{left} more; show them with -n {len(rows)}", style="dim")


@app.command("group")
def show_group(
    run: RunFolder,
    step: StepOption = None,
    group: Annotated[int | None, typer.Option("--group", help="The prompt; without it, the first of the step.")] = None,
    heldout: HeldoutOption = False,
) -> None:
    """Compare all completions of one prompt.

    A table of their reward parts and advantages comes first, then their text.

    \b
    Example:
      r1 traces group RUN --step 12 --group 3
    """
    rows = _read(run, step, group, heldout)
    siblings = [row for row in rows if row.group_id == rows[0].group_id]
    console = new_console()
    first = siblings[0]
    print_line(console, f"step {first.step}  {first.split}  group {first.group_id}  problem {first.problem_id}", style="bold")
    print_line(console, f"reference {json.dumps(first.reference, ensure_ascii=False)}")
    _print_prompt(console, first)
    parts = list(dict.fromkeys(name for row in siblings for name in row.breakdown))
    table = new_table("sample", "reward", *parts, "advantage", "tokens", "finish")
    for row in siblings:
        numbers = [
            format_number(row.reward),
            *(format_number(row.breakdown.get(name)) for name in parts),
            format_number(row.advantage, "+.2f"),
        ]
        table.add_row(*text_cells(row.sample_id, *numbers, row.num_tokens, row.finish_reason))
    console.print(table)
    for row in siblings:
        error = "" if row.error is None else f", error {row.error}"
        _print_completion(console, row, f"sample {row.sample_id}, reward {format_number(row.reward)}{error}")


def _read(run: Path, step: int | None, group: int | None, heldout: bool) -> "list[TraceRow]":
    """The completions that the options choose; at least one."""
    from r1.traces import list_trace_files, read_traces

    split: Split = "heldout" if heldout else "train"
    if step is None:
        step = max(list_trace_files(run, split), default=0 if heldout else 1)
    rows = read_traces(run, step, split)
    if not rows:
        raise UserError(f"step {step} of {str(run)!r} has no {split} completions; choose another step, see `r1 traces ls`")
    chosen = [row for row in rows if group is None or row.group_id == group]
    if not chosen:
        last = rows[-1].group_id
        raise UserError(f"step {step} of {str(run)!r} has no {split} group {group}; choose one of {rows[0].group_id} to {last}")
    return chosen


def _heading(row: "TraceRow") -> str:
    place = f"step {row.step}  {row.split}  group {row.group_id}  sample {row.sample_id}"
    return f"{place}  {row.task}  template {row.template}  problem {row.problem_id}"


def _describe(row: "TraceRow") -> str:
    """Everything about a completion that is not its text, in three or four lines."""
    from r1.prompts import split_completion

    parts = "".join(f"  {name} {format_number(value)}" for name, value in row.breakdown.items())
    lines = [
        f"policy version {row.policy_version}  tokens {row.num_tokens}  finish {row.finish_reason}",
        f"reward {format_number(row.reward)}{parts}  advantage {format_number(row.advantage, '+.2f')}",
        f"reference {json.dumps(row.reference, ensure_ascii=False)}",
    ]
    answer = split_completion(row.prefill + row.completion).answer
    if answer:
        lines.append(f"answer {answer.strip()}")
    if row.error is not None:
        lines.append(f"error {row.error}")
    return "\n".join(lines)


def _print_prompt(console: "Console", row: "TraceRow") -> None:
    print_line(console, "--- prompt", style="bold")
    print_line(console, row.prompt_text.removesuffix(row.prefill), style="dim")


def _print_completion(console: "Console", row: "TraceRow", title: str = "completion") -> None:
    """The prefill and the completion, whole: what stands outside the tags is often why the format reward is 0."""
    print_line(console, f"--- {title}", style="bold")
    console.print(_coloured(row.prefill, row.completion), soft_wrap=True)
    console.print()


def _coloured(prefill: str, completion: str) -> "Text":
    """Thinking in cyan, answer in bold green, the prefill (which the policy did not write) underlined."""
    from rich.text import Text

    from r1.prompts import split_completion

    # Cleaning first keeps the positions below right; it leaves the tags as they are.
    prefill, completion = printable(prefill), printable(completion)
    whole = prefill + completion
    parts = split_completion(whole)
    text = Text(whole)
    text.stylize("underline", 0, len(prefill))
    # The thinking ends where the last </think> begins; the answer is looked for behind it.
    end = whole.rfind("</think>")
    thinking_end = end if end >= 0 else len(whole)
    text.stylize("cyan", thinking_end - len(parts.thinking), thinking_end)
    if parts.answer:
        answer_start = whole.find("<answer>", max(0, end)) + len("<answer>")
        text.stylize("bold green", answer_start, answer_start + len(parts.answer))
    return text
