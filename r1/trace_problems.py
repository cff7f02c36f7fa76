"""One problem over the steps of a run: when it was sampled, and what became of it."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from r1.trace_schema import TraceRow
from r1.trace_stats import NUM_READERS
from r1.traces import list_trace_files, read_rows, read_table
from tasks.base import Split


def problem_places(run_dir: str | Path, split: Split = "train") -> dict[str, list[int]]:
    """Return problem_id -> the steps that sampled it, rising; in the order of their first step."""
    steps = list(list_trace_files(run_dir, split))

    def problems(step: int) -> list[str]:
        found: list[str] = read_table(run_dir, step, split, ("problem_id",))["problem_id"].unique().to_pylist()
        return found

    places: dict[str, list[int]] = {}
    with ThreadPoolExecutor(NUM_READERS) as readers:
        for step, found in zip(steps, readers.map(problems, steps), strict=True):
            for problem_id in found:
                places.setdefault(problem_id, []).append(step)
    return places


def read_problem(run_dir: str | Path, step: int, problem_id: str, split: Split = "train") -> list[TraceRow]:
    """Return the completions of one problem at one step, in the order of (group_id, sample_id)."""
    import pyarrow.compute as pc

    table = read_table(run_dir, step, split, ("group_id", "sample_id", "problem_id"))
    found = table.filter(pc.equal(table["problem_id"], problem_id))
    keys = set(zip(found["group_id"].to_pylist(), found["sample_id"].to_pylist(), strict=True))
    return read_rows(run_dir, step, keys, split)


def most_changed(
    run_dir: str | Path, split: Split, places: Mapping[str, Sequence[int]], steps: Sequence[int] = ()
) -> str | None:
    """Return the problem whose mean reward differs most between two steps that sampled it; None where no problem has two.

    places: as `problem_places` returns them. steps: the two, the first and the last of them; without, those of each problem.
    """
    ends = {
        problem: (steps[0], steps[-1]) if steps else (of_problem[0], of_problem[-1])
        for problem, of_problem in places.items()
        if (set(steps) <= set(of_problem) if steps else len(of_problem) > 1)
    }
    means = {step: _mean_rewards(run_dir, step, split) for step in {step for pair in ends.values() for step in pair}}
    changes = {
        problem: abs(means[last].get(problem, 0.0) - means[first].get(problem, 0.0)) for problem, (first, last) in ends.items()
    }
    return max(changes, key=lambda problem: changes[problem], default=None)


def _mean_rewards(run_dir: str | Path, step: int, split: Split) -> dict[str, float]:
    """Problem -> mean of its known rewards."""
    table = read_table(run_dir, step, split, ("problem_id", "reward"))
    means = table.group_by("problem_id").aggregate([("reward", "mean")])
    return {
        problem: mean
        for problem, mean in zip(means["problem_id"].to_pylist(), means["reward_mean"].to_pylist(), strict=True)
        if mean is not None
    }
