"""Measure what overlap gains on this machine: python -m launch.bench_overlap [--steps 50] [--repeats 1] [--in-flight] ...

The quickstart twice in turn, with one thread for the rollout worker and one for the learner: strict, and with
rollout.max_staleness=1. The same prompts, the same number of updates. Compares the wall time of the steps, and held-out
accuracy after them: what stale samples cost.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from r1.metrics import read_metrics

QUICKSTART = Path(__file__).parent / "configs/quickstart.toml"
ONE_CORE_EACH = ("num_threads=1",)
MODES = {"strict": (), "overlapped": ("rollout.max_staleness=1",)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=1, help="pairs of runs, seeds 0, 1, ... (default: 1)")
    parser.add_argument("--in-flight", action="store_true", help="load weights in the middle of completions")
    parser.add_argument("overrides", nargs="*", metavar="section.option=value", help="for all runs")
    options = parser.parse_args()
    print(f"{'seed':>4}  {'mode':12}{'steps':>8}{'accuracy before':>18}{'after':>8}   seconds a step by phase")
    for seed in range(options.repeats):
        walls = {}
        for mode, overrides in MODES.items():
            in_flight = ("sync.in_flight=true",) if options.in_flight and overrides else ()
            walls[mode] = measure(
                mode, seed, [f"num_steps={options.steps}", *ONE_CORE_EACH, *overrides, *in_flight, *options.overrides]
            )
        print(f"      overlapped / strict  {walls['overlapped'] / walls['strict']:.2f}", flush=True)


def measure(mode: str, seed: int, overrides: list[str]) -> float:
    """Train once and print a line; returns the seconds of all steps."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        command = [sys.executable, "-m", "launch.train", str(QUICKSTART), f"run_dir={run_dir}", f"seed={seed}", *overrides]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        events = read_metrics(run_dir)
    steps = [event for event in events if event["kind"] == "step"]
    accuracy = [event["metrics"]["accuracy"] for event in events if event["kind"] == "heldout"]
    phases = {name: sum(step["timings_s"][name] for step in steps) for name in steps[0]["timings_s"]}
    wall_s = float(sum(phases.values()))
    means = "  ".join(f"{name} {seconds / len(steps):.2f}" for name, seconds in phases.items())
    print(f"{seed:4}  {mode:12}{wall_s:6.1f} s{accuracy[0]:18.3f}{accuracy[-1]:8.3f}   {means}", flush=True)
    return wall_s


if __name__ == "__main__":
    main()
