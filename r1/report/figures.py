"""Figures of metrics over the steps, as plotly's JSON. Colours are names that the page's style sheet gives a value to."""

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from r1.cli.printing import printable
from r1.config_text import option_values
from r1.report.figure_list import figure_specs
from r1.report.figure_spec import FigureSpec, Line
from r1.report.runs import ReportRun
from r1.report.series import Series, rounded, say_steps, series_of, smoothed, smoothed_over, smoothing_window

# Drawn by the page's script, which knows what these fields mean; `data` and `layout` are plotly's.
Figure = Mapping[str, Any]
_WHOLE = {"simplify": False}  # plotly would leave out points that lie close to a straight line
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "pentagon")


def metric_figures(runs: Sequence[ReportRun]) -> list[Figure]:
    """The figures of everything that some run has recorded; those that would show nothing are left out."""
    specs = figure_specs(recorded_names(run.steps for run in runs), recorded_names(run.heldout for run in runs))
    return [figure for spec in specs if (figure := metric_figure(spec, runs)) is not None]


def metric_figure(spec: FigureSpec, runs: Sequence[ReportRun]) -> Figure | None:
    """One figure of all runs; None where none has recorded its metrics, or nothing ever happened."""
    lines = [(run, *of_line) for run in range(len(runs)) for of_line in _recorded(spec.lines, runs[run].steps)]
    points = [(run, *of_line) for run in range(len(runs)) for of_line in _recorded(spec.heldout, runs[run].heldout)]
    drawn = [series for *_, series in [*lines, *points]]
    says_nothing = spec.unless is not None and all(series.is_always(spec.unless) for series in drawn)
    if not drawn or says_nothing or (spec.section == "rest" and all(is_constant(series) for series in drawn)):
        return None
    traces: list[dict[str, Any]] = []
    notes: list[str] = []
    for run, index, line, series in lines:
        traces += _line_traces(spec, runs, run, index, line, series)
        notes += _gap_notes(runs, run, line, series)
    for run, index, line, series in points:
        traces.append(_point_trace(spec, runs, run, index, line, series))
        notes += _gap_notes(runs, run, line, series)
    known = [value for series in drawn for value in series.known]
    is_log = spec.is_log and all(value > 0 for value in known)
    traces += _bounds(spec, runs, known, is_log)
    axis = _y_axis(spec, known, is_log)
    return plotly_figure(spec.key, spec.section, spec.title, spec.tells, traces, axis, legend=_legend(traces, runs), notes=notes)


def plotly_figure(
    key: str,
    section: str,
    title: str,
    tells: str,
    traces: Sequence[Mapping[str, Any]],
    y_axis: Mapping[str, Any],
    *,
    legend: Sequence[Mapping[str, Any]],
    x_axis: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    **layout: Any,
) -> Figure:
    """Let plotly check what will be drawn, and return it with what the page writes around it.

    legend: the page's own, since plotly's takes the room of the curves: {label, color, look, and the run or line that it hides}.
    """
    import plotly.graph_objects as go

    steps = [step for trace in traces for step in trace["x"] if isinstance(step, int)]
    of_steps = {
        "title": {"text": "step"},
        "tickformat": "d",
        "unifiedhovertitle": {"text": "step %{x:d}"},
        # Plotly would put ticks between the steps of a short run.
        "dtick": 1 if steps and max(steps) - min(steps) <= 8 else None,
    }
    figure = go.Figure(
        data=list(traces),
        layout={
            "template": "none",
            "hovermode": "x unified",
            "showlegend": False,
            "meta": {"title": plotly_text(title)},  # for a figure that is saved by itself
            "xaxis": x_axis or of_steps,
            "yaxis": dict(y_axis),
            **layout,
        },
    ).to_plotly_json()
    del figure["layout"]["template"]
    # Notes go into the page as text, plotly's own texts are a markup of their own.
    texts = {"title": printable(title), "tells": tells, "notes": [printable(note) for note in notes]}
    return {"key": key, "section": section, **texts, "legend": list(legend) if len(legend) > 1 else [], **figure}


def trace_meta(color: str, run: int | None, line: str, label: str) -> dict[str, Any]:
    """For the page's script: what to colour a trace with, whose it is, which line of the figure, and its name as plain text."""
    return {"color": color, "run": run, "line": printable(line), "label": printable(label)}


def run_legend(runs: Sequence[ReportRun]) -> list[dict[str, Any]]:
    """An entry a run, in its colour."""
    return [
        {"label": printable(run.label), "color": f"run-{index}", "look": "solid", "run": index} for index, run in enumerate(runs)
    ]


def plotly_text(text: str) -> str:
    """A name as plotly shows it: it reads some tags and entities in every text."""
    return html.escape(printable(text))


def is_constant(series: Series) -> bool:
    """Whether one number says it all: a ratio of 0.9999999999999999 is one of 1."""
    return len({rounded(value) for value in series.values}) == 1


def recorded_names(of_runs: Iterable[Sequence[Mapping[str, Any]]]) -> list[str]:
    """The metrics of these events, each once, in the order of their first appearance."""
    return list(dict.fromkeys(name for events in of_runs for event in events for name in event["metrics"]))


def _recorded(lines: Sequence[Line], events: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Line, Series]]:
    for index, line in enumerate(lines):
        series = series_of(events, line.metric)
        if series:
            yield index, line, series


def _line_traces(
    spec: FigureSpec, runs: Sequence[ReportRun], run: int, index: int, line: Line, series: Series
) -> Iterator[dict[str, Any]]:
    """Each step pale and their mean strong, or a single dotted line."""
    window = smoothing_window(len(series.known)) if line.look == "main" else 1
    is_compared = len(runs) > 1
    name = _name(runs, run, index, line)
    color = f"run-{run}" if is_compared else f"line-{index}"
    raw = _trace(series, spec, name or "each step", color, run, line.label)
    if window == 1:
        dash = "dot" if line.look == "thin" else "solid"
        # One or two steps are no line yet.
        mode = "lines" if len(series.steps) > 2 else "lines+markers"
        yield raw | {"mode": mode, "line": {"width": 1.5, "dash": dash, **_WHOLE}, "marker": {"size": 6}}
        return
    yield raw | {"mode": "lines", "line": {"width": 1, **_WHOLE}, "opacity": 0.4}
    strong = _trace(smoothed(series, window), spec, name or "smoothed", color, run, line.label)
    dash = _DASHES[index % len(_DASHES)] if is_compared else "solid"
    if name:  # the table of values tells the two apart by it
        strong["meta"]["label"] += ", smoothed"
    # Compared runs are many: the values that were measured are enough in the hover box.
    hover: dict[str, Any] = {"hoverinfo": "skip", "hovertemplate": None}
    if not is_compared:
        mean = f"{strong['hovertemplate']} (mean of %{{customdata}} steps)"
        hover = {"hovertemplate": mean, "customdata": smoothed_over(series, window)}
    yield strong | {"mode": "lines", "line": {"width": 2.4, "dash": dash, **_WHOLE}, **hover}


def _point_trace(
    spec: FigureSpec, runs: Sequence[ReportRun], run: int, index: int, line: Line, series: Series
) -> dict[str, Any]:
    """Held-out evaluations: points, joined by a thin line; accuracy with its 95 % interval."""
    is_compared = len(runs) > 1
    name = f"{runs[run].label}: {line.label}" if is_compared else line.label
    symbol = _SYMBOLS[(run if is_compared else index) % len(_SYMBOLS)]
    trace = _trace(series, spec, name, f"run-{run}" if is_compared else f"heldout-{index}", run, line.label)
    trace |= {
        # The hover box of a step names the evaluation that is nearest to it.
        "hovertemplate": f"%{{y:{_number_format(spec)}}} (after step %{{x}})",
        "mode": "lines+markers",
        "line": {"width": 1, "dash": "dot"},
        "marker": {"size": 9, "symbol": symbol, "line": {"width": 1.2}},
        "cliponaxis": False,  # accuracy 1.0 after the last step lies on the frame's corner
    }
    errors = dict(zip(*_steps_and_values(series_of(runs[run].heldout, "accuracy_error")), strict=True))
    if line.metric == "accuracy" and errors:
        halves = [rounded(errors.get(step)) or 0.0 for step in series.steps]
        trace["error_y"] = {"type": "data", "array": halves, "thickness": 1, "width": 3}
    return trace


def _trace(series: Series, spec: FigureSpec, name: str, color: str, run: int, line: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": list(series.steps),
        "y": [rounded(value) for value in series.values],
        "name": plotly_text(name),
        "hovertemplate": f"%{{y:{_number_format(spec)}}}",
        "connectgaps": False,
        "meta": trace_meta(color, run, line, name),
    }


def _legend(traces: Sequence[Mapping[str, Any]], runs: Sequence[ReportRun]) -> list[dict[str, Any]]:
    """An entry a line; of several runs, whose lines have the run's colour, an entry a run and one in grey for each look."""
    looks: dict[str, dict[str, Any]] = {}
    for trace in traces:
        meta = trace["meta"]
        look = "points" if trace["mode"] == "lines+markers" else trace["line"].get("dash", "solid")
        looks[meta["line"]] = {"label": meta["line"], "color": meta["color"], "look": look, "line": meta["line"]}
    if len(runs) == 1:
        return list(looks.values())
    if len(looks) == 1:
        return run_legend(runs)
    grey = (look if look["color"] == "bound" else look | {"color": "muted"} for look in looks.values())
    return [*run_legend(runs), *grey]


def _number_format(spec: FigureSpec) -> str:
    """In d3's words."""
    return ".3~%" if spec.is_share else ".4~g"


def _name(runs: Sequence[ReportRun], run: int, index: int, line: Line) -> str:
    if len(runs) == 1:
        return line.label
    return f"{runs[run].label}: {line.label}" if line.label and index else runs[run].label


def _bounds(
    spec: FigureSpec, runs: Sequence[ReportRun], known: Sequence[float], is_log: bool
) -> Iterator[dict[str, Any]]:
    """A line for each different value of the option that bounds the metric."""
    if spec.bound is None or not known:
        return
    bounds = {option_values(run.config)[spec.bound] for run in runs if run.config is not None}
    last = max(run.last_step for run in runs)
    for bound in sorted(bounds):
        # On a linear axis a bound far above the values would press them flat.
        if is_log or max(known) >= bound / 2:
            yield {
                "type": "scatter",
                "x": [0, last],
                "y": [bound, bound],
                "name": plotly_text(f"{spec.bound_label} {bound:g}"),
                "mode": "lines",
                "line": {"width": 1.2, "dash": "dash"},
                "hoverinfo": "skip",
                "meta": trace_meta("bound", None, f"{spec.bound_label} {bound:g}", spec.bound),
            }


def _y_axis(spec: FigureSpec, known: Sequence[float], is_log: bool) -> dict[str, Any]:
    axis: dict[str, Any] = {"exponentformat": "power", "rangemode": "tozero" if min(known, default=0.0) >= 0 else "normal"}
    if spec.is_share:
        axis["tickformat"] = ".3~%"
    if is_log:
        # A tick for each decade: those between would be the numbers 2 and 5 without their power of ten.
        axis |= {"type": "log", "dtick": 1, "rangemode": "normal"}
    elif spec.has_whole_scale and max(known, default=0.0) <= 1 and min(known, default=0.0) >= 0:
        axis["range"] = [-0.03, 1.03]
    elif not any(known):
        axis["range"] = [0, 1]  # plotly's own would be -1 .. 1, for a share that is never negative
    return axis


def _gap_notes(runs: Sequence[ReportRun], run: int, line: Line, series: Series) -> Iterator[str]:
    if series.gaps:
        which = line.metric if len(runs) == 1 else f"{runs[run].label}, {line.metric}"
        yield f"{which}: NaN or infinite at step {say_steps(series.gaps)}, a gap in the line"


def _steps_and_values(series: Series) -> tuple[Sequence[int], Sequence[float | None]]:
    return series.steps, series.values
