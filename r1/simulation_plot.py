"""The simulator's curves as a PNG."""

from collections.abc import Callable, Sequence
from pathlib import Path

from r1.files import atomic_file
from r1.simulation import Prediction

_COLORS = ("#1f5fa8", "#d1495b", "#3a7d44", "#8a5fa8", "#c98a1b", "#4a4a4a", "#2b9eb3")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")

# Title, value, whether the axis is logarithmic.
_PANELS: tuple[tuple[str, Callable[[Prediction], float], bool], ...] = (
    ("Step time (s)", lambda one: one.step_s, False),
    ("Completion tokens/s", lambda one: one.tokens_per_s, True),
    ("Engines idle (share of time)", lambda one: one.engine_idle_share, False),
    ("Places in the engines' batches used (share)", lambda one: one.slots_used_share, False),
    ("Learner idle (share of time)", lambda one: one.learner_idle_share, False),
    ("Staleness, mean (versions)", lambda one: one.staleness_mean, False),
)


def draw_predictions(predictions: Sequence[Prediction], path: Path) -> None:
    """Draw each quantity over the number of engines, a line for each mode."""
    # Straight to the Agg canvas, as r1.curves does.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    modes = list(dict.fromkeys(one.mode for one in predictions))
    figure = Figure(figsize=(11, 10), dpi=110, layout="constrained")
    for axes, (title, value, is_logarithmic) in zip(figure.subplots(3, 2).flat, _PANELS, strict=True):
        axes.set_title(title, loc="left", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set_xlabel("engines")
        for index, mode in enumerate(modes):
            points = [(one.num_engines, value(one)) for one in predictions if one.mode == mode]
            style = {"color": _COLORS[index % len(_COLORS)], "marker": _MARKERS[index % len(_MARKERS)], "markersize": 5}
            axes.plot([x for x, _ in points], [y for _, y in points], label=mode, **style)
        if is_logarithmic:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(modes), frameon=False)
    with atomic_file(path) as temporary:
        FigureCanvasAgg(figure).print_figure(temporary, format="png")
