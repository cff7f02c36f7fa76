"""Where a step's time goes: its phases as stacked bars, its length, and completion tokens a second."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from r1.metrics import PHASES
from r1.report.figure_spec import FigureSpec, Line
from r1.report.figures import Figure, metric_figure, plotly_figure, plotly_text, run_legend, trace_meta
from r1.report.runs import ReportRun
from r1.report.series import rounded

MAX_BARS = 400
"""More bars than this are narrower than a pixel of a figure; neighbours are drawn as their mean, and the figure says so."""

_STEP_TIME = FigureSpec(
    key="step-time",
    section="time",
    title="Step time",
    tells="Seconds of a step, all phases together; evaluations and checkpoints come between the steps.",
    lines=(Line("step_s"),),
)
_THROUGHPUT = FigureSpec(
    key="throughput",
    section="time",
    title="Completion tokens per second",
    tells="Tokens of all completions of a step, by the time of the whole step.",
    lines=(Line("tokens_per_s"),),
)


def time_figures(runs: Sequence[ReportRun]) -> list[Figure]:
    """The figures of section "time"."""
    timed = [run for run in runs if run.steps_s > 0]
    if not timed:
        return []
    measured = [_with_times(run) for run in runs]
    phases = _phases_by_step(timed[0]) if len(runs) == 1 else _mean_phases(runs)
    return [phases, *(figure for spec in (_STEP_TIME, _THROUGHPUT) if (figure := metric_figure(spec, measured)) is not None)]


def phase_names(runs: Sequence[ReportRun]) -> list[str]:
    """The known phases first, in their order."""
    recorded = dict.fromkeys(name for run in runs for event in run.steps for name in event["timings_s"])
    return [name for name in PHASES if name in recorded] + [name for name in recorded if name not in PHASES]


def _phases_by_step(run: ReportRun) -> Figure:
    width = math.ceil(len(run.steps) / MAX_BARS)
    parts = [run.steps[first : first + width] for first in range(0, len(run.steps), width)]
    traces = [
        _bars(name, f"phase-{index}", 0, [part[0]["step"] for part in parts], [_mean_seconds(part, name) for part in parts])
        for index, name in enumerate(phase_names([run]))
    ]
    notes = [f"each bar is the mean of {width} steps, from the one it stands at"] if width > 1 else []
    tells = "Seconds by phase. What is neither sampling nor update should stay thin."
    legend = [{**trace["meta"], "look": "box"} for trace in traces]
    return _phase_figure(tells, traces, legend, notes=notes, barmode="stack", bargap=0.15 if len(parts) < 100 else 0)


def _mean_phases(runs: Sequence[ReportRun]) -> Figure:
    """Runs side by side: bars of all steps of several runs could not be told apart."""
    names = phase_names(runs)
    traces = [
        _bars(run.label, f"run-{index}", index, names, [_mean_seconds(run.steps, name) for name in names])
        for index, run in enumerate(runs)
        if run.steps
    ]
    axis = {"type": "category", "title": {"text": "phase"}}
    tells = "Mean seconds of a step by phase."
    return _phase_figure(tells, traces, run_legend(runs), x_axis=axis, barmode="group")


def _phase_figure(tells: str, traces: Sequence[Mapping[str, Any]], legend: Sequence[Mapping[str, Any]], **options: Any) -> Figure:
    y_axis = {"title": {"text": "s"}}
    return plotly_figure("phases", "time", "Phases of a step", tells, traces, y_axis, legend=legend, **options)


def _bars(name: str, color: str, run: int, x: Sequence[Any], y: Sequence[float | None]) -> dict[str, Any]:
    return {
        "type": "bar",
        "name": plotly_text(name),
        "x": list(x),
        "y": list(y),
        "hovertemplate": "%{y:.3~g} s",
        "meta": trace_meta(color, run, name, name),
    }


def _mean_seconds(events: Sequence[Mapping[str, Any]], phase: str) -> float | None:
    return rounded(fmean(event["timings_s"].get(phase) or 0.0 for event in events))


def _with_times(run: ReportRun) -> ReportRun:
    """The run with step_s and tokens_per_s as if they were recorded metrics."""
    steps = []
    for event in run.steps:
        seconds = sum(value or 0.0 for value in event["timings_s"].values())
        metrics = event["metrics"]
        tokens = [metrics.get("completion_tokens"), metrics.get("num_completions")]
        own = {"step_s": seconds}
        if seconds > 0 and None not in tokens:
            own["tokens_per_s"] = tokens[0] * tokens[1] / seconds
        steps.append({**event, "metrics": own})
    return replace(run, steps=steps, heldout=[])
