"""One run from its configuration to its summary: start the workers, train, clean up whatever happens."""

import contextlib
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from rich.console import Console

from r1.config import RunConfig
from r1.console import RunConsole
from r1.curves import draw_curves
from r1.disk_estimate import check_disk
from r1.errors import RunError, UserError
from r1.evaluate import evaluate, sample_statistics
from r1.faults import FaultLog
from r1.files import atomic_file, written
from r1.loop import Observer, Trainer, train
from r1.metrics import MetricsLogger, read_metrics
from r1.preflight import Prepared, prepare
from r1.run_folder import changed_options, evaluated_steps, find_checkpoint, make_run_folder, new_run_folder, removed_unless_begun
from r1.run_output import RunOutput
from r1.runtime.cluster import Resources, connected
from r1.runtime.learner_group import LearnerGroup
from r1.runtime.node_checks import check_nodes
from r1.runtime.placement import placed
from r1.runtime.reward_pool import RayScorer
from r1.runtime.rollout_pool import RolloutPool
from r1.runtime.weight_sync import WeightSync
from r1.shm_weights import new_buffer_path
from r1.summary import before_after_table, build_summary, write_summary
from r1.trace_choice import TraceChoice
from r1.traces import remove_traces_after, write_traces
from r1.types import Progress, ScoredGroup, StepReport
from tasks.base import Split

MAX_BAD_ROWS_SHOWN = 5


def run(config: RunConfig, *, resume: str | Path | None = None, console: Console | None = None) -> Path:
    """Train as configured and return the run folder.

    resume: a run folder to go on in, from its last checkpoint; `config.run_dir` is ignored then.
    Raises `UserError` before anything is started or written when the configuration cannot work, and
    `RunError` when the run cannot go on. However it ends (Ctrl-C, SIGTERM and SIGKILL included), no process that it started
    and no shared-memory file is left; after a SIGKILL two agents of Ray's stay for some two minutes.
    """
    output = RunOutput(console or Console())
    faults = output.faults
    started_s = time.time()
    checkpoint = find_checkpoint(Path(resume), config) if resume else None
    prepared = prepare(config)
    check_disk(config, Path(resume).absolute() if resume else new_run_folder(config))
    run_dir = Path(resume).absolute() if resume else make_run_folder(config)
    _say_problems(output, config, prepared)
    if checkpoint:
        for change in changed_options(checkpoint[0], config):
            output.say(f"changed since the checkpoint: {change}")
    # In this order: the shared file is removed once Ray has ended the learner that writes it, and Ctrl-C is set up
    # after ray.init, which installs a SIGTERM handler of its own.
    num_cpus = config.rollout.num_workers * config.rollout.tensor_parallel_size + config.learner.num_ranks
    with (
        removed_unless_begun(run_dir),
        # Before the engines: a tracker that cannot start shall not cost the minutes of their start.
        MetricsLogger(run_dir, config, faults) as logger,
        contextlib.ExitStack() as cleanup,
        connected(num_cpus),
        interruptible(),
        placed(config, output.say) as placement,
    ):
        start = time.perf_counter()
        check_nodes(config, run_dir)
        weights = WeightSync(
            verify=config.sync.verify == "on",
            deadline_s=config.deadline_s,
            say=output.say,
        )
        sampler = RolloutPool(config, placement.rollout, faults, weights)
        learner = LearnerGroup(config, placement.learner, run_dir, new_buffer_path(), faults, beside=sampler)
        weights.learner = learner
        cleanup.callback(learner.close)
        # Its children do the work; asking for no CPU lets a two-core machine run everything.
        resources = Resources(num_cpus=0)
        task, by_task = prepared.task, prepared.rewarding_by_task()
        scorer = RayScorer(config, task.rewards, task.correctness, resources, faults, beside=sampler, by_task=by_task)
        sampler.on_group, sampler.on_cut_off = scorer.submit, scorer.drop
        num_workers = config.rollout.num_workers
        output.say(f"starting {num_workers} rollout worker(s), the learner and the reward pool ...")
        scorer.wait_until_ready()
        learner.wait_until_ready()
        if checkpoint:
            learner.restore(*checkpoint)
        sampler.wait_until_ready()
        output.say(f"ready after {time.perf_counter() - start:.0f} s")
        trainer = Trainer(
            config=config,
            correctness={name: task.correctness for name, task in prepared.tasks.items()},
            prompts=lambda progress, num_prompts: prepared.problems.train.batch(
                progress, num_prompts=num_prompts, group_size=config.rollout.group_size
            ),
            sampler=sampler,
            scorer=scorer,
            learner=learner,
        )
        progress = checkpoint[1] if checkpoint else None
        _train_and_report(trainer, prepared, run_dir, progress, started_s, output, weights, logger)
    return run_dir


def _train_and_report(
    trainer: Trainer,
    prepared: Prepared,
    run_dir: Path,
    resumed_from: Progress | None,
    started_s: float,
    output: RunOutput,
    weights: WeightSync,
    logger: MetricsLogger,
) -> None:
    config, faults = trainer.config, output.faults
    with written("config.json"), atomic_file(run_dir / "config.json") as temporary:
        temporary.write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    if resumed_from:
        logger.rewind(resumed_from.step)
        remove_traces_after(run_dir, resumed_from.step)
        output.say(f"going on after step {resumed_from.step} of {run_dir}")
    ended_with: list[str] = []
    try:
        with RunConsole(config, output, read_metrics(run_dir)) as shown:
            observer = _observer(trainer, prepared, run_dir, logger, shown, faults, weights)
            train(trainer, observer, start=resumed_from or Progress(), evaluated=evaluated_steps(run_dir))
    except BaseException as error:  # Ctrl-C as well: the summary of an unfinished run says how it ended
        ended_with.append(f"{type(error).__name__}: {error}")
        raise
    finally:
        try:
            summary = _summarize(config, run_dir, [*(fault.text for fault in faults.faults), *ended_with], started_s)
        except (UserError, RunError) as error:  # a damaged record, or a full disk, must not hide how the run ended
            if not ended_with:
                raise
            output.say(f"no summary.json: {error}", style="yellow")
    output.print(before_after_table(summary))
    with written("curves.png"):
        draw_curves(run_dir)
    output.say(
        f"summary, curves and traces are in {run_dir}; "
        f"look at the samples with: r1 traces show {run_dir} --step {config.num_steps}"
    )


def _observer(
    trainer: Trainer,
    prepared: Prepared,
    run_dir: Path,
    logger: MetricsLogger,
    shown: RunConsole,
    faults: FaultLog,
    weights: WeightSync,
) -> Observer:
    config, heldout = trainer.config, prepared.problems.heldout
    choice = TraceChoice.parse(config.logging.traces)

    def keep_traces(step: int, groups: Sequence[ScoredGroup], split: Split = "train") -> None:
        with written(f"the traces of step {step}"):
            write_traces(run_dir, step, groups, template=config.task.template, split=split, choice=choice, seed=config.seed)

    def on_groups(step: int, groups: Sequence[ScoredGroup]) -> None:
        keep_traces(step, groups)
        shown.show_groups(step, groups)

    def evaluate_heldout(step: int, policy_version: int) -> None:
        if heldout is None:
            return
        shown.begin("held-out evaluation")
        batches = heldout.batches(step, policy_version)
        metrics, groups = evaluate(batches, trainer.sampler, trainer.scorer, trainer.correctness)
        keep_traces(step, groups, "heldout")
        statistics = sample_statistics(groups, trainer.correctness, config.scoring.deadline_s)
        shown.show(logger.log_heldout(step, {**metrics, **statistics}, policy_version))

    def log_step(report: StepReport) -> None:
        event = logger.log_step(replace(report, metrics={**report.metrics, **weights.metrics, **faults.counts()}))
        shown.show(event)

    def rewind(progress: Progress) -> None:
        logger.rewind(progress.step)
        shown.rewind(progress.step)
        remove_traces_after(run_dir, progress.step)

    return Observer(on_groups=on_groups, on_step=log_step, on_rewind=rewind, evaluate=evaluate_heldout)


def _summarize(config: RunConfig, run_dir: Path, faults: Sequence[str], started_s: float) -> dict[str, object]:
    """Write summary.json from metrics.jsonl, so that it covers the steps before a resume as well."""
    events = read_metrics(run_dir)
    reports = [
        StepReport(step=e["step"], policy_version=e["policy_version"], metrics=e["metrics"], timings_s=e["timings_s"])
        for e in events
        if e["kind"] == "step"
    ]
    heldout: Mapping[int, Mapping[str, float]] = {e["step"]: e["metrics"] for e in events if e["kind"] == "heldout"}
    after = heldout.get(max(heldout)) if heldout and max(heldout) > 0 else None
    summary = build_summary(config, heldout.get(0), after, reports, faults, started_s)
    with written("summary.json"):
        write_summary(run_dir, summary)
    return summary


def _say_problems(output: RunOutput, config: RunConfig, prepared: Prepared) -> None:
    rollout, problems = config.rollout, prepared.problems
    lines = problems.describe(MAX_BAD_ROWS_SHOWN)
    evaluated = problems.heldout.describe() if problems.heldout else "off"
    lines.append(
        f"{config.num_steps} steps of {rollout.num_prompts} prompts x {rollout.group_size} completions x at most "
        f"{rollout.max_completion_tokens} tokens, {config.learner.minibatches_per_step} update(s) a step; held-out: {evaluated}"
    )
    for line in lines:
        output.say(line)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does, with everything cleaned up."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
