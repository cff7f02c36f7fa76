"""Running the real program and looking for what it leaves behind."""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import psutil
from tiny import ROOT

QUICKSTART = "launch/configs/quickstart.toml"


class Program:
    """`python -m launch.train`, or another, in a process of its own, with every descendant that it was seen to have."""

    def __init__(self, *arguments: str, module: str = "launch.train", variables: Mapping[str, str] | None = None) -> None:
        """variables: of its environment, besides those of this process."""
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | dict(variables or {})
        # Files and no pipes: nobody reads while the test looks on, and Ray says so much of each process that dies that a pipe
        # (64 KiB) is full after 40 of them and the program stands still.
        self._out, self._err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with this
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=self._out,
            stderr=self._err,
        )
        self._seen: dict[int, psutil.Process] = {}

    def look(self) -> None:
        """Remember the descendants that there are now; orphans can only be found again by their id."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            self._seen.setdefault(child.pid, child)

    def wait_for_step(self, run_dir: Path, step: int, timeout_s: float = 240.0) -> None:
        """Block until the step is in metrics.jsonl."""
        deadline = time.monotonic() + timeout_s
        while not any(event["step"] >= step for event in steps_of(run_dir)):
            assert self.process.poll() is None, f"the program ended early: {self._text(self._err)}"
            assert time.monotonic() < deadline, f"no step {step} after {timeout_s} s"
            self.look()
            time.sleep(0.1)

    def find(self, name: str) -> psutil.Process:
        """The one descendant whose title begins with `name`, e.g. ray::RolloutWorker."""
        self.look()
        [found] = [p for p in self._seen.values() if p.is_running() and any(part.startswith(name) for part in p.cmdline())]
        return found

    def kill_all(self) -> None:
        """SIGKILL the program and everything that it started, at once, as when a machine goes down."""
        self.look()
        for process in [psutil.Process(self.process.pid), *self._seen.values()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def wait(self, timeout_s: float = 300.0) -> tuple[int, str, str]:
        """(exit code, stdout, stderr), once it has ended."""
        code = self.process.wait(timeout=timeout_s)
        return code, self._text(self._out), self._text(self._err)

    def _text(self, file: IO[str]) -> str:
        file.seek(0)
        return file.read()

    def survivors(self, grace_s: float = 20.0, but: str | None = None) -> list[str]:
        """Descendants that still live after a while. but: a pattern for the titles of those that may."""
        waited_for = [process for process in self._seen.values() if not (but and re.match(but, _title(process)))]
        _, alive = psutil.wait_procs(waited_for, timeout=grace_s)
        return [" ".join(p.cmdline()) or p.name() for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def steps_of(run_dir: Path) -> list[dict]:
    """The training steps in metrics.jsonl so far."""
    path = run_dir / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
    return [event for event in map(json.loads, lines) if event["kind"] == "step"]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def shared_memory_files() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("r1-weights-*")}
