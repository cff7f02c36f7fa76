"""`r1 report` and `r1 serve`: runs as one page, as a file or live."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r1.errors import UserError

if TYPE_CHECKING:
    from tasks.base import Split

# plotly, pyarrow and the store are imported where they are used: `r1 --help` answers without them.

Runs = Annotated[
    list[str], typer.Argument(metavar="RUN", help="The folders, or URLs, that the runs write to.", show_default=False)
]
Samples = Annotated[
    int, typer.Option("--samples", min=0, help="Training steps to show completions of, at most; 0: none, of held-out neither.")
]


def report(
    runs: Runs,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The file; without it RUN/report.html, ./report.html of several or a URL.", show_default=False
        ),
    ] = None,
    samples: Samples = 6,
) -> None:
    """Write a run as one HTML file.

    Figures of all that it has recorded, completions of some steps, its options and versions. The file loads nothing: it can
    be sent by mail, and opened without a network. Several runs are drawn into the same figures, with the options that they
    have otherwise beside each other. It can be made while a run goes on. docs/report.md says what each figure tells.

    \b
    Examples:
      r1 report RUN                          RUN/report.html
      r1 report RUN RUN2 -o compare.html     both runs in every figure
      r1 report RUN --samples 12             completions of more steps
    """
    from r1.fetched_run import local_runs
    from r1.files import atomic_file
    from r1.report.choice import shown_steps
    from r1.report.page import report_page
    from r1.storage import is_url

    started_s = time.perf_counter()
    folders = local_runs(runs, lambda split, stored: shown_steps(split, stored, samples))
    path = output or (folders[0] / "report.html" if len(runs) == 1 and not is_url(runs[0]) else Path("report.html"))
    if path.is_dir():
        raise UserError(f"option '--output': {str(path)!r} is a folder; give the name of a file in it")
    page = report_page(folders, samples).encode()
    try:
        with atomic_file(path) as temporary:
            temporary.write_bytes(page)
    except OSError as error:
        raise UserError(f"option '--output': cannot write {str(path)!r}: {error.strerror}; choose another file") from error
    print(f"{path}: {len(page) / 1e6:.1f} MB, of which plotly.js is 4.8, in {time.perf_counter() - started_s:.1f} s")


def serve(
    runs: Runs,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 8642,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; any but loopback lets others read.")] = "127.0.0.1",
    samples: Samples = 6,
) -> None:
    """Show runs in a browser while they go on.

    The page of `r1 report`, which follows the run as it writes its steps; Ctrl-C ends it. It listens on loopback only unless
    --host says otherwise, answers nothing but this page, and changes nothing. From another machine:
    ssh -L 8642:127.0.0.1:8642 HOST, then open the address in a browser there.

    \b
    Examples:
      r1 serve RUN
      r1 serve RUN RUN2 --port 9000
    """
    from r1.fetched_run import follow, local_runs
    from r1.report.choice import shown_steps
    from r1.report.live import LiveReport
    from r1.report.server import is_loopback, open_server

    def choose(split: "Split", stored: Sequence[int]) -> list[int]:
        return shown_steps(split, stored, samples)

    server = open_server(LiveReport(local_runs(runs, choose), samples), host, port)
    follow(runs, choose)
    if not is_loopback(host):
        print(f"warning: --host {host}: anybody who reaches port {server.server_port} can read the run, samples and options")
    print(f"{server.url}  (Ctrl-C ends it)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("ended")
    finally:
        server.server_close()
