"""The simulator's numbers from runs that have finished: metrics.jsonl, traces and config.json.

Engine: sampling one batch with one strict worker takes

    sample_s = iteration_s x iterations + sequence_s x tokens

The tokens are counted in the traces. The iterations are those of a simulated engine that gets the groups of the traces from
the pool's scheduler: with one worker their number does not depend on either of the two seconds. Both come out by least
squares over the steps, neither below 0. Prefill, and what Ray and the pool add, is in them.

Learner: update_s + update_token_s x tokens by least squares as well. Score with write, and publish with load, are means.
The first step of each run is left out: it warms up.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from r1.config import RunConfig, check_config
from r1.errors import UserError
from r1.metrics import read_metrics
from r1.simulated_engine import EngineSpeed
from r1.simulated_run import Setting, SimulatedRun
from r1.traces import list_trace_files, read_lengths

NUM_WARM_UP = 1
"""First steps that are left out."""
MIN_SPREAD = 0.3
"""Standard deviation / mean over the steps, of what two unknowns are to be told apart by. One run of the quickstart has 0.1 to
0.25: its noise then decides, and the seconds of an iteration came out as 0.8 ms where single iterations show 6.5."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    setting: Setting
    """Of the first run."""
    groups: list[list[int]]
    """[groups][G] tokens of each completion, of the first run."""
    engine_error: float | None
    """Mean |fitted - measured| / measured of the sample seconds that it was fitted to; None where the speed was given."""
    update_error: float
    """The same of the update seconds."""


@dataclass(frozen=True, kw_only=True)
class MeasuredRun:
    """What a run did, for comparison with a prediction."""

    setting: Setting
    """Its counts; the seconds are another run's."""
    num_steps: int
    step_s: float
    tokens_per_step: float
    tokens_per_s: float
    learner_idle_share: float


def fit_runs(run_dirs: Sequence[Path], speed: EngineSpeed | None = None) -> Fit:
    """Read the numbers of one or more strict one-worker runs; counts and lengths are the first one's.

    speed: of the engine, where it is known; then it is not fitted, and any kind of run will do.
    """
    runs = [_Run.read(run_dir) for run_dir in run_dirs]
    engine_error = None
    if speed is None:
        rows = [row for run in runs for row in run.sampled()]
        if _spread([num_tokens / iterations for iterations, num_tokens, _ in rows]) < MIN_SPREAD:
            raise UserError(
                "option '--from-run': its steps decode nearly the same number of completions together, which does not tell the "
                "cost of an iteration from that of a completion; add another --from-run, of a quarter of the "
                "rollout.max_num_seqs or less, or give --iteration-s and --sequence-s"
            )
        (iteration_s, sequence_s), engine_error = _least_squares(rows)
        speed = EngineSpeed(iteration_s=iteration_s, sequence_s=sequence_s)
    timings = [event["timings_s"] for run in runs for event in run.events]
    updates = [row for run in runs for row in run.updated()]
    if _spread([num_tokens for _, num_tokens, _ in updates]) < MIN_SPREAD:
        updates = [(0.0, num_tokens, seconds) for _, num_tokens, seconds in updates]
    (update_s, update_token_s), update_error = _least_squares(updates)
    setting = replace(
        _counts(runs[0].config),
        speed=speed,
        update_s=update_s,
        update_token_s=update_token_s,
        score_s=fmean(t["score"] + t["write"] for t in timings),
        sync_s=fmean(t["publish"] + t["load"] for t in timings),
    )
    groups = [group for of_step in runs[0].lengths for group in of_step]
    return Fit(setting=setting, groups=groups, engine_error=engine_error, update_error=update_error)


def groups_of_run(run_dir: Path) -> list[list[int]]:
    """The lengths of all groups that a run learnt from."""
    groups = [group for step in list_trace_files(run_dir, "train") for group in read_lengths(run_dir, step)]
    if not groups:
        raise UserError(f"run folder {str(run_dir)!r} holds no traces; the first appear when its first step ends")
    return groups


def measured_run(run_dir: Path) -> MeasuredRun:
    """Read what a run of any kind did, without the steps in which its pipeline fills."""
    config = _config(run_dir)
    events = _steps(run_dir, 2 + config.rollout.max_staleness)
    seconds = sum(sum(event["timings_s"].values()) for event in events)
    num_tokens = sum(event["metrics"]["num_loss_tokens"] for event in events)
    return MeasuredRun(
        setting=_counts(config),
        num_steps=len(events),
        step_s=seconds / len(events),
        tokens_per_step=num_tokens / len(events),
        tokens_per_s=num_tokens / seconds,
        learner_idle_share=1 - sum(event["timings_s"]["update"] for event in events) / seconds,
    )


@dataclass(frozen=True, kw_only=True)
class _Run:
    run_dir: Path
    config: RunConfig
    events: list[dict[str, Any]]
    lengths: list[list[list[int]]]
    """[steps][P][G]"""

    @classmethod
    def read(cls, run_dir: Path) -> "_Run":
        config, events = _config(run_dir), _steps(run_dir, NUM_WARM_UP)
        lengths = [read_lengths(run_dir, event["step"]) for event in events]
        return cls(run_dir=run_dir, config=config, events=events, lengths=lengths)

    def sampled(self) -> list[tuple[float, float, float]]:
        """(iterations, tokens, sample seconds) of each step."""
        rollout = self.config.rollout
        if rollout.num_workers != 1 or rollout.max_staleness:
            raise UserError(
                f"option '--from-run': the engine's speed is fitted to strict runs of one worker, {str(self.run_dir)!r} has "
                f"rollout.num_workers={rollout.num_workers} and rollout.max_staleness={rollout.max_staleness}; give another "
                "run, or --iteration-s and --sequence-s"
            )
        counting = replace(_counts(self.config), speed=EngineSpeed(iteration_s=1.0, sequence_s=0.0))
        rows = []
        for event, groups in zip(self.events, self.lengths, strict=True):
            run = SimulatedRun(replace(counting, num_prompts=len(groups)), partial(_nth, groups), 1)
            run.go()
            num_tokens = sum(map(sum, groups))
            rows.append((run.totals[-1].now_s, float(num_tokens), event["timings_s"]["sample"]))
        return rows

    def updated(self) -> list[tuple[float, float, float]]:
        """(1, tokens, update seconds) of each step."""
        return [
            (1.0, float(sum(map(sum, groups))), event["timings_s"]["update"])
            for event, groups in zip(self.events, self.lengths, strict=True)
        ]


def _config(run_dir: Path) -> RunConfig:
    path = run_dir / "config.json"
    if not path.is_file():
        raise UserError(f"{str(run_dir)!r} is not a run folder, it has no config.json; give the folder that a run wrote")
    return check_config(json.loads(path.read_text(encoding="utf-8")))


def _steps(run_dir: Path, num_skipped: int) -> list[dict[str, Any]]:
    events = [event for event in read_metrics(run_dir) if event["kind"] == "step" and event["step"] > num_skipped]
    if len(events) < 3:
        raise UserError(
            f"run folder {str(run_dir)!r} has {len(events)} steps after the first {num_skipped}, which warm up; "
            "give a run of at least 3 more"
        )
    return events


def _counts(config: RunConfig) -> Setting:
    """The counts of a configuration; its seconds are 0."""
    rollout = config.rollout
    return Setting(
        num_engines=rollout.num_workers,
        max_num_seqs=rollout.max_num_seqs,
        num_prompts=rollout.num_prompts,
        group_size=rollout.group_size,
        speed=EngineSpeed(iteration_s=0.0, sequence_s=0.0),
        update_s=0.0,
        sync_s=0.0,
        max_staleness=rollout.max_staleness,
        in_flight=config.sync.in_flight,
    )


def _least_squares(rows: Sequence[tuple[float, float, float]]) -> tuple[tuple[float, float], float]:
    """a, b >= 0 of seconds = a x + b y, from (x, y, seconds), and the mean relative error."""
    xx, xy, yy = (sum(row[i] * row[j] for row in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    xs, ys = (sum(row[i] * row[2] for row in rows) for i in (0, 1))
    determinant = xx * yy - xy * xy
    a = (xs * yy - ys * xy) / determinant if determinant else 0.0
    b = (ys * xx - xs * xy) / determinant if determinant else 0.0
    if a <= 0:
        a, b = 0.0, ys / yy
    elif b < 0:
        a, b = xs / xx, 0.0
    return (a, b), fmean(abs(a * x + b * y - seconds) / seconds for x, y, seconds in rows)


def _nth(groups: Sequence[Sequence[int]], step: int, group_id: int) -> Sequence[int]:
    return groups[group_id]


def _spread(values: Sequence[float]) -> float:
    return pstdev(values) / fmean(values)
