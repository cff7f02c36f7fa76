"""`python -m r1.simulate`: what a cluster would do with a run, before it is rented. docs/scaling.md explains the model."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from r1 import simulation_options as option
from r1.cli.printing import new_console, new_table, printable_line, text_cells
from r1.errors import UserError
from r1.simulated_run import Setting
from r1.simulation import MAX_STEPS, LognormalLengths, Prediction, SampledLengths, simulate, sweep
from r1.simulation_fit import Fit, fit_runs, groups_of_run, measured_run

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


Lengths = LognormalLengths | SampledLengths
SLICE_S = 0.5
"""As in r1.runtime.rollout_pool, which would import Ray."""


@app.command()
def command(
    from_run: option.FromRun = None,
    check: option.Check = None,
    engines: option.Engines = "1,2,...,1024",
    scaling: option.ScalingOption = "weak",
    staleness: option.Staleness = "1",
    prompts: option.Prompts = None,
    group_size: option.GroupSize = None,
    max_num_seqs: option.MaxNumSeqs = None,
    iteration_s: option.IterationS = None,
    sequence_s: option.SequenceS = None,
    throughput: option.Throughput = None,
    median_tokens: option.MedianTokens = None,
    mean_tokens: option.MeanTokens = None,
    sigma: option.Sigma = 0.6,
    max_tokens: option.MaxTokens = None,
    lengths_of: option.LengthsOfRun = None,
    prompt_tokens: option.PromptTokens = None,
    prefill_tokens_per_s: option.PrefillRate = None,
    update_s: option.UpdateS = None,
    update_tokens_per_s: option.UpdateRate = None,
    learner_grows: option.LearnerGrows = False,
    score_s: option.ScoreS = None,
    sync_s: option.SyncS = None,
    slice_s: option.SliceS = None,
    driver_group_s: option.DriverGroupS = None,
    steps: option.Steps = 6,
    seed: option.Seed = 0,
    json_file: option.JsonFile = None,
    plot: option.PlotFile = None,
) -> None:
    """Predict a run's step time, idle shares and staleness, strict and overlapped, with the rollout pool's own scheduling.

    \b
    Examples:
      python -m r1.simulate --from-run RUN --from-run RUN_OF_SMALL_BATCHES --engines 1,2,4
      python -m r1.simulate --from-run RUN --from-run RUN_OF_SMALL_BATCHES --check OTHER_RUN
      python -m r1.simulate --prompts 16 --throughput 1:60 --throughput 256:6000 --median-tokens 1000 --max-tokens 8192 \\
        --update-s 20 --sync-s 5 --plot curves.png
    """
    console = new_console()
    speed = option.given_speed(iteration_s, sequence_s, throughput)
    fit = fit_runs(from_run, speed) if from_run else None
    if prefill_tokens_per_s is not None and speed is None and fit:
        raise UserError(
            "option '--prefill-tokens-per-s': prefill is in the fitted seconds already; give --iteration-s and --sequence-s too"
        )
    setting = _setting(
        fit,
        num_prompts=prompts,
        group_size=group_size,
        max_num_seqs=max_num_seqs,
        prompt_tokens=prompt_tokens,
        speed=speed,
        update_s=update_s,
        update_token_s=update_tokens_per_s and 1 / update_tokens_per_s,
        score_s=score_s,
        sync_s=sync_s,
        slice_s=slice_s,
        driver_group_s=driver_group_s,
    )
    if prefill_tokens_per_s is not None:
        setting = replace(setting, speed=replace(setting.speed, prefill_token_s=1 / prefill_tokens_per_s))
    median = median_tokens if mean_tokens is None else mean_tokens * math.exp(-(sigma**2) / 2)
    lengths = _lengths(fit, lengths_of, median, sigma, max_tokens, setting.group_size, seed)
    _print_numbers(console, setting, fit)
    if check:
        _check_runs(console, setting, lengths, check, from_run or ())
        return
    modes = [(0, False), *((k, in_flight) for k in option.numbers("--staleness", staleness) for in_flight in (False, True))]
    counts = option.numbers("--engines", engines)
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
        print(f"error: {printable_line(str(error))}", file=sys.stderr)
        sys.exit(2)


def _setting(fit: Fit | None, **options: Any) -> Setting:
    given = {name: value for name, value in options.items() if value is not None}
    if fit:
        return replace(fit.setting, **({"slice_s": SLICE_S} | given))
    speed = "--iteration-s and --sequence-s, or --throughput twice"
    required = {"num_prompts": "--prompts", "speed": speed, "sync_s": "--sync-s"}
    missing = [option for name, option in required.items() if name not in given]
    if not {"update_s", "update_token_s"} & set(given):
        missing.append("--update-s or --update-tokens-per-s")
    if missing:
        raise UserError(f"missing: {'; '.join(missing)}. Or give a finished run's folder with --from-run")
    return Setting(num_engines=1, **({"max_num_seqs": 256, "group_size": 16, "update_s": 0.0, "slice_s": SLICE_S} | given))


def _lengths(
    fit: Fit | None, run: Path | None, median: float | None, sigma: float, max_tokens: int | None, group_size: int, seed: int
) -> Lengths:
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
        sample = "" if fit.engine_error is None else f"{fit.engine_error:.1%} (sample) and "
        console.print(f"fitted with a mean error of {sample}{fit.update_error:.1%} (update)")


def _check_runs(console: "Console", setting: Setting, lengths: Lengths, runs: Sequence[Path], fitted: Sequence[Path]) -> None:
    if not fitted:
        raise UserError("option '--check': needs --from-run, the runs whose numbers predict this one")
    if {run.resolve() for run in runs} & {run.resolve() for run in fitted}:
        raise UserError("option '--check': predicts a run from itself, which is no test; give another run")
    for run in runs:
        _check(console, setting, lengths, run)


def _check(console: "Console", setting: Setting, lengths: Lengths, run: Path) -> None:
    """Predict a run's configuration with the numbers of others, and print both."""
    measured = measured_run(run)
    counts = ("num_engines", "max_num_seqs", "num_prompts", "group_size", "max_staleness", "in_flight")
    asked = replace(setting, **{name: getattr(measured.setting, name) for name in counts})
    lengths = replace(lengths, group_size=asked.group_size)
    predicted = simulate(asked, lengths, num_steps=MAX_STEPS, num_skipped=2 + asked.max_staleness)
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
    idle = ("learner idle", "engines idle", "slots used")
    table = new_table("engines", "prompts", "mode", "step, s", "tokens/s", "over strict", *idle, "staleness", "at most")
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
