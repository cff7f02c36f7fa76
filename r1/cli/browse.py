"""`r1 traces browse`: the terminal app; everything it needs is imported when it starts."""

import os
import sys
from typing import Annotated

import typer

from r1.errors import UserError


def browse(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder or URL, or a folder of runs.", show_default=False)],
) -> None:
    """Walk through a run in the terminal: steps, groups, completions.

    Enter opens, q goes back, / searches, f filters by reward, c colours the tokens, ? lists all keys. A run that is still
    training may be read at any time.

    \b
    Examples:
      r1 traces browse runs/quickstart-20250101-120000
      r1 traces browse runs
    """
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)) or os.environ.get("TERM", "dumb") == "dumb":
        raise UserError("`r1 traces browse` needs a terminal for input and output; in a pipe use `r1 traces ls`, show or group")
    from r1.browse.app import Browser
    from r1.fetched_run import follow, local_run

    # The mouse stays with the terminal: people select and copy the text with it.
    folder = local_run(run)
    follow([run])
    Browser(folder).run(mouse=False)
