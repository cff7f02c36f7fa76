"""One child process of the reward pool as its parent sees it: start it, exchange lines with it, kill it."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r1.config import ScoringConfig
from r1.scoring_rules import Rewarding

START_LIMIT_S = 120.0
"""Longest time for a child to import its reward functions; a second on an idle machine, so generous for a busy one."""


@dataclass(kw_only=True, slots=True, eq=False)
class Job:
    """One completion on its way to a score."""

    request: bytes
    """The line that the child reads."""
    rewarding: Rewarding
    parts: list[tuple[float | None, str | None]] = field(default_factory=list)
    """(value, error) of the reward functions that have answered, in their order."""
    attempts: int = 0
    timed_out: str | None = None
    """The reward function that missed the deadline."""
    started_s: float = 0.0
    """time.monotonic() of the last attempt's start; so is the next one."""
    ended_s: float = 0.0


class Child:
    """One child process as the parent sees it: starting, then idle, then busy with one job, then idle again."""

    def __init__(self, rewards: Sequence[str], config: ScoringConfig) -> None:
        self.socket, childs_end = socket.socketpair()
        self.socket.setblocking(False)
        self.is_ready = False
        self.job: Job | None = None
        self.kill_at = time.monotonic() + START_LIMIT_S
        self.unsent = b""
        self._received = b""
        with childs_end:
            code_root = str(Path(__file__).resolve().parents[1])
            settings = {"socket": childs_end.fileno(), "rewards": rewards, "deadline_s": config.deadline_s}
            search_path = os.pathsep.join(filter(None, [code_root, os.environ.get("PYTHONPATH")]))
            self.process = subprocess.Popen(
                # -P: our own copy of r1, not one that happens to lie in the current folder.
                [sys.executable, "-P", "-m", "r1.scoring_child", json.dumps(settings)],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=(childs_end.fileno(),),
                # A fixed hash seed: sympy walks over sets, and the same completion must get the same reward again.
                env={**os.environ, "PYTHONPATH": search_path, "PYTHONHASHSEED": "0"},
                # Its own process group, so that what a reward function started is killed with it. Not a session: when the
                # parent dies, the kernel ends a group that is stopped only if it was in the parent's session.
                process_group=0,
            )

    def start(self, job: Job, deadline_s: float) -> None:
        job.attempts += 1
        job.parts.clear()
        job.started_s = time.monotonic()
        self.job, self.unsent = job, job.request
        self.kill_at = job.started_s + deadline_s

    def rest(self) -> None:
        self._note_end()
        self.job, self.kill_at = None, math.inf

    def _note_end(self) -> None:
        if self.job is not None:
            self.job.ended_s = time.monotonic()

    def send(self) -> None:
        """Send what the socket takes now; raise ConnectionError when the child is dead."""
        with suppress(BlockingIOError):
            self.unsent = self.unsent[self.socket.send(self.unsent) :]

    def receive(self) -> list[Any]:
        """Return the messages that are complete by now; raise ConnectionError when the child is dead."""
        try:
            chunk = self.socket.recv(65536)
        except BlockingIOError:
            return []
        if not chunk:
            raise ConnectionResetError("the child closed its socket")
        *lines, self._received = (self._received + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def is_stopped(self) -> bool:
        """Whether somebody has stopped the process (SIGSTOP): then its reward function is not what takes so long."""
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:  # no Linux, or it has just ended
            return False
        return stat.rpartition(")")[2].split()[0] in "Tt"

    def kill(self) -> str:
        """End the process, if it has not ended, and say how it ended."""
        self._note_end()
        with suppress(ProcessLookupError, PermissionError):  # macOS: "not permitted" for a group that has ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        exit_code = self.process.wait()
        self.socket.close()
        return f"killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"
