"""The `r1` command: what a person does with a run besides starting it."""

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated

import typer

from r1.cli.config import app as config_app
from r1.cli.doctor import doctor
from r1.cli.printing import printable_line
from r1.cli.report import report, serve
from r1.cli.rewards import app as rewards_app
from r1.cli.tasks import app as tasks_app
from r1.cli.traces import app as traces_app
from r1.errors import RunError, UserError

app = typer.Typer(
    name="r1",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a bug shows Python's own traceback, a UserError none
    rich_markup_mode=None,  # plain help: as it stands in the source, and without loading rich
)
app.add_typer(traces_app, name="traces")
app.add_typer(rewards_app, name="rewards")
app.add_typer(tasks_app, name="tasks")
app.add_typer(config_app, name="config")
app.command()(report)
app.command()(serve)
app.command()(doctor)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"r1 {version('r1')}")
        except PackageNotFoundError:
            print("r1 (not installed, run from its source folder)")
        raise typer.Exit


@app.callback()
def r1(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Look into the runs of r1, a GRPO trainer that reproduces R1-Zero.

    RUN is the folder that a run writes to, e.g. runs/quickstart-20250101-120000.

    \b
    Examples:
      r1 traces ls RUN                       rewards and lengths, step by step; stats also repeats and reflections
      r1 traces show RUN --step 12 --worst   the completion of step 12 with the lowest reward; group: all of one prompt
      r1 traces diff RUN --heldout           the same problem before and after
      r1 traces grep RUN "(?i)let me check"  how many say so in each step, and examples
      r1 traces flag RUN                     suspicious completions: right without thinking, loops, several answers, ...
      r1 traces export RUN --format sft      the right ones as chats to fine-tune on; jsonl, csv, md
      r1 traces browse RUN                   all of it in the terminal, also while the run goes on
      r1 report RUN [RUN2 ...]               curves and samples as one HTML file; several runs are compared
      r1 serve RUN                           the same in a browser, live
      r1 rewards ls                          reward functions by name; try and test judge texts with them
      r1 rewards rescore RUN                 what they would say today of a run's completions
      r1 tasks show gsm8k -n 3 --model M     problems as the model would read them, and what became of the other rows
      r1 config show FILE                    every option of a configuration, resolved
      r1 config diff RUN FILE                the options that two of them have otherwise
      r1 doctor [FILE] [--address A]         whether a run can work here, or on every node of a cluster
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error of ours becomes one line on stderr, and exit code 2 when the user can mend it."""
    # What a model wrote may have characters that the terminal's encoding lacks: show their codes instead of failing.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(args=arguments, prog_name="r1")
    except UserError as error:
        print(f"error: {printable_line(str(error))}", file=sys.stderr)
        sys.exit(2)
    except RunError as error:  # a reward file that ends its process when it is imported, say
        print(f"error: {printable_line(str(error))}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
