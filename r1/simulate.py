"""`python -m r1.simulate`: what a cluster would do with a run, before it is rented. docs/scaling.md explains the model."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from r1.cli.printing import new_console, new_table, text_cells
from r1.errors import UserError
from r1.simulated_engine import EngineSpeed
from r1.simulated_run import LengthsOf, Setting
from r1.simulation import LognormalLengths, Prediction, SampledLengths, Scaling, simulate, speed_of, sweep
from r1.simulation_fit import Fit, fit_runs, groups_of_run, measured_run

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def _option(name: str, text: str, **limits: Any) -> Any:
    return typer.Option(name, help=text, show_default=False, **limits)


Runs = list[Path] | None
FromRun = Annotated[Runs, _option("--from-run", "A strict one-worker run's folder: every number below that is not given is "
    "read or fitted from it. Several: their steps are fitted together, the first one's counts and lengths are used.")]  # fmt: skip
Check = Annotated[Runs, _option("--check", "A run's folder: predict this run's configuration and compare with what it measured. "
    "May be given several times. Needs --from-run with other runs.")]  # fmt: skip
Engines = Annotated[str, typer.Option("--engines", help='Numbers of engines; "1,2,...,64" goes on in the same proportion.')]
ScalingOption = Annotated[Scaling, typer.Option("--scaling", help="weak: --prompts for each engine. strong: --prompts in all.")]
Staleness = Annotated[str, typer.Option("--staleness", help="max_staleness of the overlapped modes, in versions: 1, or 1,2,4.")]
Prompts = Annotated[int | None, _option("--prompts", "Prompts per step: of each engine (weak scaling) or in all.", min=1)]
GroupSize = Annotated[int | None, _option("--group-size", "Completions per prompt (16).", min=1)]
MaxNumSeqs = Annotated[int | None, _option("--max-num-seqs", "Completions that one engine decodes together (256).", min=1)]
IterationS = Annotated[float | None, _option("--iteration-s", "Engine: seconds of one token for all running completions, "
    "however many they are. With --sequence-s.", min=0)]  # fmt: skip
SequenceS = Annotated[float | None, _option("--sequence-s", "Engine: seconds that each running completion adds to that.", min=0)]
Throughput = Annotated[list[str] | None, _option("--throughput", "In place of both, given twice: completions:tokens/s of one "
    "engine, e.g. 1:60 and 256:6000.")]  # fmt: skip
MedianTokens = Annotated[float | None, _option("--median-tokens", "Median completion length, tokens (lognormal).", min=1)]
MeanTokens = Annotated[float | None, _option("--mean-tokens", "In its place: the mean, before the limit cuts.", min=1)]
Sigma = Annotated[float, typer.Option("--sigma", help="Of the logarithm of the length: 0 all alike, 1 a long tail.", min=0)]
MaxTokens = Annotated[int | None, _option("--max-tokens", "Limit of a completion, tokens; longer ones are cut off.", min=1)]
LengthsOfRun = Annotated[Path | None, _option("--lengths-of", "In place of these: the lengths in a run's traces, drawn by group.")]
PromptTokens = Annotated[int | None, _option("--prompt-tokens", "Length of a prompt, tokens; matters with the next.", min=0)]
PrefillRate = Annotated[float | None, _option("--prefill-tokens-per-s", "Engine: prompt tokens a second; not given: prefill is "
    "free. In flight, a sync makes it compute prompts and completions anew.", min=1e-9)]  # fmt: skip
UpdateS = Annotated[float | None, _option("--update-s", "Learner: seconds of an update, whatever its size.", min=0)]
UpdateRate = Annotated[float | None, _option("--update-tokens-per-s", "Learner: completion tokens a second, on top of "
    "--update-s.", min=1e-9)]  # fmt: skip
LearnerGrows = Annotated[bool, typer.Option("--learner-grows", help="The learner's tokens/s are for one engine and grow with "
    "their number.")]  # fmt: skip
ScoreS = Annotated[float | None, _option("--score-s", "Seconds from a batch's last group to its update: scores, traces.", min=0)]
SyncS = Annotated[float | None, _option("--sync-s", "Seconds of a weight sync: publish, transfer, load, verify.", min=0)]
SliceS = Annotated[float | None, _option("--slice-s", "Seconds after which a worker looks up for new groups and weights, if no "
    "group is finished (0.5, the pool's).", min=0)]  # fmt: skip
DriverGroupS = Annotated[float | None, _option("--driver-group-s", "Seconds of the driver for a finished group, one at a time (0).",
    min=0)]  # fmt: skip
Steps = Annotated[int, typer.Option("--steps", help="Steps that are measured, after those that fill the pipeline.", min=1)]
Seed = Annotated[int, typer.Option("--seed", help="Of the lengths.")]
JsonFile = Annotated[Path | None, _option("--json", "Write numbers and predictions to this file.")]
PlotFile = Annotated[Path | None, _option("--plot", "Draw the curves into this PNG.")]

SLICE_S = 0.5
"""As in r1.runtime.rollout_pool, which would import Ray."""


@app.command()
def command(
    from_run: FromRun = None,
    check: Check = None,
    engines: Engines = "1,2,...,1024",
    scaling: ScalingOption = "weak",
    staleness: Staleness = "1",
    prompts: Prompts = None,
    group_size: GroupSize = None,
    max_num_seqs: MaxNumSeqs = None,
    iteration_s: IterationS = None,
    sequence_s: SequenceS = None,
    throughput: Throughput = None,
    median_tokens: MedianTokens = None,
    mean_tokens: MeanTokens = None,
    sigma: Sigma = 0.6,
    max_tokens: MaxTokens = None,
    lengths_of: LengthsOfRun = None,
    prompt_tokens: PromptTokens = None,
    prefill_tokens_per_s: PrefillRate = None,
    update_s: UpdateS = None,
    update_tokens_per_s: UpdateRate = None,
    learner_grows: LearnerGrows = False,
    score_s: ScoreS = None,
    sync_s: SyncS = None,
    slice_s: SliceS = None,
    driver_group_s: DriverGroupS = None,
    steps: Steps = 6,
    seed: Seed = 0,
    json_file: JsonFile = None,
    plot: PlotFile = None,
) -> None:
    """Predict a run's step time, idle shares and staleness, strict and overlapped, with the rollout pool's own scheduling.

    \b
    Examples:
      python -m r1.simulate --from-run RUN --engines 1,2,4
      python -m r1.simulate --from-run RUN --check OTHER_RUN
      python -m r1.simulate --prompts 16 --throughput 1:60 --throughput 256:6000 --median-tokens 1000 --max-tokens 8192 \\
        --update-s 20 --sync-s 5 --plot curves.png
    """
    console = new_console()
    speed = _given_speed(iteration_s, sequence_s, throughput)
    fit = fit_runs(from_run, speed) if from_run else None
    if prefill_tokens_per_s is not None and speed is None and fit:
        raise UserError("option '--prefill-tokens-per-s': prefill is in the fitted seconds already; give --iteration-s and "
                        "--sequence-s beside it")  # fmt: skip
    given: dict[str, Any] = {
        "num_prompts": prompts, "group_size": group_size, "max_num_seqs": max_num_seqs, "prompt_tokens": prompt_tokens,
        "update_s": update_s, "score_s": score_s, "sync_s": sync_s, "slice_s": slice_s, "driver_group_s": driver_group_s,
        "speed": speed, "update_token_s": None if update_tokens_per_s is None else 1 / update_tokens_per_s,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    setting = _setting(fit, given)
    if prefill_tokens_per_s is not None:
        setting = replace(setting, speed=replace(setting.speed, prefill_token_s=1 / prefill_tokens_per_s))
    median = median_tokens if mean_tokens is None else mean_tokens * math.exp(-(sigma**2) / 2)
    lengths = _lengths(fit, lengths_of, median, sigma, max_tokens, setting.group_size, seed)
    _print_numbers(console, setting, fit)
    if check:
        if fit is None:
            raise UserError("option '--check': needs --from-run, the numbers that predict it")
        if {run.resolve() for run in check} & {run.resolve() for run in from_run or ()}:
            raise UserError("option '--check': predicts a run from itself, which is no test; give another run")
        for run in check:
            _check(console, setting, given, lengths, run, steps)
        return
    modes = [(0, False), *((k, in_flight) for k in _numbers("--staleness", staleness) for in_flight in (False, True))]
    counts = _numbers("--engines", engines)
    predictions = sweep(
        setting, lengths, engines=counts, modes=modes, scaling=scaling, num_steps=steps, learner_grows=learner_grows
    )
    _print_predictions(console, predictions)
    if json_file:
        tree = {"numbers": asdict(setting), "predictions": [asdict(prediction) for prediction in predictions]}
        json_file.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    if plot:
        from r1.simulation_plot import draw_predictions

        draw_predictions(predictions, plot)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error of ours becomes one line on stderr and exit code 2."""
    try:
        app(args=arguments, prog_name="python -m r1.simulate")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _given_speed(iteration_s: float | None, sequence_s: float | None, throughput: Sequence[str] | None) -> EngineSpeed | None:
    if throughput:
        if len(throughput) != 2 or iteration_s is not None or sequence_s is not None:
            raise UserError("option '--throughput': twice, without --iteration-s and --sequence-s; e.g. 1:60 and 256:6000")
        return speed_of(*map(_pair, throughput))
    if (iteration_s is None) != (sequence_s is None):
        raise UserError("options '--iteration-s' and '--sequence-s' go together: give both")
    if iteration_s is None or sequence_s is None:
        return None
    if not iteration_s + sequence_s:
        raise UserError("options '--iteration-s' and '--sequence-s': one of them must be above 0")
    return EngineSpeed(iteration_s=iteration_s, sequence_s=sequence_s)


def _pair(text: str) -> tuple[int, float]:
    count, _, tokens_per_s = text.partition(":")
    try:
        pair = int(count), float(tokens_per_s)
    except ValueError:
        pair = 0, 0.0
    if pair[0] < 1 or pair[1] <= 0:
        raise UserError(f"option '--throughput': {text!r} is not completions:tokens/s, both above 0; e.g. 256:6000")
    return pair


def _numbers(option: str, text: str) -> list[int]:
    """
    >>> _numbers("--engines", "1,2,...,16"), _numbers("--engines", "3")
    ([1, 2, 4, 8, 16], [3])
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        numbers = [int(part) for part in parts if part != "..."]
        if "..." in parts:
            if parts.index("...") != len(parts) - 2 or numbers[-3] < 1 or numbers[-2] <= numbers[-3]:
                raise ValueError
            *numbers, last = numbers
            while numbers[-1] * numbers[-1] // numbers[-2] <= last:
                numbers.append(numbers[-1] * numbers[-1] // numbers[-2])
    except (ValueError, IndexError):
        numbers = []
    if not numbers or min(numbers) < 1:
        raise UserError(f"option '{option}': {text!r} is not a list of numbers from 1 on; e.g. 1,2,4 or 1,2,...,1024")
    return numbers


def _setting(fit: Fit | None, given: dict[str, Any]) -> Setting:
    if fit:
        return replace(fit.setting, **({"slice_s": SLICE_S} | given))
    required = {"num_prompts": "--prompts", "speed": "--iteration-s and --sequence-s, or --throughput twice", "sync_s": "--sync-s"}
    missing = [option for name, option in required.items() if name not in given]
    if not {"update_s", "update_token_s"} & set(given):
        missing.append("--update-s or --update-tokens-per-s")
    if missing:
        raise UserError(f"missing: {'; '.join(missing)}. Or give a finished run's folder with --from-run")
    return Setting(num_engines=1, **({"max_num_seqs": 256, "group_size": 16, "update_s": 0.0, "slice_s": SLICE_S} | given))


def _lengths(
    fit: Fit | None, run: Path | None, median: float | None, sigma: float, max_tokens: int | None, group_size: int, seed: int
) -> LengthsOf:
    if run is not None:
        return SampledLengths(groups=groups_of_run(run), group_size=group_size, seed=seed)
    if median is not None and max_tokens is not None:
        return LognormalLengths(median=median, sigma=sigma, max_tokens=max_tokens, group_size=group_size, seed=seed)
    if fit is None or median is not None or max_tokens is not None:
        raise UserError("lengths: give --median-tokens (or --mean-tokens) and --max-tokens, or --lengths-of or --from-run")
    return SampledLengths(groups=fit.groups, group_size=group_size, seed=seed)


def _print_numbers(console: "Console", setting: Setting, fit: Fit | None) -> None:
    speed = setting.speed
    console.print(
        f"engine: {speed.iteration_s:.4g} s + {speed.sequence_s:.4g} s x completions an iteration "
        f"({speed.tokens_per_s(setting.max_num_seqs):.0f} tokens/s at {setting.max_num_seqs})"
        + (f", prefill {speed.prefill_token_s:.3g} s a token" if speed.prefill_token_s else "")
    )
    console.print(
        f"learner: {setting.update_s:.4g} s + {setting.update_token_s:.4g} s x tokens an update; "
        f"scores {setting.score_s:.3g} s, sync {setting.sync_s:.3g} s"
    )
    if fit:
        console.print(f"fitted with a mean error of {fit.engine_error:.1%} (sample) and {fit.update_error:.1%} (update)")


def _check(console: "Console", setting: Setting, given: dict[str, Any], lengths: LengthsOf, run: Path, steps: int) -> None:
    """Predict a run's configuration with the numbers of others, and print both."""
    measured = measured_run(run)
    counts = ("num_engines", "max_num_seqs", "num_prompts", "group_size", "max_staleness", "in_flight")
    asked = replace(setting, **{name: getattr(measured.setting, name) for name in counts})
    predicted = simulate(asked, lengths, num_steps=max(steps, 30), num_skipped=2 + asked.max_staleness)
    console.print(
        f"\n{run.name}: {asked.mode}, {asked.num_engines} engine(s) of max_num_seqs {asked.max_num_seqs}, {asked.num_prompts} "
        f"prompts x {asked.group_size}; {measured.num_steps} steps measured"
    )
    table = new_table("", "predicted", "measured", "difference")
    for label, ours, theirs, spec in (
        ("step, s", predicted.step_s, measured.step_s, ".2f"),
        ("tokens a step", predicted.tokens_per_s * predicted.step_s, measured.tokens_per_step, ".0f"),
        ("tokens/s", predicted.tokens_per_s, measured.tokens_per_s, ".0f"),
    ):
        table.add_row(*text_cells(label, format(ours, spec), format(theirs, spec), f"{ours / theirs - 1:+.1%}"))
    idle = predicted.learner_idle_share, measured.learner_idle_share
    table.add_row(*text_cells("learner idle", *(f"{share:.1%}" for share in idle), f"{100 * (idle[0] - idle[1]):+.1f} points"))
    console.print(table)


def _print_predictions(console: "Console", predictions: Sequence[Prediction]) -> None:
    headings = ("engines", "prompts", "mode", "step, s", "tokens/s", "over strict", "learner idle", "engines idle", "slots used",
                "staleness", "at most")  # fmt: skip
    table = new_table(*headings)
    strict = {prediction.num_engines: prediction.step_s for prediction in predictions if prediction.mode == "strict"}
    for one in predictions:
        shares = (one.learner_idle_share, one.engine_idle_share, one.slots_used_share)
        table.add_row(
            *text_cells(one.num_engines, one.num_prompts, one.mode, f"{one.step_s:.2f}", f"{one.tokens_per_s:,.0f}"),
            *text_cells(f"{strict[one.num_engines] / one.step_s:.2f}x", *(f"{share:.1%}" for share in shares)),
            *text_cells(f"{one.staleness_mean:.2f}", one.staleness_max),
        )
    console.print(table)


if __name__ == "__main__":
    main()
