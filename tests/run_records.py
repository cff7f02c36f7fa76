"""A run's configuration and the events of its metrics.jsonl, written by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

from r1.config import RunConfig, check_config
from r1.step_warnings import warnings_now

Event = dict[str, Any]
Metrics = Mapping[str, float | None]


def run_config(num_steps: int = 60, **sections: Mapping[str, Any]) -> RunConfig:
    """4 prompts a step with 4 completions of at most 1,024 tokens."""
    return check_config(
        {
            "name": "quickstart",
            "num_steps": num_steps,
            "model": {"path": "models/tiny"},
            "task": {"name": "arithmetic"},
            "rollout": {"num_prompts": 4, "group_size": 4, "max_prompt_tokens": 8, "max_completion_tokens": 1024},
            "learner": {"learning_rate": 1e-4},
            **sections,
        }
    )


def step(number: int, metrics: Metrics, timings_s: Mapping[str, float] | None = None) -> Event:
    return {"kind": "step", "step": number, "policy_version": number, "metrics": metrics, "timings_s": timings_s or {}}


def heldout(number: int, **metrics: float | None) -> Event:
    return {"kind": "heldout", "step": number, "policy_version": number, "metrics": metrics, "timings_s": {}}


def steps(*parts: tuple[int, Metrics]) -> list[Event]:
    """(number of steps, their metrics), one part after the other, from step 1."""
    flat = [metrics for count, metrics in parts for _ in range(count)]
    return [step(number, metrics) for number, metrics in enumerate(flat, start=1)]


def said(events: Sequence[Event], evaluations: Sequence[Event] = (), config: RunConfig | None = None) -> dict[str, str]:
    """Key -> text of what holds after the last event."""
    return {warning.key: warning.text for warning in warnings_now(events, evaluations, config or run_config())}
