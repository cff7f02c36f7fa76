import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from browsing import small_run

from r1.cli.main import main

ROOT = Path(__file__).parents[1]


class Terminal:
    """A real terminal of 80 x 24 with 256 colours, in which `r1 traces browse` runs; tmux plays it."""

    def __init__(self, name: str, folder: Path) -> None:
        self._tmux = ["tmux", "-L", name, "-f", "/dev/null"]
        command = f"{shlex.quote(sys.executable)} -m r1.cli.main traces browse {shlex.quote(str(folder))}"
        self._run("new-session", "-d", "-x", "80", "-y", "24", f"cd {ROOT} && TERM=xterm-256color {command}; echo code $?; sleep 60")

    def press(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def until_shown(self, *texts: str) -> str:
        """Wait until all of them are on the screen; return it."""
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            screen = self._run("capture-pane", "-p")
            if all(text in screen for text in texts):
                return screen
            time.sleep(0.05)
        raise AssertionError(f"{texts} never came; the screen:\n{screen}")

    def close(self) -> None:
        self._run("kill-server")

    def _run(self, *arguments: str) -> str:
        return subprocess.run([*self._tmux, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("tmux") is None and "R1_REQUIRE_BROWSER" not in os.environ,  # CI sets it: there, this test must not be left out
    reason="drives a real terminal with tmux, which is not installed",
)
def test_the_command_in_a_real_terminal(tmp_path):
    run = small_run(tmp_path / "a-run")
    terminal = Terminal(f"r1-browse-{tmp_path.parent.name}-{tmp_path.name}", run)
    try:
        terminal.until_shown("a-run", "steps  ·  5", "0.55", "? help")
        terminal.press("k", "k", "Enter")
        terminal.until_shown("step 2 training", "problem-1")
        terminal.press("/", "g", "a", "m", "m", "a", "Enter")
        terminal.until_shown("1 completions of this step match")
        terminal.press("Enter")
        terminal.until_shown("› group 1 problem-1 › sample 0", "<think>so 19.</think>")
        terminal.press("]")
        terminal.until_shown("› sample 1", "no idea no idea")
        terminal.press("f", ">", "1", "Enter")
        terminal.until_shown("1 of 3  ·  filter >1", "› sample 0")
        terminal.press("Enter")
        terminal.until_shown("metadata", "policy_version")
        terminal.press("q", "q", "q", "q")
        terminal.until_shown("code 0")
    finally:
        terminal.close()


def test_without_a_terminal_it_says_so_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["traces", "browse", str(small_run(tmp_path))])
    captured = capsys.readouterr()
    assert exit_.value.code == 2
    assert captured.err.startswith("error: `r1 traces browse` needs a terminal")
    assert captured.err.count("\n") == 1


def test_what_is_no_run_is_refused_before_the_screen_is_taken(tmp_path, capsys, monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(getattr(sys, name), "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    with pytest.raises(SystemExit) as exit_:
        main(["traces", "browse", str(tmp_path)])
    captured = capsys.readouterr()
    assert (exit_.value.code, captured.out) == (2, "")
    assert "is no run and holds none" in captured.err
