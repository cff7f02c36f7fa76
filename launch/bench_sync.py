"""Time a weight sync on this machine: python -m launch.bench_sync [--model FOLDER] [--dtype bfloat16] [--repeats 7] ...

Learner and rollout worker are the run's own Ray actors. Before each sync an optimizer step changes the weights; then the
learner publishes them and the pool brings the engine to the new version, with and without verification in turn.
docs/performance.md reads the table.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from r1.batching import TrainBatch, make_train_batch
from r1.config import RunConfig, load_config
from r1.faults import FaultLog
from r1.runtime.cluster import Resources, connected
from r1.runtime.learner_group import LearnerGroup
from r1.runtime.rollout_pool import RolloutPool
from r1.runtime.weight_sync import WeightSync
from r1.shm_weights import new_buffer_path
from r1.types import Completion, Prompt, ScoredGroup
from tasks.base import Problem

DEFAULT_MODEL = Path("models/SmolLM2-135M-Instruct")
PHASES = {
    "receive_weights": "transfer",
    "load_weights": "load",
    "reset_prefix_cache": "reset cache",
    "verify_weights": "verify",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help=f"a model's folder (default: {DEFAULT_MODEL})")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16", help="the engine's (default: bfloat16)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each side (default: 2)")
    parser.add_argument("--repeats", type=int, default=7, help="timed syncs of each kind, after one that is not (default: 7)")
    options = parser.parse_args()
    if wrong := [name for name in ("threads", "repeats") if getattr(options, name) < 1]:
        parser.error(f"--{wrong[0]} must be at least 1")
    if not (options.model / "config.json").is_file():
        print(f"error: no model in {options.model}; `python -m launch.get_smollm2` fetches {DEFAULT_MODEL}", file=sys.stderr)
        sys.exit(2)
    run(options)


def run(options: argparse.Namespace) -> None:
    """Measure, and print the table."""
    overrides = [
        f"model.path={options.model.absolute()}",
        f"dtype={options.dtype}",
        f"num_threads={options.threads}",
        "learner.learning_rate=1e-3",
        "learner.warmup_steps=0",
    ]
    quickstart = Path(__file__).parent / "configs/quickstart.toml"
    configs = {verify: load_config(quickstart, [*overrides, f"sync.verify={verify}"]) for verify in ("on", "off")}
    with connected(), tempfile.TemporaryDirectory() as folder:
        faults, one = FaultLog(print), Resources(num_cpus=1)
        pool = RolloutPool(configs["on"], one, faults)
        # The random completions are nobody's samples: the learner's own bound would refuse them.
        learner = LearnerGroup(configs["off"], one, Path(folder), new_buffer_path(), faults)
        try:
            learner.wait_until_ready()
            pool.wait_until_ready()
            measured, num_bytes = measure(pool, learner, configs, options.repeats)
        finally:
            learner.close()
    print(f"{options.model.name}, {options.dtype}, {num_bytes / 2**20:.0f} MiB, {options.threads} threads a side")
    print_table(measured)


def measure(
    pool: RolloutPool, learner: LearnerGroup, configs: dict[str, RunConfig], repeats: int
) -> tuple[dict[str, list[dict[str, float]]], int]:
    """Return "on" and "off" -> seconds by phase of each sync, and the bytes that one moves."""
    clocks = {name: CallClock(worker.handle) for name, worker in pool.workers.items()}
    pool.workers.update({name: replace(pool.workers[name], handle=clock) for name, clock in clocks.items()})
    syncs = {verify: WeightSync(verify=verify == "on", deadline_s=config.deadline_s) for verify, config in configs.items()}
    [clock] = clocks.values()
    measured: dict[str, list[dict[str, float]]] = {"on": [], "off": []}
    num_bytes = 0
    for index, batch in enumerate(random_batches(2 * (1 + repeats))):
        verify = ("on", "off")[index % 2]
        learner.update(batch)
        clock.calls.clear()
        pool._team._weights = syncs[verify]
        start = time.perf_counter()
        manifest = learner.publish_weights()
        published = time.perf_counter()
        pool.load_weights(manifest)
        end = time.perf_counter()
        num_bytes = manifest.num_bytes
        seconds = {"publish": published - start, **seconds_by_phase(clock.calls, end), "all": end - start}
        if index >= 2:
            measured[verify].append(seconds)
    return measured, num_bytes


class CallClock:
    """A worker's handle that notes when which method is called. A phase ends where the next one begins."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self.calls: list[tuple[str, float]] = []

    def __getattr__(self, method: str) -> Any:
        self.calls.append((method, time.perf_counter()))
        return getattr(self._handle, method)


def seconds_by_phase(calls: Sequence[tuple[str, float]], end: float) -> dict[str, float]:
    """Seconds from each call to the next one, under the phases' names."""
    ends = [*(begin for _, begin in calls[1:]), end]
    return {PHASES[method]: after - begin for (method, begin), after in zip(calls, ends, strict=True) if method in PHASES}


def random_batches(count: int) -> Iterator[TrainBatch]:
    """Two short random completions a step: enough for an optimizer step to change every weight."""
    problem = Problem(problem_id="random", question="", reference={})
    prompt = Prompt(group_id=0, task="", problem=problem, text="", prefill="", token_ids=(1, 2, 3))
    for version in range(count):
        completions = tuple(
            Completion(
                group_id=0,
                sample_id=sample_id,
                token_ids=tuple((5 + 7 * version + 3 * i * (sample_id + 1)) % 50 for i in range(8)),
                rollout_logprobs=(-1.0,) * 8,
                text="",
                finish_reason="stop",
                policy_version=version,
            )
            for sample_id in range(2)
        )
        group = ScoredGroup(prompt=prompt, completions=completions, scores=(), advantages=(1.0, -1.0))
        yield make_train_batch(
            [group],
            step=version + 1,
            policy_version=version,
            num_minibatches=1,
            max_tokens_per_microbatch=4096,
            max_completion_tokens=8,
        )


def print_table(measured: dict[str, list[dict[str, float]]]) -> None:
    """Medians and minima, a phase a line."""
    on, off = measured["on"], measured["off"]
    print(f"median and fastest of {len(on)} syncs, seconds\n\n{'phase':14}{'verified':>18}{'not verified':>18}")
    for phase in ("publish", *PHASES.values(), "all"):
        cells = [[seconds[phase] for seconds in syncs if phase in seconds] for syncs in (on, off)]
        print(f"{phase:14}" + "".join(f"{statistics.median(c):10.3f}{min(c):8.3f}" if c else " " * 18 for c in cells))
    pairs = [[statistics.median(s["all"] for s in syncs), min(s["all"] for s in syncs)] for syncs in (on, off)]
    added = [with_it / without - 1 for with_it, without in zip(*pairs, strict=True)]
    print(f"verification adds {added[0]:.1%} to the median, {added[1]:.1%} to the fastest")


if __name__ == "__main__":
    main()
