"""`r1 config`: the configuration of a file or of a run, and what two of them have otherwise."""

from typing import Annotated

import typer

from r1.cli.printing import new_console, new_table, text_cells

HELP = """Read the configuration of a file or of a run.

\b
Examples:
  r1 config show launch/configs/dapo.toml
  r1 config diff runs/first runs/second
"""

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=HELP)

Source = typer.Argument(metavar="FILE|RUN", help="A .toml file, or the folder that a run wrote.", show_default=False)


@app.command()
def show(
    source: Annotated[str, Source],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="section.option=value", help="Options to set otherwise.", show_default=False)
    ] = None,
    docs: Annotated[bool, typer.Option("--docs", help="Say what each option means and its unit.")] = False,
) -> None:
    """Print every option as TOML, with its default beside it.

    The names of presets are resolved, and the output loads again as a configuration.

    \b
    Examples:
      r1 config show launch/configs/dapo.toml
      r1 config show launch/configs/quickstart.toml --docs > mine.toml
      r1 config show RUN num_steps=100
    """
    from r1.config_text import config_lines, read_config  # imports pydantic: `r1 --help` answers without it

    for line in config_lines(read_config(source, overrides or ()), docs=docs):
        print(line)


@app.command()
def diff(first: Annotated[str, Source], second: Annotated[str, Source]) -> None:
    """Print the options that two configurations have otherwise; nothing when they are the same.

    \b
    Examples:
      r1 config diff launch/configs/dapo.toml launch/configs/dr_grpo.toml
      r1 config diff runs/first runs/second
    """
    from r1.config_text import differing_options, read_config

    differing = differing_options(read_config(first), read_config(second))
    if not differing:
        return
    table = new_table("option", first, second)
    for column in table.columns:
        column.justify = "left"
    for row in differing:
        table.add_row(*text_cells(*row))
    new_console().print(table)
