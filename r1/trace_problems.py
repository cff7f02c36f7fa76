"""One problem over the steps of a run: when it was sampled, and what became of it."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from r1.trace_schema import TraceRow
from r1.traces import StepDamaged, read_rows, read_steps, read_table, say_left_out
from tasks.base import Split


def problem_places(run_dir: str | Path, split: Split = "train", named: Collection[int] = ()) -> dict[str, list[int]]:
    """Return problem_id -> the steps that sampled it, rising; in the order of their first step. named: as `read_steps` has it."""

    def problems(step: int) -> tuple[int, list[str]]:
        return step, read_table(run_dir, step, split, ("problem_id",))["problem_id"].unique().to_pylist()

    places: dict[str, list[int]] = {}
    for step, found in read_steps(run_dir, split, problems, named):
        for problem_id in found:
            places.setdefault(problem_id, []).append(step)
    return places


def read_problem(run_dir: str | Path, step: int, problem_id: str, split: Split = "train") -> list[TraceRow]:
    """Return the completions of one problem at one step, in the order of (group_id, sample_id)."""
    table = read_table(run_dir, step, split, ("group_id", "sample_id", "problem_id"))
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return read_rows(run_dir, step, {(group_id, sample_id) for group_id, sample_id, one in rows if one == problem_id}, split)


def most_changed(
    run_dir: str | Path, split: Split, places: Mapping[str, Sequence[int]], steps: Sequence[int] = ()
) -> str | None:
    """Return the problem whose mean reward differs most between two steps that sampled it; None where no problem has two.

    One that could not be judged at one of them has not changed.

    places: as `problem_places` returns them. steps: the two, the first and the last of them; without, those of each problem.
    """
    ends = {
        problem: (steps[0], steps[-1]) if steps else (of_problem[0], of_problem[-1])
        for problem, of_problem in places.items()
        if (set(steps) <= set(of_problem) if steps else len(of_problem) > 1)
    }
    means = {step: _mean_rewards(run_dir, step, split, steps) for step in {step for pair in ends.values() for step in pair}}
    changes = {
        problem: abs(means[last][problem] - means[first][problem])
        if problem in means[first] and problem in means[last]
        else 0.0
        for problem, (first, last) in ends.items()
    }
    return max(changes, key=lambda problem: changes[problem], default=None)


def _mean_rewards(run_dir: str | Path, step: int, split: Split, named: Collection[int]) -> dict[str, float]:
    """Problem -> mean of its known rewards; {} where the file is damaged, and the step is none of those that were named."""
    try:
        table = read_table(run_dir, step, split, ("problem_id", "reward"))
    except StepDamaged as error:
        if step in named:
            raise
        say_left_out(error)
        return {}
    rewards: defaultdict[str, list[float]] = defaultdict(list)
    for problem, reward in zip(table["problem_id"].to_pylist(), table["reward"].to_pylist(), strict=True):
        if reward is not None:
            rewards[problem].append(reward)
    return {problem: fmean(known) for problem, known in rewards.items()}
