"""A display that cannot be written to, or not with every character: the run goes on, and says so where it can."""

import io
import sys

import pytest
from rich.console import Console
from run_records import run_config, step

from r1.console import RunConsole
from r1.run_output import RunOutput


class Failing(io.StringIO):
    """Takes `num_writes` writes, then none."""

    def __init__(self, error: BaseException, num_writes: int) -> None:
        super().__init__()
        self.error, self.num_left = error, num_writes

    def write(self, text: str) -> int:
        if self.num_left == 0:
            raise self.error
        self.num_left -= 1
        return super().write(text)


ERRORS = {
    "no space": OSError(28, "No space left on device"),
    "no terminal": OSError(5, "Input/output error"),
    "no reader": BrokenPipeError(32, "Broken pipe"),  # rich would raise SystemExit
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("is_terminal", [False, True])
@pytest.mark.parametrize("num_writes", [0, 3, 5])
def test_a_display_that_fails_ends_no_run(error: str, is_terminal: bool, num_writes: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    before = (sys.stdout, sys.stderr)
    console = Console(file=Failing(ERRORS[error], num_writes), force_terminal=is_terminal, _environ={"TERM": "xterm"})
    output = RunOutput(console)
    with RunConsole(run_config(), output) as shown:
        assert ((sys.stdout, sys.stderr) == before) == (not is_terminal)  # the panel takes what others print
        for number in range(1, 11):
            shown.show(step(number, {"reward": 0.5, "truncated_share": 0.5}, {"sample": 1.0}))
        output.say("more")
        assert (sys.stdout, sys.stderr) == before

    assert [(fault.kind, fault.text.partition(" (")[0]) for fault in output.faults.faults] == [
        ("display", "the display cannot be written to")
    ]


def test_a_file_that_was_closed_ends_no_run():
    file = io.StringIO()
    output = RunOutput(Console(file=file))
    file.close()
    output.say("one")
    output.say("two")
    assert [fault.kind for fault in output.faults.faults] == ["display"]


def test_a_mistake_of_ours_is_not_taken_for_a_display_that_failed():
    output = RunOutput(Console(file=Failing(ValueError("ours"), 0)))
    with pytest.raises(ValueError, match="ours"):
        output.say("one")


@pytest.mark.parametrize("is_terminal", [False, True])
def test_what_an_encoding_lacks_is_shown_as_its_code(is_terminal: bool):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    output = RunOutput(Console(file=file, force_terminal=is_terminal, width=200, height=30, _environ={"TERM": "xterm"}))
    with RunConsole(run_config(), output) as shown:
        output.faults.add("tracker", "the server says no \u2013 403")
        for number in range(1, 4):
            shown.show(step(number, {"score_error_share": 0.015, "reward_errors/prüfung.py:judge": 3.0}))
    assert b"fault: the server says no \\u2013 403" in raw.getvalue()
    assert b"pr\\xfcfung.py:judge" in raw.getvalue()


def test_a_line_stays_one_line_and_commands_no_terminal():
    written = io.StringIO()
    output = RunOutput(Console(file=written, width=20))
    output.faults.add("tracker", "no\x1b[2J route\nfault: [bold]forged[/bold], and longer than the display is wide")
    assert written.getvalue() == ("fault: no\\x1b[2J route\\nfault: [bold]forged[/bold], and longer than the display is wide\n")
