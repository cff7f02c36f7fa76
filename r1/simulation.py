"""Predict step time, idle shares and staleness for strict and overlapped runs. No GPU, no Ray, no torch.

docs/scaling.md says what is modelled, what is left out, and how well it predicts; `python -m r1.simulate` is the command.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from r1.errors import UserError
from r1.seeds import derive_seed
from r1.simulated_engine import EngineSpeed
from r1.simulated_run import LengthsOf, Setting, SimulatedRun

Scaling = Literal["weak", "strong"]
MAX_STEPS = 48
"""That are measured with up to 8 engines."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """Means over the steps that were measured; shares are 0 .. 1."""

    mode: str
    num_engines: int
    num_prompts: int
    step_s: float
    tokens_per_s: float
    """Completion tokens of all engines that were learnt from."""
    learner_idle_share: float
    """Time in which no update runs."""
    engine_idle_share: float
    """Time in which an engine decodes nothing, mean over the engines."""
    slots_used_share: float
    """Of all places in the engines' batches, over all time."""
    staleness_mean: float
    """Versions by which the policy that began a group was behind the learner's; mean over groups."""
    staleness_max: int


def simulate(setting: Setting, lengths: LengthsOf, *, num_steps: int, num_skipped: int = 0) -> Prediction:
    """Predict the steps after the first `num_skipped`; sampling goes on behind the last one, as in a longer run."""
    run = SimulatedRun(setting, lengths, num_skipped + num_steps)
    run.go()
    first, last = run.totals[num_skipped], run.totals[-1]
    batches = [run.batches[step] for step in range(num_skipped + 1, num_skipped + num_steps + 1)]
    seconds = last.now_s - first.now_s
    num_tokens, engine_s = sum(batch.num_tokens for batch in batches), seconds * setting.num_engines
    return Prediction(
        mode=setting.mode,
        num_engines=setting.num_engines,
        num_prompts=setting.num_prompts,
        step_s=seconds / num_steps,
        tokens_per_s=num_tokens / seconds,
        learner_idle_share=1 - (last.update_s - first.update_s) / seconds,
        engine_idle_share=1 - (last.busy_s - first.busy_s) / engine_s,
        slots_used_share=(last.slot_s - first.slot_s) / (engine_s * setting.max_num_seqs),
        staleness_mean=sum(batch.staleness_sum for batch in batches) / (num_steps * setting.num_prompts),
        staleness_max=max(batch.staleness_max for batch in batches),
    )


def sweep(
    setting: Setting,
    lengths: LengthsOf,
    *,
    engines: Sequence[int],
    modes: Sequence[tuple[int, bool]],
    scaling: Scaling,
    num_steps: int,
    learner_grows: bool = False,
) -> list[Prediction]:
    """Predict each mode (max_staleness, in_flight) for each number of engines.

    weak: `setting.num_prompts` for each engine. strong: so many in all.
    learner_grows: what a token adds to the update falls as the engines grow in number.
    num_steps: measured at least; few engines get more, as chance weighs more there.
    """
    num_skipped = 2 + max(max_staleness for max_staleness, _ in modes)  # until a pipeline that deep is full
    drawn = cache(lengths)  # drawing them takes a third of the time
    predictions = []
    for num_engines in engines:
        sized = replace(
            setting,
            num_engines=num_engines,
            num_prompts=setting.num_prompts * (num_engines if scaling == "weak" else 1),
            update_token_s=setting.update_token_s / (num_engines if learner_grows else 1),
        )
        measured = max(num_steps, min(MAX_STEPS, 8 * MAX_STEPS // num_engines))
        for max_staleness, in_flight in modes:
            mode = replace(sized, max_staleness=max_staleness, in_flight=in_flight)
            predictions.append(simulate(mode, drawn, num_steps=measured, num_skipped=num_skipped))
    return predictions


def speed_of(first: tuple[int, float], second: tuple[int, float]) -> EngineSpeed:
    """The engine whose throughput was measured at two numbers of running completions: (completions, tokens/s) twice.

    >>> speed_of((10, 200.0), (100, 1000.0))  # 0.05 and 0.1 seconds per iteration
    EngineSpeed(iteration_s=0.044444444444444446, sequence_s=0.0005555555555555556, prefill_token_s=0.0)
    """
    (few, few_tokens), (many, many_tokens) = sorted([first, second])
    if few == many:
        raise UserError(f"option '--throughput': both are at {few} completions; give two different numbers, e.g. 1:60 256:6000")
    few_s, many_s = few / few_tokens, many / many_tokens
    sequence_s = (many_s - few_s) / (many - few)
    iteration_s = few_s - sequence_s * few
    if sequence_s < 0 or iteration_s < 0:
        raise UserError(
            f"option '--throughput': {few_s:.3g} s an iteration at {few} completions and {many_s:.3g} s at {many} fit no engine "
            "of a + b x completions seconds with neither below 0; measure again, or give --iteration-s and --sequence-s"
        )
    return EngineSpeed(iteration_s=iteration_s, sequence_s=sequence_s)


@dataclass(frozen=True, kw_only=True)
class LognormalLengths:
    """Completions of independent lognormal lengths, cut off at the limit. The same for each mode, so that modes compare.

    >>> LognormalLengths(median=100.0, sigma=0.0, max_tokens=64, group_size=2, seed=0)(1, 0)
    [64, 64]
    """

    median: float
    sigma: float
    """Of the logarithm: 0.5 is mild, 1 has a long tail."""
    max_tokens: int
    group_size: int
    seed: int

    def __call__(self, step: int, group_id: int) -> list[int]:
        chance = random.Random(derive_seed(self.seed, "lengths", step, group_id))
        mu, sigma = math.log(self.median), self.sigma
        lengths = [round(math.exp(chance.gauss(mu, sigma))) for _ in range(self.group_size)]
        return [min(self.max_tokens, max(1, length)) for length in lengths]


@dataclass(frozen=True, kw_only=True)
class SampledLengths:
    """Whole groups drawn with replacement from those of a run: siblings resemble each other.

    >>> SampledLengths(groups=[[5, 7]], group_size=2, seed=0)(1, 0)
    [5, 7]
    """

    groups: Sequence[Sequence[int]]
    group_size: int
    """Where it is not the run's, completions of the group are drawn, with replacement."""
    seed: int

    def __call__(self, step: int, group_id: int) -> list[int]:
        chance = random.Random(derive_seed(self.seed, "lengths", step, group_id))
        group = chance.choice(self.groups)
        return list(group) if len(group) == self.group_size else chance.choices(group, k=self.group_size)
