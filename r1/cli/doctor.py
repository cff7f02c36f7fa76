"""`r1 doctor`: whether runs can work on this machine, or on every node of a cluster."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

# What the checks need is imported where it is used: `r1 --help` answers without it.
if TYPE_CHECKING:
    from r1.doctor.result import Result

STYLES = {"ok": "green", "warning": "yellow", "red": "bold red"}
WORDS = {"ok": "ok", "warning": "warning", "red": "RED"}


def doctor(
    config: Annotated[
        str | None, typer.Argument(metavar="[CONFIG]", help="A .toml file: its run's needs are checked too.", show_default=False)
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="section.option=value", help="Options to set otherwise.", show_default=False)
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address", envvar="RAY_ADDRESS", help="HOST:PORT of a Ray cluster: each node is checked.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print results and facts as JSON.")] = False,
) -> None:
    """Check whether a run can work here: versions, code, devices, memory, disk, ports, clocks.

    With --address (or RAY_ADDRESS) every node of that cluster is asked. Each line says what was found, and where it is not ok
    what the rule is and what to do. Exit code 0: nothing is red, 1: something is. docs/doctor.md explains each check.

    \b
    Examples:
      r1 doctor                                                 this machine
      r1 doctor launch/configs/quickstart.toml num_steps=500    and what this run needs
      r1 doctor CONFIG --address 10.0.0.1:6379                  each node of a cluster
      ray job submit --working-dir . -- python -m r1.cli.main doctor CONFIG   the same as a submitted run finds it
    """
    from r1.config import load_config
    from r1.doctor.diagnosis import diagnose

    found = diagnose(load_config(config, overrides or ()) if config else None, address)
    if as_json:
        print(json.dumps({"results": [asdict(result) for result in found.results], "facts": found.facts}, indent=2))
    else:
        _print_results(found.results)
    raise typer.Exit(0 if found.is_well else 1)


def _print_results(results: "Sequence[Result]") -> None:
    from rich.text import Text

    from r1.cli.printing import new_console, printable_line

    console, width = new_console(), max(len(result.check) for result in results)
    for result, where in _by_nodes(results):
        word = Text(f"{WORDS[result.verdict]:<9}", style=STYLES[result.verdict])
        line = f"{result.check:<{width}}  {where}{': ' if where else ''}{result.line}"
        console.print(word.append(printable_line(line), style="default"), soft_wrap=True)
    counts = {verdict: sum(result.verdict == verdict for result in results) for verdict in STYLES}
    console.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))


def _by_nodes(results: "Sequence[Result]") -> "Iterator[tuple[Result, str]]":
    """Each thing that is said once, with the nodes that it is said of."""
    said: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        said.setdefault((result.check, result.verdict, result.line), []).append(result)
    for same in said.values():
        nodes = [result.node for result in same if result.node]
        yield same[0], ", ".join(nodes) if len(nodes) < 4 else f"{', '.join(nodes[:2])} and {len(nodes) - 2} more"
