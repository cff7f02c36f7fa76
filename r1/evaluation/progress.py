"""How far an evaluation is: a line for each chunk, and now and then one while a chunk is being sampled."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from r1.cli.printing import printable
from r1.evaluation.problems import Chunk
from r1.evaluation.samples import EvaluatedProblem
from r1.types import RolloutGroup

if TYPE_CHECKING:
    from rich.console import Console

SAY_EVERY_S = 30.0
"""How often a line comes at most while a chunk is being sampled."""


@dataclass(frozen=True, slots=True)
class Say:
    """Prints what is going on: rows, file names and errors as `printable` leaves them, never as markup."""

    console: "Console"

    def line(self, text: str, style: str = "") -> None:
        self.console.print(printable(text), style=style, highlight=False, markup=False, soft_wrap=True)

    def fault(self, text: str) -> None:
        self.line(text, style="yellow")


@dataclass
class Progress:
    """Counts what comes in."""

    say: Say
    num_chunks: int
    """In all."""
    problems: dict[str, list[EvaluatedProblem]] = field(default_factory=dict)
    """Name of a chunk's part -> those that are finished."""
    started_s: float = 0.0
    """time.monotonic() when the engines were up; 0.0 before."""
    said_s: float = 0.0
    num_finished: int = 0
    """Chunks."""
    num_completions: int = 0
    """Sampled by this process; so are the tokens."""
    num_tokens: int = 0

    def begin(self) -> None:
        self.started_s = self.said_s = time.monotonic()

    def on_group(self, chunk: Chunk, group: RolloutGroup) -> None:
        self.num_completions += len(group.completions)
        self.num_tokens += sum(len(completion.token_ids) for completion in group.completions)
        if time.monotonic() - self.said_s > SAY_EVERY_S:
            self._say(chunk, f"in chunk {self.num_finished + 1} of {self.num_chunks}")

    def end_chunk(self, chunk: Chunk, problems: Sequence[EvaluatedProblem]) -> None:
        self.problems.setdefault(chunk.part, []).extend(problems)
        self.num_finished += 1
        if self.started_s:
            self._say(chunk, f"chunk {self.num_finished} of {self.num_chunks} done")

    def _say(self, chunk: Chunk, state: str) -> None:
        self.said_s = time.monotonic()
        passed_s = max(1e-9, self.said_s - self.started_s)
        finished = self.problems.get(chunk.part, [])
        num_samples = sum(len(problem.samples) for problem in finished)
        accuracy = f", accuracy {sum(problem.num_right for problem in finished) / num_samples:.3f}" if num_samples else ""
        self.say.line(
            f"{chunk.part}: {state}, {len(finished)} problems{accuracy}; "
            f"{self.num_completions / passed_s:.1f} completions/s, {self.num_tokens / passed_s:.0f} tokens/s, "
            f"since {passed_s:.0f} s"
        )
