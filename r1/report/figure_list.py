"""Which figures a page has, in its order. One whose metrics no run has recorded is left out when it is drawn."""

from collections.abc import Collection

from r1.metrics import FORMAT_KEY
from r1.report.figure_spec import FigureSpec, Line
from r1.report.fixed_figures import FIXED_FIGURES

_ACCURACY = "Share of right answers, by the reward that decides it. Held-out problems are never learnt from."
_PER_TASK = "Right answers of this task alone."
_PART = "Mean of this reward function before it is weighted."
_FORMAT = "Mean of reasoning_format: one block of thinking, then one answer. It goes up before accuracy does."


def figure_specs(metrics: Collection[str], heldout_metrics: Collection[str]) -> list[FigureSpec]:
    """The figures for runs that have recorded these metrics, in the order of the page; those without any value included."""
    parts = sorted(name for name in metrics if name.startswith("reward/") and name != FORMAT_KEY)
    tasks = sorted(name for name in metrics if name.startswith("accuracy/"))
    length, reward, *others = FIXED_FIGURES
    learning = [
        _accuracy(heldout_metrics),
        length,
        _share(FORMAT_KEY, "Format", _FORMAT, "format"),
        reward,
        *(_part(name) for name in parts),
        *(_share(name, f"Accuracy: {name.removeprefix('accuracy/')}", _PER_TASK, name) for name in tasks),
    ]
    named = [*learning, *others, *_failures(metrics), *_faults(metrics)]
    drawn = {line.metric for spec in named for line in spec.lines}
    return [*named, *(_rest(name) for name in sorted(metrics) if name not in drawn)]


def _accuracy(heldout_metrics: Collection[str]) -> FigureSpec:
    of_several = sorted(name for name in heldout_metrics if name.startswith(("pass@", "maj@")))
    return FigureSpec(
        key="accuracy",
        section="learning",
        title="Accuracy",
        tells=_ACCURACY,
        lines=(Line("accuracy", "training"),),
        heldout=(Line("accuracy", "held-out"), *(Line(name, f"held-out {name}") for name in of_several)),
        is_share=True,
        has_whole_scale=True,
    )


def _share(metric: str, title: str, tells: str, key: str) -> FigureSpec:
    return FigureSpec(
        key=key,
        section="learning",
        title=title,
        tells=tells,
        lines=(Line(metric, "training"),),
        heldout=(Line(metric, "held-out"),),
        is_share=True,
        has_whole_scale=True,
    )


def _part(metric: str) -> FigureSpec:
    return FigureSpec(
        key=metric,
        section="learning",
        title=f"Reward part: {metric.removeprefix('reward/')}",
        tells=_PART,
        lines=(Line(metric, "training"),),
        heldout=(Line(metric, "held-out"),),
    )


def _failures(metrics: Collection[str]) -> list[FigureSpec]:
    names = sorted(name.removeprefix("reward_errors/") for name in metrics if name.startswith("reward_errors/"))
    return [
        FigureSpec(
            key=f"failures/{name}",
            section="groups",
            title=f"Failed reward: {name}",
            tells="Completions of a step that this reward function failed on, and those of them that ran out of time.",
            lines=(Line(f"reward_errors/{name}", "failed"), Line(f"reward_timeouts/{name}", "timeouts", "thin")),
            unless=0.0,
        )
        for name in names
    ]


def _faults(metrics: Collection[str]) -> list[FigureSpec]:
    names = sorted(name for name in metrics if name.startswith("faults/"))
    lines = tuple(Line(name, name.removeprefix("faults/").replace("_", " "), "thin") for name in names)
    tells = "What failed and was put right, counted since the process began."
    return [FigureSpec(key="faults", section="faults", title="Faults so far", tells=tells, lines=lines)] if lines else []


def _rest(metric: str) -> FigureSpec:
    return FigureSpec(key=f"rest/{metric}", section="rest", title=metric, tells="", lines=(Line(metric),))
