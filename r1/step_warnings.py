"""Warnings in words while a run goes on: what a number means, what to do, and where docs/tuning.md has more.

A pure replay of the record: `warnings_of(read_metrics(run), config)` gives what the console said. The rules, and where their
thresholds come from, are in r1/sample_warnings.py and r1/learner_warnings.py; when one of them speaks is decided here, so that
a console stays calm.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from r1.config import RunConfig
from r1.learner_warnings import LEARNER_RULES
from r1.run_history import Rule, RunHistory
from r1.sample_warnings import SAMPLE_RULES

RULES: Mapping[str, Rule] = {**SAMPLE_RULES, **LEARNER_RULES}
"""Heading of docs/tuning.md -> its rule."""
REPEAT_STEPS = 50
"""A warning that goes on is said again after so many steps."""
GONE_STEPS = 10
"""One that was gone for so many steps is new when it comes again; before that it only flickered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepWarning:
    """One thing that looks wrong.

    >>> StepWarning(step=12, key="truncated", text="31 % of the completions were cut off").where
    'docs/tuning.md#truncated'
    """

    step: int
    """The last finished step."""
    key: str
    """A key of RULES, and a heading of docs/tuning.md."""
    text: str
    """The figure, what it means, what to do: plain words without line breaks."""

    @property
    def where(self) -> str:
        return f"docs/tuning.md#{self.key}"

    def __str__(self) -> str:
        return f"{self.text}; see {self.where}"


@dataclass
class WarningLog:
    """Follows a run event by event and says each warning when it begins, and now and then while it goes on."""

    config: RunConfig | None = None
    """Of the run; without it, rules that need its bounds say nothing."""
    now: list[StepWarning] = field(default_factory=list)
    """All that hold after the last event, said or not."""
    _steps: list[Mapping[str, Any]] = field(default_factory=list)
    _heldout: list[Mapping[str, Any]] = field(default_factory=list)
    _held: dict[str, int] = field(default_factory=dict)
    """Key -> the last step at which it held; so is the next one, for when it was said."""
    _said: dict[str, int] = field(default_factory=dict)
    _window_means: dict[str, list[float | None]] = field(default_factory=dict)
    """As in RunHistory."""

    def add(self, event: Mapping[str, Any]) -> list[StepWarning]:
        """Take the next event, as `read_metrics` returns it; return what is to be said now."""
        (self._steps if event["kind"] == "step" else self._heldout).append(event)
        step = event["step"]
        self.now = _what_holds(
            RunHistory(steps=self._steps, heldout=self._heldout, config=self.config, window_means=self._window_means)
        )
        said = [warning for warning in self.now if self._is_due(warning.key, step)]
        self._held |= {warning.key: step for warning in self.now}
        self._said |= {warning.key: step for warning in said}
        return said

    def _is_due(self, key: str, step: int) -> bool:
        begins = key not in self._held or step - self._held[key] > GONE_STEPS
        return begins or step - self._said[key] >= REPEAT_STEPS


def warnings_now(
    steps: Sequence[Mapping[str, Any]], heldout: Sequence[Mapping[str, Any]] = (), config: RunConfig | None = None
) -> list[StepWarning]:
    """Return what holds after the last of `steps`, events of a run in order; `heldout` are those of its evaluations."""
    return _what_holds(RunHistory(steps=steps, heldout=heldout, config=config))


def warnings_of(events: Iterable[Mapping[str, Any]], config: RunConfig | None = None) -> list[StepWarning]:
    """Return what was said in a run, in order. events: of `read_metrics`; config: the run's, where it is known."""
    log = WarningLog(config)
    return [warning for event in events for warning in log.add(event)]


def _what_holds(run: RunHistory) -> list[StepWarning]:
    if not run.steps:
        return []
    texts = {key: rule(run) for key, rule in RULES.items()}
    return [StepWarning(step=run.steps[-1]["step"], key=key, text=text) for key, text in texts.items() if text is not None]
