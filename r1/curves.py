"""RUN/curves.png: accuracy, format, completion length and reward over the steps of a run."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1.errors import UserError
from r1.files import atomic_file
from r1.metrics import FORMAT_KEY, read_metrics

# Title, metric, whether it is a share (axis 0 .. 1).
_PANELS = (
    ("Accuracy", "accuracy", True),
    ("Format", FORMAT_KEY, True),
    ("Completion length (tokens)", "completion_tokens", False),
    ("Reward", "reward", False),
)
_TRAIN_COLOR = "#1f5fa8"
_HELDOUT_COLOR = "#d1495b"


def draw_curves(run_dir: str | Path) -> Path:
    """Draw RUN/metrics.jsonl as RUN/curves.png, and return its path; works while the run goes on."""
    # Straight to the Agg canvas: pyplot would choose a backend for the whole process and keep every figure alive.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    run_dir = Path(run_dir)
    events = read_metrics(run_dir)
    if not events:
        raise UserError(f"{str(run_dir / 'metrics.jsonl')!r} holds no finished step; draw the curves after the first one")
    figure = Figure(figsize=(11, 7), dpi=130, layout="constrained")
    panels = list(figure.subplots(2, 2, sharex=True).flat)
    for axes, (title, name, is_share) in zip(panels, _PANELS, strict=True):
        _draw_panel(axes, title, _points(events, "step", name), _points(events, "heldout", name), is_share)
    figure.suptitle(f"{run_dir.resolve().name}\n", x=0.01, ha="left", fontsize=14, fontweight="bold")
    # The panels draw the same kinds of lines: one legend for all, from the last, as every run has rewards.
    figure.legend(*panels[-1].get_legend_handles_labels(), loc="upper right", ncols=3, frameon=False)
    path = run_dir / "curves.png"
    with atomic_file(path) as temporary:
        FigureCanvasAgg(figure).print_figure(temporary, format="png")
    return path


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Return the centred moving average over `window` (odd) values, or as many of them as there are at the ends.

    Unlike an exponential average it does not lag behind the curve that it smooths.

    >>> smooth([0.0, 3.0, 6.0, 0.0], window=3)
    [1.5, 3.0, 3.0, 3.0]
    """
    reach = window // 2
    parts = [values[max(0, middle - reach) : middle + reach + 1] for middle in range(len(values))]
    return [sum(part) / len(part) for part in parts]


def _points(events: Sequence[Mapping[str, Any]], kind: str, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one metric; values that were not finite (null in the file) are left out."""
    known = [(event["step"], event["metrics"].get(name)) for event in events if event["kind"] == kind]
    known = [(step, value) for step, value in known if value is not None]
    return [step for step, _ in known], [value for _, value in known]


def _draw_panel(
    axes: Any, title: str, train: tuple[list[int], list[float]], heldout: tuple[list[int], list[float]], is_share: bool
) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("step")
    axes.tick_params(labelbottom=True)  # a shared x axis hides the upper panels' numbers
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if is_share:
        axes.set_ylim(-0.03, 1.03)
    steps, values = train
    if not steps and not heldout[0]:
        axes.text(0.5, 0.5, "not measured in this run", transform=axes.transAxes, ha="center", color="0.5")
    if len(steps) < 3:
        axes.plot(steps, values, "o", color=_TRAIN_COLOR, label="train")  # a line through one point shows nothing
    else:
        # A tenth of the run: wide enough to calm a curve of 16 prompts a step, narrow enough to show a jump.
        window = max(3, math.ceil(len(values) / 10) | 1)
        axes.plot(steps, values, color=_TRAIN_COLOR, alpha=0.35, linewidth=0.9, label="train")
        axes.plot(steps, smooth(values, window), color=_TRAIN_COLOR, linewidth=2, label=f"train, mean of {window} steps")
    if heldout[0]:
        # Not clipped at the frame: accuracy 1.0 after the last step lies on its corner.
        axes.plot(
            *heldout, "o", color=_HELDOUT_COLOR, markeredgecolor="white", markersize=8, label="held-out", clip_on=False, zorder=5
        )
