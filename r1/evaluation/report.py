"""What an evaluation leaves behind: results.json, pass_rates.json, budget_curve.png, and the tables that are printed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1.cli.printing import format_number, new_table, text_cells
from r1.evaluation.metrics import BudgetPoint, TaskMetrics
from r1.evaluation.problems import TaskPrompts
from r1.evaluation.settings import EvaluationSettings
from r1.files import atomic_file
from r1.sample_statistics import Estimate

if TYPE_CHECKING:
    from rich.table import Table

RESULTS, PASS_RATES, CURVE = "results.json", "pass_rates.json", "budget_curve.png"
_COLORS = ("#1f5fa8", "#d1495b", "#3a7d44", "#8a5fa8", "#c98a1b", "#4a4a4a", "#2b9eb3")


def results_of(
    settings: EvaluationSettings, metrics: Mapping[str, TaskMetrics], tasks: Sequence[TaskPrompts]
) -> dict[str, Any]:
    """Return what results.json holds: no times and no folder, so that equal evaluations have equal files."""
    by_name = {
        one.task.name: {"correctness": one.task.correctness, "left_out": one.left_out, **_plain(metrics[one.task.name])}
        for one in tasks
    }
    return {"settings": settings.model_dump(mode="json"), "tasks": by_name}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def metrics_table(metrics: Mapping[str, TaskMetrics]) -> "Table":
    """One row a task; docs/evaluation.md says what the columns mean."""
    counts = list(dict.fromkeys(k for of_task in metrics.values() for k in of_task.pass_at if k > 1))
    num_samples = next(iter(metrics.values())).num_samples
    names = [f"pass@{k}" for k in counts] + [f"maj@{num_samples}"]
    table = new_table("task", "problems", "k", "pass@1", *names, "tokens", "truncated", "format", "unjudged", "errors")
    for name, of_task in metrics.items():
        table.add_row(
            *text_cells(name, of_task.num_problems, of_task.num_samples, _with_error(of_task.accuracy)),
            *text_cells(*(format_number(of_task.pass_at[k].mean, ".3f") for k in counts)),
            *text_cells(format_number(of_task.maj_at_k.mean, ".3f"), format_number(of_task.completion_tokens, ".1f")),
            *text_cells(format_number(of_task.truncated_share), format_number(of_task.format_share)),
            *text_cells(format_number(of_task.unjudged_share), sum(of_task.reward_errors.values())),
        )
    return table


def curves_of(metrics: Mapping[str, TaskMetrics]) -> dict[str, Sequence[BudgetPoint]]:
    """Return name -> curve, that of the forced answers behind the task's first."""
    both = {name: (of_task.budget_curve, of_task.forced_curve) for name, of_task in metrics.items()}
    named = [pair for name, (first, second) in both.items() for pair in ((name, first), (f"{name}, forced", second))]
    return {name: curve for name, curve in named if curve}


def budget_table(curves: Mapping[str, Sequence[BudgetPoint]]) -> "Table":
    """Accuracy against a budget of tokens, a column a curve."""
    table = new_table("tokens", *curves)
    for place, point in enumerate(next(iter(curves.values()))):
        table.add_row(*text_cells(point.budget, *(_with_error(curve[place].accuracy) for curve in curves.values())))
    return table


def draw_budget_curves(curves: Mapping[str, Sequence[BudgetPoint]], path: Path) -> None:
    """Draw accuracy over the budget, a line a curve, with 95 % confidence intervals."""
    # Straight to the Agg canvas, as r1.curves does.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), dpi=130, layout="constrained")
    axes = figure.subplots()
    axes.set_title("Accuracy against a budget of tokens", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_xlabel("completion tokens")
    for index, (name, curve) in enumerate(curves.items()):
        budgets, means = [point.budget for point in curve], [point.accuracy.mean for point in curve]
        errors = [point.accuracy.half_width or 0.0 for point in curve]
        color = _COLORS[index % len(_COLORS)]
        axes.plot(budgets, means, "o-", color=color, markersize=4, label=name)
        low = [max(0.0, mean - error) for mean, error in zip(means, errors, strict=True)]
        high = [min(1.0, mean + error) for mean, error in zip(means, errors, strict=True)]
        axes.fill_between(budgets, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="upper left")
    with atomic_file(path) as temporary:
        FigureCanvasAgg(figure).print_figure(temporary, format="png")


def _with_error(value: Estimate) -> str:
    """A mean and half of its confidence interval.

    >>> _with_error(Estimate(mean=0.25, half_width=0.0312, num_problems=9))
    '0.250 ± 0.031'
    """
    return f"{value.mean:.3f}" + ("" if value.half_width is None else f" ± {value.half_width:.3f}")


def _plain(metrics: TaskMetrics) -> dict[str, Any]:
    """The metrics as JSON: pass@k by name, and estimates without the number of problems, which is that of the task."""
    tree = asdict(metrics)
    tree["accuracy"], tree["maj_at_k"] = _estimate(metrics.accuracy), _estimate(metrics.maj_at_k)
    tree["pass_at"] = {str(k): _estimate(value) for k, value in metrics.pass_at.items()}
    for name, curve in (("budget_curve", metrics.budget_curve), ("forced_curve", metrics.forced_curve)):
        tree[name] = [{**asdict(point), "accuracy": _estimate(point.accuracy)} for point in curve]
    return tree


def _estimate(value: Estimate) -> dict[str, float | None]:
    return {"mean": value.mean, "half_width": value.half_width}
