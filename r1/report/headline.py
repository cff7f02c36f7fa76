"""The figures of a run that fit on a line, as tiles for one run and as a table for several."""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from r1.metrics import FORMAT_KEY
from r1.report.markup import Html, element, folded, joined, table
from r1.report.runs import ReportRun
from r1.report.series import series_of
from r1.step_warnings import warnings_of

MAX_WARNINGS = 4
"""Shown unfolded, the latest; what was said in the first steps is often of no more interest."""

MAX_ENDED = 55
"""Characters of how a run ended that stand beside its name; all of it stands beneath its faults."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Headline:
    """One quantity of a run in words."""

    name: str
    value: str
    """"0.285 → 0.867"; "–" where it is not recorded."""
    remark: str = ""


def headlines(run: ReportRun) -> list[Headline]:
    """What a person asks first, in this order; the same quantities for every run."""
    return [
        _before_after(run, "Held-out accuracy", "accuracy", ".3f", error="accuracy_error"),
        _before_after(run, "Response length", "completion_tokens", ".1f", unit="tokens"),
        _before_after(run, "Format", FORMAT_KEY, ".3f"),
        _before_after(run, "Reward", "reward", ".3f"),
        Headline(name="Steps", value=_steps(run), remark=state(run)),
        Headline(name="Time", value=_total(run), remark=_step_time(run)),
        _mismatch(run),
        _faults(run),
    ]


def state(run: ReportRun) -> str:
    """Whether it has ended and how, as far as its folder tells."""
    if run.summary is None:
        return "summary not readable" if run.summary_problem else "no summary yet"
    if ended := _ended_badly(run):
        return f"ended by {textwrap.shorten(ended, MAX_ENDED, placeholder=' ...')}"
    if run.config is not None and run.last_step < run.config.num_steps:
        return "ended early"
    return "finished"


def tiles(run: ReportRun) -> Html:
    return element(
        "dl",
        *(
            element("div", element("dt", line.name), element("dd", line.value), element("dd", line.remark, class_="remark"))
            for line in headlines(run)
        ),
        class_="tiles",
    )


def headline_table(runs: Sequence[ReportRun]) -> Html:
    """A row a quantity, a column a run."""
    columns = [headlines(run) for run in runs]
    names = [run_name(run.label, index) for index, run in enumerate(runs)]
    about = [
        ["Task", *(_option(run, lambda config: config.task.name) for run in runs)],
        ["Model", *(_option(run, lambda config: config.model.path) for run in runs)],
        ["Seed", *(_option(run, lambda config: config.seed) for run in runs)],
    ]
    rows = [[lines[0].name, *(_cell(line) for line in lines)] for lines in zip(*columns, strict=True)]
    return table(["", *names], [*about, *rows], class_="compare")


def run_name(label: str, index: int) -> Html:
    """The name with the colour that the run has in every figure."""
    return element("span", label, class_=f"run run-{index}")


def describe(run: ReportRun) -> str:
    """Task, model, seed and step's shape in one line."""
    config = run.config
    if config is None:
        return run.saved.problem
    task = " + ".join([config.task.name, *config.task.mix])
    rollout = config.rollout
    return (
        f"{task} · {config.model.path} · seed {config.seed} · {rollout.num_prompts} prompts x {rollout.group_size} completions "
        f"of at most {rollout.max_completion_tokens} tokens a step"
    )


def warning_list(runs: Sequence[ReportRun]) -> Html | None:
    """What the console said while the runs went on, latest first; all but the first few folded."""
    said = [
        (warning.step, index, str(warning))
        for index, run in enumerate(runs)
        for warning in warnings_of(run.events, run.config)
    ]
    if not said:
        return None
    names = [element("span", run_name(run.label, index), " ") if len(runs) > 1 else None for index, run in enumerate(runs)]
    lines = [
        element("li", names[index], element("b", f"step {step}"), f" {text}")
        for step, index, text in sorted(said, key=lambda one: -one[0])
    ]
    shown = [element("ul", *lines[:MAX_WARNINGS], class_="warnings")]
    if len(lines) > MAX_WARNINGS:
        rest = element("ul", *lines[MAX_WARNINGS:], class_="warnings")
        shown.append(folded(f"{len(lines) - MAX_WARNINGS} earlier warnings", rest, key="warnings"))
    return joined([element("h2", "Warnings"), *shown])


def fault_list(runs: Sequence[ReportRun]) -> Html | None:
    """The faults that summaries tell of, and how runs ended that did not end well."""
    told = [(index, line) for index, run in enumerate(runs) for line in _fault_lines(run)]
    if not told:
        return None
    lines = (
        element("li", run_name(runs[index].label, index) if len(runs) > 1 else None, " ", line)
        for index, line in told
    )
    return element("ul", *lines, class_="faults")


def _fault_lines(run: ReportRun) -> Iterator[str]:
    if run.summary_problem:
        yield f"not readable: {run.summary_problem}"
    # An error that ended the run is the last of its faults as well.
    yield from (_fault_text(fault) for fault in _told(run) if fault != (run.summary or {}).get("ended"))
    if ended := _ended_badly(run):
        yield f"ended by {ended}"


def _fault_text(fault: object) -> str:
    return "  ".join(f"{key} {value}" for key, value in fault.items()) if isinstance(fault, Mapping) else str(fault)


def _told(run: ReportRun) -> Sequence[object]:
    """The faults that the summary tells of: those of the last process."""
    return (run.summary or {}).get("faults") or ()


def _ended_badly(run: ReportRun) -> str:
    """By what the last process was ended, in the words of its summary; "" if it finished, or where it is not told."""
    ended: str = (run.summary or {}).get("ended") or "finished"
    return "" if ended == "finished" else ended.rstrip(": ")  # an error may have no text of its own


def _before_after(run: ReportRun, name: str, metric: str, spec: str, *, unit: str = "", error: str = "") -> Headline:
    """The first and the last held-out evaluation; of a run without any, the first and the last step."""
    is_heldout = any(metric in event["metrics"] for event in run.heldout)
    series = series_of(run.heldout if is_heldout else run.steps, metric)
    known = series.known
    if not known:
        return Headline(name=name, value="–", remark="not recorded")
    first, last = known[0], known[-1]
    value = format(last, spec) if len(known) == 1 else f"{first:{spec}} → {last:{spec}}"
    where = "held-out" if is_heldout else "training"
    halves = series_of(run.heldout, error).known
    change = [f"{last - first:+{spec}} {unit}".rstrip()] if len(known) > 1 else []
    interval = [f"± {halves[-1]:.3f}"] if is_heldout and halves else []
    return Headline(name=name, value=value, remark=", ".join([*change, *interval, where]))


def _steps(run: ReportRun) -> str:
    return f"{run.last_step:,}" if run.config is None else f"{run.last_step:,} of {run.config.num_steps:,}"


def _total(run: ReportRun) -> str:
    """The whole process where its summary bounds all steps; a resumed run's only bounds the last process."""
    total = (run.summary or {}).get("total_s") or 0.0
    return say_seconds(total) if total >= run.steps_s else f"{say_seconds(run.steps_s)} in steps"


def _step_time(run: ReportRun) -> str:
    return f"{run.steps_s / len(run.steps):.3g} s a step" if run.steps else "no step yet"


def _mismatch(run: ReportRun) -> Headline:
    known = series_of(run.steps, "mismatch").known
    bound = f"largest of all steps, bound {run.config.sync.max_logprob_diff:g}" if run.config is not None else ""
    return Headline(name="Mismatch", value=f"{max(known):.1e}" if known else "–", remark=bound)


def _faults(run: ReportRun) -> Headline:
    skipped = int(sum(series_of(run.steps, "skipped_updates").known))
    return Headline(name="Faults", value=str(_num_faults(run)), remark=f"{skipped} skipped updates")


def _num_faults(run: ReportRun) -> int:
    """Those of all processes: each counts anew, and has no counter of a kind before the first of it."""
    before, counts = 0, dict[str, int]()
    for event in run.steps:
        last, counts = counts, {name: int(n) for name, n in event["metrics"].items() if n and name.startswith("faults/")}
        if any(counts.get(name, 0) < count for name, count in last.items()):
            before += sum(last.values())
    # The summary has those after its last step as well.
    return before + max(sum(counts.values()), len(_told(run)))


def say_seconds(seconds: float) -> str:
    """Seconds as a person says them.

    >>> say_seconds(42.4), say_seconds(257.8), say_seconds(7320)
    ('42 s', '4 min 18 s', '2 h 2 min')
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minute} min"
    return f"{minute} min {second} s" if minute else f"{second} s"


def _cell(line: Headline) -> Html:
    return joined([element("b", line.value), " ", element("small", line.remark)])


def _option(run: ReportRun, value: Callable[..., object]) -> object:
    return "–" if run.config is None else value(run.config)
