"""`r1 rewards`: try reward functions on a text, on a file of cases, and on the completions that a run has stored.

They run as in training: in child processes that are killed at a deadline. What they judge is a model's text, and is
shown as `printable` leaves it.
"""

import inspect
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from r1.cli.printing import new_console, print_line, text_cells
from r1.cli.trace_printing import HeldoutOption, RunFolder
from r1.errors import UserError
from rewards.base import AnswerForm

# rich, pydantic, pyarrow and the pool are imported where they are used: `r1 --help` answers without them.
if TYPE_CHECKING:
    from r1.cli.rescoring import Change
    from r1.cli.reward_cases import Outcome
    from tasks.base import Split

Item = TypeVar("Item")

HELP = """Try, test and re-apply reward functions.

\b
Examples:
  r1 rewards try math_answer --completion answer.txt --gold 72
  r1 rewards rescore RUN
"""

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=HELP)

NAMES = "A name of `r1 rewards ls`, or path/to/file.py:function."
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help=NAMES)]
CompletionOption = Annotated[str, typer.Option("--completion", metavar="FILE|-", help="A completion and its prefill.")]
FormOption = Annotated[AnswerForm | None, typer.Option("--form", help="Where the answer stands: see docs/math_grading.md.")]
DeadlineOption = Annotated[float, typer.Option("--deadline", min=0.01, help="Seconds after which a text's judging is killed.")]


@app.command("ls")
def list_rewards() -> None:
    """List the reward functions that have a name.

    \b
    Example:
      r1 rewards ls
    """
    from r1.cli.reward_tables import text_table
    from rewards import REWARDS

    table = text_table("name", "what it rewards", "file")
    for name, function in REWARDS.items():
        path = Path(inspect.getsourcefile(inspect.unwrap(function)) or "-")
        with suppress(ValueError):
            path = path.relative_to(Path.cwd())
        table.add_row(*text_cells(name, (inspect.getdoc(function) or "-").splitlines()[0], path))
    new_console().print(table)


@app.command("try")
def try_reward(
    name: NameArgument,
    completion: CompletionOption,
    gold: Annotated[str | None, typer.Option("--gold", help='The gold answer: the reference\'s "answer".')] = None,
    reference: Annotated[str, typer.Option("--reference", metavar="JSON", help="The rest of the reference, an object.")] = "{}",
    form: FormOption = None,
    deadline: DeadlineOption = 2.0,
) -> None:
    """Judge one completion: the value, and how long it took.

    math_answer also shows what it extracted and what decided. Exit code 1 when the reward function fails or runs out of time.

    \b
    Examples:
      r1 rewards try math_answer --completion answer.txt --gold 72
      echo '<answer>0.5</answer>' | r1 rewards try math_answer --completion - --gold 1/2 --form tags
      r1 rewards try my_rewards.py:short --completion answer.txt --reference '{"max_words": 20}'
    """
    from r1.cli.reward_cases import EXPLAINED, Case, judge_cases, with_form

    whole_reference = with_form(_read_reference(reference, gold), form)
    if name == "math_answer" and "answer" not in whole_reference:
        raise UserError("option '--gold': math_answer compares with a gold answer, none given; add --gold X")
    with TemporaryDirectory(prefix="r1-rewards-") as folder:
        report_file = Path(folder) / "report.json"
        is_explained = name == "math_answer"
        case = Case(
            case_id="",
            kind="",
            text=_read_completion(completion),
            is_bare_answer=False,
            reference={**whole_reference, "report": str(report_file)} if is_explained else whole_reference,
            expected=None,
        )
        [outcome] = judge_cases([case], EXPLAINED if is_explained else name, deadline)
        report = json.loads(report_file.read_text(encoding="utf-8")) if report_file.exists() else {}
    for label, value in _describe(name, outcome, report).items():
        # Indented, so that no line of an extracted answer looks like one of ours.
        print_line(new_console(), f"{label:12}{value}".replace("\n", f"\n{'':12}"))
    if outcome.error is not None:
        raise typer.Exit(1)


@app.command("test")
def run_cases(
    path: Annotated[Path, typer.Argument(metavar="CASES.jsonl", help="One JSON object a line.")],
    reward: Annotated[str, typer.Option("--reward", help=NAMES)] = "math_answer",
    form: FormOption = None,
    limit_slowest: Annotated[int, typer.Option("--limit-slowest", min=0, help="How many of the slowest cases to show.")] = 5,
    limit_misses: Annotated[int, typer.Option("--limit-misses", min=0, help="How many misses to show.")] = 50,
    deadline: DeadlineOption = 2.0,
) -> None:
    """Judge a file of cases and show the misses; exit code 1 when there is one.

    A row has a `completion` (prefill included), or for math_answer a bare `answer`; the `gold` answer, or a `reference` object;
    and what is `expected`: true, false, a number, null for "cannot be judged", or "any" for whatever comes in time and without
    an error. `id`, `kind` and `form` may stand beside them. A value above the expected one is a false positive, one below it a
    false negative. Each time is taken alone, with one child; about 0.1 ms of it is the way to the child and back.

    \b
    Examples:
      r1 rewards test cases.jsonl
      r1 rewards test cases.jsonl --reward reasoning_format --limit-slowest 0
      {"id": "half", "kind": "fraction", "gold": "1/2", "answer": "0.5", "expected": true}
    """
    from r1.cli.reward_cases import count_verdicts, judge_cases, read_cases
    from r1.cli.reward_tables import print_kinds, print_misses, print_slowest

    cases = read_cases(path, reward, form)
    outcomes = list(_with_progress(judge_cases(cases, reward, deadline), len(cases), "cases"))
    misses = [outcome for outcome in outcomes if outcome.verdict != "right"]
    console = new_console()
    if misses and limit_misses:
        print_misses(console, misses, limit_misses)
    print_kinds(console, outcomes)
    if limit_slowest:
        print_slowest(console, sorted(outcomes, key=lambda outcome: -outcome.seconds)[:limit_slowest])
    seconds = sum(outcome.seconds for outcome in outcomes)
    counts = ", ".join(f"{number} {verdict}" for verdict, number in count_verdicts(outcomes).items() if verdict != "right")
    print_line(console, f"{len(outcomes)} cases, {len(misses)} misses: {counts}")
    print_line(console, f"{seconds:.2f} s, {len(outcomes) / seconds:.0f} a second, one after another in one child")
    if misses:
        raise typer.Exit(1)


@app.command()
def rescore(
    run: RunFolder,
    step: Annotated[int | None, typer.Option("--step", help="Only this step; without it, all that are stored.")] = None,
    heldout: HeldoutOption = False,
    rewards: Annotated[list[str] | None, typer.Option("--reward", help="Only this reward function; may be repeated.")] = None,
    count: Annotated[int, typer.Option("-n", "--count", min=0, help="How many changes to show.")] = 10,
) -> None:
    """Judge stored completions again, with today's reward functions, and list what changed.

    Without --reward, the functions are those whose values the traces carry. Nothing is written.

    \b
    Examples:
      r1 rewards rescore RUN
      r1 rewards rescore RUN --step 12 --reward math_answer -n 50
    """
    from r1.cli.rescoring import Tally, compare, is_changed, rescored, steps_to_rescore
    from r1.cli.reward_tables import print_changes, print_tallies

    split: Split = "heldout" if heldout else "train"
    steps = steps_to_rescore(run, step, split)
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    examples: list[Change] = []
    for scored in _with_progress(rescored(run, steps, split, rewards or ()), len(steps), "steps"):
        for change in (change for row, score in scored for change in compare(row, score)):
            tallies[change.part].old.append(change.old)
            tallies[change.part].new.append(change.new)
            if len(examples) < count and is_changed(change.old, change.new):
                examples.append(change)
    console = new_console()
    print_tallies(console, tallies)
    num_changed = sum(tally.num_changed for tally in tallies.values())
    if num_changed == 0:
        print_line(console, "nothing changed")
    if examples:
        print_changes(console, examples)
    if num_changed > len(examples):
        print_line(console, f"{num_changed - len(examples)} more changes; show them with -n {num_changed}", style="dim")


def _read_completion(path: str) -> str:
    try:
        # Read as bytes: a text stream would turn \r\n into \n, and the rewards see what the policy wrote.
        return (sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()).decode("utf-8")
    except OSError as error:
        raise UserError(f"option '--completion': cannot read {path!r}: {error.strerror}; give a file, or - for stdin") from error
    except UnicodeDecodeError as error:
        raise UserError(f"option '--completion': {path!r} is not UTF-8 text ({error.reason}); convert it") from error


def _read_reference(text: str, gold: str | None) -> dict[str, Any]:
    try:
        reference = json.loads(text)
    except ValueError as error:
        raise UserError(f"option '--reference': not JSON ({error}), got {text!r}; give an object such as '{{}}'") from error
    if not isinstance(reference, dict):
        raise UserError(f"option '--reference': a JSON object is needed, got {text!r}; a bare gold answer is --gold")
    return reference if gold is None else {**reference, "answer": gold}


def _describe(name: str, outcome: "Outcome", report: dict[str, Any]) -> dict[str, str]:
    """The lines of `try`: label -> text."""
    value = "cannot be judged (None: the sample leaves the baseline)" if outcome.value is None else f"{outcome.value:g}"
    lines = {"reward": name, "value": value if outcome.error is None else "-"}
    if outcome.error is not None:
        lines["error"] = outcome.error.partition(": ")[2]
    if report:
        lines["extracted"] = "nothing" if report["answer"] is None else report["answer"]
        lines["decided by"] = report["path"]
        return lines | {"took": f"{report['seconds'] * 1000:.2f} ms"}
    return lines | {"took": f"{outcome.seconds * 1000:.2f} ms, about 0.1 ms of it between two processes"}


def _with_progress(items: Iterable[Item], total: int, unit: str) -> Iterator[Item]:
    """Pass the items on, and say on stderr how far it is: in place on a terminal, a line every 10 s elsewhere."""
    is_terminal = sys.stderr.isatty()
    start = last = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= (0.2 if is_terminal else 10.0):
            last = now
            line = f"{number} of {total} {unit}, {now - start:.0f} s"
            print(f"\r{line}" if is_terminal else line, end="" if is_terminal else "\n", file=sys.stderr, flush=True)
    if is_terminal and last > start:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
