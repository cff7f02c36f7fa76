"""Run folders written by hand, for the tests of what is drawn and served of them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from scored_groups import scored_group

from r1.config import apply_overrides, check_config
from r1.report.content import Content, build_content
from r1.traces import write_traces

OPTIONS = {
    "name": "quick",
    "num_steps": 4,
    "model": {"path": "models/tiny"},
    "task": {"name": "arithmetic"},
    "rollout": {"num_prompts": 2, "group_size": 2, "max_prompt_tokens": 16, "max_completion_tokens": 64},
    "learner": {"learning_rate": 1e-3, "max_tokens_per_microbatch": 1024},
}
TIMES = {"sample": 2.0, "update": 1.0}

# Characters that end, hide or reverse what stands around them, and every way that was thought of to become markup.
HOSTILE = (
    "<script>window.hacked = 1</script></script><!-- <script> --></pre></details></article></style></title></textarea>"
    "<img src=x onerror='window.hacked = 2'><svg onload=window.hacked=3><a href='javascript:window.hacked=4'>x</a>"
    "${hacked} &lt;b&gt; \u2028\u2029\u202e\u2066\x00\x1b[2J\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")
)


def step_event(step: int, metrics: Mapping[str, float | None], timings_s: Mapping[str, float] = TIMES) -> dict[str, Any]:
    return {"kind": "step", "step": step, "policy_version": step, "metrics": metrics, "timings_s": timings_s}


def heldout_event(step: int, metrics: Mapping[str, float | None]) -> dict[str, Any]:
    return {"kind": "heldout", "step": step, "policy_version": step, "metrics": metrics, "timings_s": {}}


def write_run(run_dir: Path, events: Iterable[Mapping[str, Any]], *overrides: str, summary: Mapping[str, Any] | None = None) -> Path:
    """config.json of OPTIONS with overrides, metrics.jsonl of the events, and summary.json where there is one."""
    run_dir.mkdir(parents=True, exist_ok=True)
    config = check_config(apply_overrides(json.loads(json.dumps(OPTIONS)), overrides))
    (run_dir / "config.json").write_text(config.model_dump_json())
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    if summary is not None:
        (run_dir / "summary.json").write_text(json.dumps(summary))
    return run_dir


def run_of_two_steps(run_dir: Path) -> Path:
    """A run with one completion, which is hostile."""
    write_run(run_dir, learning_events(2))
    write_samples(run_dir, 1, [f"<think>{HOSTILE}</think>19"], [1.0])
    return run_dir


def write_samples(run_dir: Path, step: int, texts: Sequence[str], rewards: Sequence[float | None], **fields: Any) -> None:
    write_traces(run_dir, step, [scored_group(texts, rewards, **fields)], template="plain")


def learning_events(num_steps: int) -> list[dict[str, Any]]:
    """Steps whose accuracy rises from 0 to 1, with what quickstart records of them; held-out before and after."""
    steps = [
        step_event(
            step,
            {
                "accuracy": step / num_steps,
                "reward": step / num_steps,
                "reward_std": 0.5,
                "reward/accuracy": step / num_steps,
                "reward/reasoning_format": 1.0 - 0.5 / step,
                "completion_tokens": 20.0 + step,
                "completion_tokens_max": 60.0,
                "num_completions": 4.0,
                "entropy": 1.0 / step,
                "mismatch": 1e-8 * step,
                "mismatch_max": 1e-6,
                "clip_low_share": 0.0,
                "clip_high_share": 0.0,
                "truncated_share": 0.25,
                "staleness": 0.0,
                "staleness_max": 0.0,
                "grad_norm": 0.5,
                "learning_rate": 1e-3,
                "sync/mib": 2.5,
            },
        )
        for step in range(1, num_steps + 1)
    ]
    before = heldout_event(0, {"accuracy": 0.25, "accuracy_error": 0.125, "completion_tokens": 20.0})
    after = heldout_event(num_steps, {"accuracy": 0.75, "accuracy_error": 0.125, "completion_tokens": 40.0})
    return [before, *steps, after]


def metric_run(path: Path, *overrides: str, **metrics: list[float | None]) -> Path:
    """A run of these metrics alone, one value a step."""
    steps = [dict(zip(metrics, values, strict=True)) for values in zip(*metrics.values(), strict=True)]
    return write_run(path, [step_event(step, values) for step, values in enumerate(steps, start=1)], *overrides)


def content_of(*runs: Path, samples: int = 0) -> Content:
    return build_content(runs, samples)


class Texts(HTMLParser):
    """The visible text of a page, and the names of its elements and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.names, self.attributes = "", [], []
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes += [name for name, _ in attrs]
        self._in_script = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._in_script = False

    def handle_data(self, data):
        if not self._in_script:
            self.text += data
