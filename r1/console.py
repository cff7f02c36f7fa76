"""What people see of a run: a line a step, warnings in words, now and then a completion; on a terminal a panel below them.

Where the output is no terminal (a pipe, a file, a Ray job) there are lines alone and no control characters.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from r1.config import RunConfig
from r1.console_numbers import Event, Number, clock, heldout_text, line_numbers, panel_numbers, phase_seconds, step_seconds
from r1.console_panel import Panel
from r1.console_sample import choose_sample, log_lines
from r1.run_history import RECENT, mismatch_is_bounded
from r1.run_output import RunOutput
from r1.step_warnings import StepWarning, WarningLog
from r1.trace_choice import TraceChoice
from r1.types import ScoredGroup

REFRESHES_PER_S = 1.0
"""Of the panel between steps, for its clock and for a terminal whose size changes; one takes 6 ms of a core."""
_STYLES = {
    "step": "bold",
    "held-out at step": "bold magenta",
    "reward": "green",
    "accuracy": "bold green",
    "format": "cyan",
}


class RunConsole:
    """Tells people what an observer tells it.

    Use it as a context manager: entering the block shows the panel, leaving it in whatever way gives the terminal back.
    """

    def __init__(self, config: RunConfig, output: RunOutput, events: Iterable[Event] = ()) -> None:
        """events: what the record holds of the run so far, where it is resumed."""
        self._config, self._output, self._console = config, output, output.console
        self._events: list[Event] = []
        self._warnings = WarningLog(config)
        self._step_seconds: deque[float] = deque(maxlen=20)  # the time left follows the completions as they grow longer
        self._panel = Panel(name=config.name, num_steps=config.num_steps)
        self._live: Live | None = None
        if _is_live(self._console):
            self._live = Live(
                get_renderable=lambda: self._panel,
                console=self._console,
                refresh_per_second=REFRESHES_PER_S,
                transient=True,
                vertical_overflow="crop",
                # Only what would be written into the panel: of `2>errors.log` rich would make lines on the terminal.
                redirect_stdout=sys.stdout.isatty(),
                redirect_stderr=sys.stderr.isatty(),
            )
        self._replay(events)

    def __enter__(self) -> "RunConsole":
        if self._live:
            self._live.start(refresh=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Take the panel away and give the terminal back; may be called twice."""
        if self._live:
            self._live.stop()

    def begin(self, doing: str) -> None:
        """Say on the panel what the run does from now on."""
        self._panel.doing, self._panel.since_s = doing, time.monotonic()
        self._refresh()

    def show_groups(self, step: int, groups: Sequence[ScoredGroup]) -> None:
        """Show a completion of a step that has been learnt from."""
        if self._live or is_sample_step(step, self._config.num_steps):
            self._panel.sample = choose_sample(step, groups, self._config.seed, TraceChoice.parse(self._config.logging.traces))
            if self._panel.sample and not self._live:
                for line in log_lines(self._panel.sample, self._console):
                    self._say(line)
        self.begin(f"step {step}: weight sync")

    def show(self, event: Event) -> None:
        """Show a step or an evaluation as it was recorded."""
        due = self._take(event)
        if event["kind"] == "step":
            self._step_seconds.append(step_seconds(event))
            mean_s = sum(self._step_seconds) / len(self._step_seconds)
            self._panel.left = clock(mean_s * max(0, self._config.num_steps - event["step"]))
            self._show_step(event)
        else:
            fields = [Number(label="held-out at step", text=str(event["step"])), *line_numbers(event)]
            self._print_line(fields, [])
        for warning in due:
            self._say(f"warning: {warning}", style="yellow")
        self.begin(f"step {event['step'] + 1}" if event["step"] < self._config.num_steps else "finishing")

    def rewind(self, last_step: int) -> None:
        """Forget the events after `last_step`: those steps are done again."""
        kept = [event for event in self._events if event["step"] <= last_step]
        self._events, self._warnings = [], WarningLog(self._config)
        self._panel = Panel(name=self._config.name, num_steps=self._config.num_steps, left=self._panel.left)
        self._replay(kept)
        self.begin(f"step {last_step + 1}")

    def _replay(self, events: Iterable[Event]) -> None:
        """What was said of them was said by an earlier process, or before the run went back."""
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> list[StepWarning]:
        """Add an event to what the panel shows; return the warnings that are due."""
        panel, before = self._panel, [other for other in self._events[-2 * RECENT :] if other["kind"] == "step"]
        due = self._warnings.add(event)
        self._events.append(event)
        panel.warnings = [warning.key for warning in self._warnings.now]
        if event["kind"] == "step":
            panel.step = event["step"]
            panel.numbers = panel_numbers(event, before)
            panel.seconds = [Number(label="seconds", text=f"{step_seconds(event):.1f}s"), *phase_seconds(event)]
            panel.is_alarming = self._is_alarming(event)
        else:
            first = next(other for other in self._events if other["kind"] == "heldout")
            panel.heldout = heldout_text(event, first)
        return due

    def _show_step(self, event: Event) -> None:
        fields = [Number(label="step", text=f"{event['step']}/{self._config.num_steps}"), *line_numbers(event)]
        more = [Number(label="", text=f"{self._step_seconds[-1]:.1f} s/step")]
        if not self._live:
            more = [*phase_seconds(event), *more, Number(label="left", text=self._panel.left)]
        self._print_line(fields, more)

    def _is_alarming(self, event: Event) -> bool:
        mismatch = event["metrics"].get("mismatch", 0.0)
        is_above = mismatch is None or mismatch > self._config.sync.max_logprob_diff  # None was not finite
        return is_above and mismatch_is_bounded(self._config)

    def _print_line(self, fields: Sequence[Number], more: Sequence[Number]) -> None:
        styles = {**_STYLES, "mismatch": "bold red"} if self._panel.is_alarming else _STYLES
        parts = [
            Text.assemble((f"{field.label} " if field.label else "", "dim"), (field.text, styles.get(field.label, "")))
            for field in [*fields, *more]
        ]
        # A terminal gets one line a step: what does not fit stands in the panel.
        while self._live and sum(part.cell_len + 2 for part in parts) - 2 > self._console.width and len(parts) > 1:
            parts.pop()
        self._output.print(Text("  ").join(parts), soft_wrap=True)

    def _say(self, text: str, style: str = "") -> None:
        self._output.say(text, style, soft_wrap=not self._live)

    def _refresh(self) -> None:
        if self._output.is_gone:
            self.close()  # what others write to stderr is no longer a part of the panel
        if self._live and self._live.is_started:
            self._live.refresh()


def is_sample_step(step: int, num_steps: int) -> bool:
    """Whether a log shows a completion of this step: often at the beginning, then ten times, and at the end.

    >>> [step for step in range(1, 101) if is_sample_step(step, 100)]
    [1, 2, 4, 8, 10, 16, 20, 30, 32, 40, 50, 60, 64, 70, 80, 90, 100]
    """
    return step & (step - 1) == 0 or step % -(-num_steps // 10) == 0 or step == num_steps


def _is_live(console: Console) -> bool:
    # FORCE_COLOR makes rich take a pipe for a terminal: colours are wanted there, a moving cursor is not.
    is_forced = "FORCE_COLOR" in os.environ and not console.file.isatty()
    return console.is_interactive and not is_forced
