"""The options of `python -m r1.simulate`, with their units, and what their texts mean."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from r1.errors import UserError
from r1.simulated_engine import EngineSpeed
from r1.simulation import Scaling, speed_of


def _option(name: str, text: str, **limits: Any) -> Any:
    return typer.Option(name, help=text, show_default=False, **limits)


Runs = list[Path] | None
FromRun = Annotated[
    Runs,
    _option(
        "--from-run",
        "A strict one-worker run's folder: every number below that is not given is read or fitted from it. Mostly two, of unlike "
        "rollout.max_num_seqs, fitted together (docs/scaling.md); counts and lengths are the first one's.",
    ),
]
Check = Annotated[
    Runs,
    _option(
        "--check",
        "A run's folder, several if you like: predict its configuration and compare with what it measured. Needs --from-run "
        "with other runs.",
    ),
]
Engines = Annotated[str, typer.Option("--engines", help='Numbers of engines; "1,2,...,64" goes on in the same proportion.')]
ScalingOption = Annotated[Scaling, typer.Option("--scaling", help="weak: --prompts for each engine. strong: --prompts in all.")]
Staleness = Annotated[str, typer.Option("--staleness", help="max_staleness of the overlapped modes, in versions: 1, or 1,2,4.")]
Prompts = Annotated[int | None, _option("--prompts", "Prompts per step: of each engine (weak scaling) or in all.", min=1)]
GroupSize = Annotated[int | None, _option("--group-size", "Completions per prompt (16).", min=1)]
MaxNumSeqs = Annotated[int | None, _option("--max-num-seqs", "Completions that one engine decodes together (256).", min=1)]
IterationS = Annotated[
    float | None,
    _option("--iteration-s", "Engine: seconds of one token for all running completions. With --sequence-s.", min=0),
]
SequenceS = Annotated[
    float | None, _option("--sequence-s", "Engine: seconds that each running completion adds to an iteration.", min=0)
]
Throughput = Annotated[
    list[str] | None,
    _option("--throughput", "In place of both, given twice: completions:tokens/s of one engine, e.g. 1:60 and 256:6000."),
]
MedianTokens = Annotated[float | None, _option("--median-tokens", "Median completion length, tokens (lognormal).", min=1)]
MeanTokens = Annotated[float | None, _option("--mean-tokens", "In its place: the mean, before the limit cuts.", min=1)]
Sigma = Annotated[float, typer.Option("--sigma", help="Of the logarithm of the length: 0 all alike, 1 a long tail.", min=0)]
MaxTokens = Annotated[int | None, _option("--max-tokens", "Limit of a completion, tokens; longer ones are cut off.", min=1)]
LengthsOfRun = Annotated[
    Path | None, _option("--lengths-of", "In place of these: the lengths in a run's traces, drawn by whole groups.")
]
PromptTokens = Annotated[int | None, _option("--prompt-tokens", "Length of a prompt, tokens; matters with the next.", min=0)]
PrefillRate = Annotated[
    float | None,
    _option(
        "--prefill-tokens-per-s",
        "Engine: prompt tokens a second; not given: prefill is free. In flight, each sync computes prompts and completions anew.",
        min=1e-9,
    ),
]
UpdateS = Annotated[float | None, _option("--update-s", "Learner: seconds of an update, whatever its size.", min=0)]
UpdateRate = Annotated[
    float | None, _option("--update-tokens-per-s", "Learner: completion tokens a second, on top of --update-s.", min=1e-9)
]
LearnerGrows = Annotated[
    bool, typer.Option("--learner-grows", help="The learner's tokens/s are for one engine, and grow with their number.")
]
ScoreS = Annotated[float | None, _option("--score-s", "Seconds from a batch's last group to its update: scores, traces.", min=0)]
SyncS = Annotated[float | None, _option("--sync-s", "Seconds of a weight sync: publish, transfer, load, verify.", min=0)]
SliceS = Annotated[
    float | None,
    _option("--slice-s", "Seconds after which a worker looks up for groups and weights if it finishes no group (0.5).", min=0),
]
DriverGroupS = Annotated[
    float | None, _option("--driver-group-s", "Seconds of the driver for a finished group, one at a time (0).", min=0)
]
Steps = Annotated[
    int, typer.Option("--steps", help="Steps that are measured at least, after those that fill the pipeline.", min=1)
]
Seed = Annotated[int, typer.Option("--seed", help="Of the lengths.")]
JsonFile = Annotated[Path | None, _option("--json", "Write numbers and predictions to this file.")]
PlotFile = Annotated[Path | None, _option("--plot", "Draw the curves into this PNG.")]


def given_speed(iteration_s: float | None, sequence_s: float | None, throughput: Sequence[str] | None) -> EngineSpeed | None:
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


def numbers(option: str, text: str) -> list[int]:
    """
    >>> numbers("--engines", "1,2,...,16"), numbers("--engines", "3")
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
