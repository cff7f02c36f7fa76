"""What a page shows of its runs, apart from the page: figures as JSON, and HTML for each of its slots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1.config_text import config_lines, differing_options, option_values, toml_value
from r1.report.figure_list import figure_specs
from r1.report.figures import Figure, metric_figures, recorded_names
from r1.report.headline import describe, fault_list, headline_table, run_name, state, tiles, warning_list
from r1.report.markup import Html, element, folded, joined, table
from r1.report.runs import ReportRun, load_runs
from r1.report.samples import sample_sections
from r1.report.series import rounded, series_of
from r1.report.time_figures import time_figures

SLOTS = ("headline", "faults", "constants", "config")
"""The places of the page that hold HTML of a run, besides its samples."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """All that changes while a run goes on."""

    title: str
    figures: Sequence[Figure]
    slots: Mapping[str, Html]
    """SLOTS -> HTML."""
    samples: Sequence[tuple[str, Html]]
    """(key, section) in the order of the page."""
    last_step: int
    """Of the run that is furthest."""
    num_steps: int
    """That it is going to have; 0 where that is not known."""
    is_over: bool
    """Whether all runs have written their summaries."""


def build_content(paths: Sequence[Path], num_sample_steps: int, *, may_be_empty: bool = False) -> Content:
    """Read the runs and make the content of their page."""
    runs = load_runs(paths, may_be_empty=may_be_empty)
    figures = [*metric_figures(runs), *time_figures(runs)]
    return Content(
        title=" / ".join(run.label for run in runs),
        figures=figures,
        slots={
            "headline": _headline(runs),
            "faults": fault_list(runs) or element("p", "No faults are recorded.", class_="none"),
            "constants": _constants(runs, {figure["key"] for figure in figures}),
            "config": joined(_config(run, index, is_compared=len(runs) > 1) for index, run in enumerate(runs)),
        },
        samples=list(sample_sections(runs, num_sample_steps)),
        last_step=max(run.last_step for run in runs),
        num_steps=max(run.config.num_steps if run.config else 0 for run in runs),
        is_over=all(run.summary is not None for run in runs),
    )


def _headline(runs: Sequence[ReportRun]) -> Html:
    if len(runs) == 1:
        run = runs[0]
        about = element("p", describe(run), class_="about")
        heading = element("h1", run.label, " ", element("small", state(run), class_="state"))
        return joined([heading, about, tiles(run), warning_list(runs)])
    # Each a switch that hides the run in all figures.
    switches = (
        element("button", run.label, class_=f"run run-{index}", type="button", data_run=index, aria_pressed="true")
        for index, run in enumerate(runs)
    )
    heading = element("h1", f"{len(runs)} runs")
    names = element("p", *switches, class_="runs")
    return joined([heading, names, headline_table(runs), _options(runs), warning_list(runs)])


def _options(runs: Sequence[ReportRun]) -> Html:
    """The options that the runs have otherwise, a column a run."""
    heading = element("h2", "Options that differ", id="options")
    readable = [run.config for run in runs if run.config is not None]
    differing = [name for other in readable[1:] for name, _, _ in differing_options(readable[0], other)]
    values = [{**(option_values(run.config) if run.config else {}), **run.saved.unknown} for run in runs]
    # What this r1 does not know of may differ as well.
    unknown = [name for run in runs for name in run.saved.unknown]
    differing += [name for name in unknown if any(of_run.get(name) != values[0].get(name) for of_run in values)]
    # run_dir names the folder: it always differs, and says nothing.
    names = [name for name in dict.fromkeys(differing) if name != "run_dir"]
    unreadable = [run.label for run in runs if run.config is None]
    told = element("p", f"The configuration of {', '.join(unreadable)} cannot be read.", class_="none") if unreadable else None
    if not names:
        same = None if unreadable else element("p", "None: the runs have the same options.", class_="none")
        return joined([heading, told, same])
    rows = [[element("code", name), *(_option_cell(of_run, name) for of_run in values)] for name in names]
    columns = [run_name(run.label, index) for index, run in enumerate(runs)]
    return joined([heading, told, table(["option", *columns], rows, class_="compare options")])


def _option_cell(values: Mapping[str, Any], name: str) -> Html:
    return element("code", toml_value(values[name])) if name in values else element("span", "–")


def _constants(runs: Sequence[ReportRun], drawn: set[str]) -> Html:
    """What was recorded and never changed; a figure would be a flat line."""
    specs = figure_specs(recorded_names(run.steps for run in runs), recorded_names(run.heldout for run in runs))
    metrics = dict.fromkeys(line.metric for spec in specs if spec.key not in drawn for line in spec.lines)
    rows = []
    for metric in metrics:
        of_runs = [series_of(run.steps, metric).known for run in runs]
        if any(of_runs):
            rows.append([element("code", metric), *(f"{rounded(known[-1]):g}" if known else "–" for known in of_runs)])
    if not rows:
        return Html()
    names = [run_name(run.label, index) for index, run in enumerate(runs)] if len(runs) > 1 else ["in every step"]
    title = f"{len(rows)} metrics that never changed"
    return folded(title, table(["metric", *names], rows, class_="compare"), key="constants")


def _config(run: ReportRun, index: int, *, is_compared: bool) -> Html:
    lines = config_lines(run.config) if run.config else [f"# {run.saved.problem}"]
    unknown = run.saved.unknown.items()
    lines += [f"# {name} = {toml_value(value)}  (an option that this r1 does not know)" for name, value in unknown]
    whose = f" of {run.label}" if is_compared else ""
    versions = (run.summary or {}).get("versions")
    known = [[name, version or "not installed"] for name, version in (versions or {}).items()]
    told = table(["package", "version"], known, class_="compare") if known else _NO_VERSIONS
    if run.summary_problem:
        told = element("p", f"They are not readable: {run.summary_problem}", class_="none")
    toml = element("pre", "\n".join(lines).strip(), class_="toml", tabindex="0")
    return joined(
        [
            folded(f"Resolved configuration{whose}", toml, key=f"config-{index}"),
            folded(f"Versions{whose}", told, key=f"versions-{index}"),
        ]
    )


_NO_VERSIONS = element("p", "Versions are written when a run ends.", class_="none")
