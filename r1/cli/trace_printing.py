"""What the `r1 traces` commands have in common: their options, and how a completion is printed.

The text is a model's: it is shown in full, as `printable` leaves it, and never read as markup or obeyed by the terminal.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r1.cli.printing import format_number, print_line, printable, printable_line
from r1.errors import UserError

# rich and the store are imported where they are used: `r1 --help` answers without them.
if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from r1.trace_schema import TraceRow
    from tasks.base import Split

def fetched(run: str) -> Path:
    """Where the run can be read: of a URL, a folder that is brought up to date."""
    from r1.fetched_run import local_run

    return local_run(run)


def fetched_steps(run: str, split: "Split", choose: "Callable[[Sequence[int]], Collection[int]]") -> Path:
    """The same; of a URL, with the traces of chosen steps of one split."""
    from r1.fetched_run import local_run

    return local_run(run, lambda other, stored: choose(stored) if other == split else ())


RunName = Annotated[str, typer.Argument(metavar="RUN", help="The folder, or URL, that the run writes to.", show_default=False)]
"""For commands that read few steps, and fetch what they need themselves."""
# A Path would lose the second slash of a URL; and a parser's errors typer says in words of its own, a callback's it leaves.
RunFolder = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", help="The folder, or URL, that the run writes to.", show_default=False, parser=str, callback=fetched
    ),
]
StepOption = Annotated[int | None, typer.Option("--step", help="The step; without it, the last one that is stored.")]
HeldoutOption = Annotated[bool, typer.Option("--heldout", help="Held-out evaluations instead of training steps.")]


MAX_ANSWER_CHARS = 500
"""Of an answer among a completion's numbers; its text is shown whole below them."""


def in_one_line(text: str) -> str:
    return printable_line(text).replace("\t", "\\t")


def split_of(heldout: bool) -> "Split":
    return "heldout" if heldout else "train"


def no_traces(run: Path, heldout: bool) -> UserError:
    from r1.traces import list_trace_files

    split = split_of(heldout)
    if list_trace_files(run, split):
        return UserError(f"none of the {split} traces in {str(run)!r} can be read; remove the files that are named above")
    return UserError(f"run folder {str(run)!r} holds no {split} traces; see `r1 traces ls` for what is stored")


def mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def heading(row: "TraceRow") -> str:
    place = f"step {row.step}  {row.split}  group {row.group_id}  sample {row.sample_id}"
    return f"{place}  {row.task}  template {row.template}  problem {row.problem_id}"


def describe(row: "TraceRow") -> str:
    """Everything about a completion that is not its text, in three to five lines."""
    from r1.completion_parts import answer_of, form_of

    times = (("sampled in", row.sample_s), ("scored in", row.score_s))
    seconds = "".join(f"  {name} {value:.2f} s" for name, value in times if value is not None)
    lines = [
        f"policy version {row.policy_version}  tokens {row.num_tokens}  finish {row.finish_reason}{seconds}",
        f"reward {format_number(row.reward)}{parts_in_words(row.breakdown)}  advantage {format_number(row.advantage, '+.2f')}",
        f"reference {json.dumps(row.reference, ensure_ascii=False)}",
    ]
    # In one line each: an answer with line breaks could imitate the lines around it.
    answer = in_one_line(answer_of(row.prefill + row.completion, form_of(row.template)).strip())
    if answer:
        lines.append(f"answer {answer[:MAX_ANSWER_CHARS]}{'...' if len(answer) > MAX_ANSWER_CHARS else ''}")
    if row.error is not None:
        lines.append(f"error {in_one_line(row.error)}")
    return "\n".join(lines)


def parts_in_words(breakdown: Mapping[str, float | None]) -> str:
    return "".join(f"  {name} {format_number(value)}" for name, value in breakdown.items())


def print_prompt(console: "Console", row: "TraceRow") -> None:
    print_line(console, "--- prompt", style="bold")
    print_line(console, row.prompt_text.removesuffix(row.prefill), style="dim")


def print_completion(console: "Console", row: "TraceRow", title: str = "completion") -> None:
    """The prefill and the completion, whole: what stands outside the tags is often why the format reward is 0."""
    print_line(console, f"--- {title}", style="bold")
    console.print(coloured(row.prefill, row.completion), soft_wrap=True)
    console.print()


def coloured(prefill: str, completion: str) -> "Text":
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
