"""Time the driver on this machine: python -m launch.bench_driver [--workers 1] [--prompts 64] [--steps 10] ...

Rollout workers with an engine that answers at once (launch/instant_engine.py), the run's own pool, and all that the driver does
with a group but scoring and learning: checks, advantages, traces, the learner's batch. docs/performance.md reads the table.
"""

import argparse
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

from r1.batching import make_train_batch
from r1.config import RunConfig, load_config
from r1.faults import FaultLog
from r1.protocols import Scorer
from r1.runtime.cluster import Resources, connected
from r1.runtime.rollout_pool import RolloutPool
from r1.step_sampler import StepSampler
from r1.stopwatch import Stopwatch
from r1.traces import write_traces
from r1.types import Progress, Prompt, PromptBatch, RolloutGroup, Score, WeightManifest
from tasks.base import Problem

GROUP_SIZE = 16
PARTS = ("sample", "score", "advantages", "traces", "batching")
"""sample: through the pool, with all checks; score: drawn at random, in no time; advantages: and whatever else is between."""
WARM_UP_STEPS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1, help="rollout workers (default: 1)")
    parser.add_argument("--prompts", type=int, default=64, help=f"groups of {GROUP_SIZE} in a step (default: 64)")
    parser.add_argument("--tokens", type=int, default=300, help="of the longest completion; the shortest has 1/3 (default: 300)")
    parser.add_argument("--steps", type=int, default=10, help=f"timed steps, after {WARM_UP_STEPS} that are not (default: 10)")
    options = parser.parse_args()
    if wrong := [name for name in ("workers", "prompts", "tokens", "steps") if getattr(options, name) < 1]:
        parser.error(f"--{wrong[0]} must be at least 1")
    overrides = [
        "rollout.engine=launch.instant_engine:InstantEngine",
        f"rollout.num_workers={options.workers}",
        f"rollout.num_prompts={options.prompts}",
        f"rollout.max_completion_tokens={options.tokens}",
        f"rollout.group_size={GROUP_SIZE}",
    ]
    config = load_config(Path(__file__).parent / "configs/quickstart.toml", overrides)
    with connected(options.workers), tempfile.TemporaryDirectory() as folder:
        pool = RolloutPool(config, Resources(num_cpus=1, count=options.workers), FaultLog(print))
        pool.wait_until_ready()
        pool.load_weights(WeightManifest(policy_version=0, path="", num_bytes=0, tensors=()))
        samples = StepSampler(config, lambda *drawn: prompt_batch(config, *drawn), pool, GivenScores(), Progress())
        steps = [one_step(samples, config, Path(folder), step) for step in range(1, WARM_UP_STEPS + options.steps + 1)]
    print_table(steps[WARM_UP_STEPS:], options.prompts * GROUP_SIZE)


def one_step(samples: StepSampler, config: RunConfig, folder: Path, step: int) -> dict[str, float]:
    """Sample, check, compare, write and batch one step; return the seconds of each of PARTS."""
    clock = Stopwatch()
    with clock("advantages"):
        samples.begin(Progress(step=step - 1, policy_version=0))
        sampled = samples.collect(step, clock)
    clock.seconds["advantages"] -= clock.seconds["sample"] + clock.seconds["score"]
    with clock("traces"):
        write_traces(folder, step, sampled.groups, template=config.task.template)
    with clock("batching"):
        make_train_batch(
            sampled.groups,
            step=step,
            policy_version=0,
            num_minibatches=config.learner.minibatches_per_step,
            max_tokens_per_microbatch=config.learner.max_tokens_per_microbatch,
            max_completion_tokens=config.rollout.max_completion_tokens,
        )
    return clock.seconds


def prompt_batch(config: RunConfig, progress: Progress, num_prompts: int) -> PromptBatch:
    """Prompts of 100 tokens, all different."""
    step = progress.step + 1
    prompts = tuple(
        Prompt(
            group_id=group_id,
            task="random",
            problem=Problem(problem_id=f"{step}-{group_id}", question="q" * 300, reference={"answer": "1"}),
            text="q" * 300,
            prefill="",
            token_ids=tuple(range(group_id, group_id + 100)),
        )
        for group_id in range(num_prompts)
    )
    return PromptBatch(step=step, prompts=prompts, group_size=config.rollout.group_size, policy_version=0, seed=0)


class GivenScores(Scorer):
    """Rewards of 0 and 1, drawn at random."""

    def __init__(self) -> None:
        self._rng = random.Random(0)

    def submit(self, group: RolloutGroup) -> None:
        pass

    def collect(self, groups: Sequence[RolloutGroup]) -> list[tuple[Score, ...]]:
        return [tuple(self._score(float(self._rng.random() < 0.5)) for _ in group.completions) for group in groups]

    def forget(self) -> None:
        pass

    def _score(self, reward: float) -> Score:
        return Score(reward=reward, breakdown={"accuracy": reward, "reasoning_format": 1.0})


def print_table(steps: Sequence[dict[str, float]], num_completions: int) -> None:
    """Of the fastest step, and of all together."""
    totals = [sum(step[part] for part in PARTS) for step in steps]
    fastest = steps[totals.index(min(totals))]
    print(f"{num_completions} completions a step, {len(steps)} steps\n\n{'part':14}{'fastest step':>14}{'':8}{'all steps':>12}")
    for part in PARTS:
        of_all = sum(step[part] for step in steps)
        print(f"{part:14}{fastest[part]:12.4f} s{fastest[part] / min(totals):8.1%}{of_all:10.4f} s{of_all / sum(totals):8.1%}")
    print(f"{'all':14}{min(totals):12.4f} s{'':8}{sum(totals):10.4f} s")
    print(f"completions/s {num_completions / min(totals):12.0f}{num_completions * len(steps) / sum(totals):20.0f}")


if __name__ == "__main__":
    main()
