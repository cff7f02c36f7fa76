"""One run from its configuration to its summary: start the workers, train, clean up whatever happens."""

import contextlib
import signal
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from r1.checkpoint import CheckpointState, latest_checkpoint
from r1.config import RunConfig
from r1.curves import draw_curves
from r1.errors import UserError
from r1.evaluate import evaluate
from r1.loop import Observer, Trainer, train
from r1.metrics import MetricsLogger, read_metrics, truncate_metrics
from r1.preflight import Prepared, prepare
from r1.runtime.cluster import connected, plan_resources, preflight
from r1.runtime.learner_group import LearnerGroup
from r1.runtime.reward_pool import RayScorer
from r1.runtime.rollout_pool import RolloutPool
from r1.summary import before_after_table, build_summary, write_summary
from r1.traces import write_traces
from r1.types import ScoredGroup, StepReport


def run(config: RunConfig, *, resume: str | Path | None = None, console: Console | None = None) -> Path:
    """Train as configured and return the run folder.

    resume: a run folder to go on in, from its last checkpoint; `config.run_dir` is ignored then.
    Raises `UserError` before anything is started or written when the configuration cannot work, and
    `RunError` when the run cannot go on. However it ends (Ctrl-C and SIGTERM included), no process that
    it started and no shared-memory file is left.
    """
    console = console or Console()
    run_dir, checkpoint = _open_run_dir(config, resume)
    prepared = prepare(config)
    _say_problems(console, config, prepared)
    with _interruptible(), connected(), contextlib.ExitStack() as cleanup:
        plan = plan_resources(config)
        console.print(f"Ray: {preflight(plan)}", highlight=False)
        start = time.perf_counter()
        sampler = RolloutPool(config, plan["rollout worker"])
        learner = LearnerGroup(config, plan["learner"], run_dir, publish_path=f"/dev/shm/r1-weights-{uuid.uuid4().hex}")
        cleanup.callback(learner.close)
        scorer = RayScorer(config, prepared.task.rewards, plan["reward pool"])
        console.print("starting the rollout worker (vLLM), the learner and the reward pool ...", highlight=False)
        scorer.wait_until_ready()
        if checkpoint:
            learner.restore(checkpoint[0], checkpoint[1].policy_version)
        sampler.wait_until_ready()
        console.print(f"ready after {time.perf_counter() - start:.0f} s", highlight=False)
        trainer = Trainer(
            config=config,
            correctness=prepared.task.correctness,
            prompts=lambda step, version: prepared.train.batch(
                step, version, num_prompts=config.rollout.num_prompts, group_size=config.rollout.group_size
            ),
            sampler=sampler,
            scorer=scorer,
            learner=learner,
        )
        _train_and_report(trainer, prepared, run_dir, checkpoint[1] if checkpoint else None, console)
    return run_dir


def _train_and_report(
    trainer: Trainer, prepared: Prepared, run_dir: Path, resumed_from: CheckpointState | None, console: Console
) -> None:
    config, started_s = trainer.config, time.time()
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "config.json").write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    first_step, policy_version = 1, 0
    if resumed_from:
        first_step, policy_version = resumed_from.step + 1, resumed_from.policy_version
        truncate_metrics(run_dir, resumed_from.step)
        console.print(f"going on after step {resumed_from.step} of {run_dir}", highlight=False)
    faults: list[str] = []
    try:
        with MetricsLogger(run_dir, config, console) as logger:
            observer = _observer(trainer, prepared, run_dir, logger)
            train(trainer, observer, first_step=first_step, policy_version=policy_version)
    except BaseException as error:  # Ctrl-C as well: the summary of an unfinished run says how it ended
        faults.append(f"{type(error).__name__}: {error}")
        raise
    finally:
        summary = _summarize(config, run_dir, faults, started_s)
    console.print(before_after_table(summary))
    draw_curves(run_dir)
    console.print(
        f"summary, curves and traces are in {run_dir}; "
        f"look at the samples with: r1 traces show {run_dir} --step {config.num_steps}",
        highlight=False,
        soft_wrap=True,
    )


def _observer(trainer: Trainer, prepared: Prepared, run_dir: Path, logger: MetricsLogger) -> Observer:
    config, heldout = trainer.config, prepared.heldout

    def keep_traces(step: int, groups: Sequence[ScoredGroup]) -> None:
        write_traces(run_dir, step, groups, template=config.task.template)

    def evaluate_heldout(step: int, policy_version: int) -> None:
        if heldout is None:
            return
        batch = heldout.heldout_batch(step, policy_version, config.evaluate.num_problems)
        metrics, groups = evaluate([batch], trainer.sampler, trainer.scorer, trainer.correctness)
        write_traces(run_dir, step, groups, template=config.task.template, split="heldout")
        logger.log_heldout(step, metrics, policy_version)

    return Observer(on_groups=keep_traces, on_step=logger.log_step, evaluate=evaluate_heldout)


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
    write_summary(run_dir, summary)
    return summary


def _open_run_dir(config: RunConfig, resume: str | Path | None) -> tuple[Path, tuple[Path, CheckpointState] | None]:
    """Return the run folder, and the checkpoint to go on from; creates nothing yet."""
    if resume:
        checkpoint = latest_checkpoint(Path(resume))
        if checkpoint[1].step >= config.num_steps:
            raise UserError(
                f"option '--resume': {str(resume)!r} has finished step {checkpoint[1].step} of {config.num_steps}; "
                "pass num_steps=N with a larger N"
            )
        return Path(resume), checkpoint
    run_dir = Path(config.run_dir or f"runs/{config.name}-{time.strftime('%Y%m%d-%H%M%S')}")
    if run_dir.exists():
        raise UserError(
            f"option 'run_dir': {str(run_dir)!r} exists already; choose another folder, or go on in it with --resume {run_dir}"
        )
    return run_dir.absolute(), None


def _say_problems(console: Console, config: RunConfig, prepared: Prepared) -> None:
    rollout = config.rollout
    train_stream, heldout = prepared.train, prepared.heldout
    console.print(
        f"task {config.task.name}: {len(train_stream.prompts)} training problems, {train_stream.num_skipped} too long, "
        f"{len(heldout.prompts) if heldout else 0} held-out; {config.num_steps} steps of {rollout.num_prompts} prompts x "
        f"{rollout.group_size} completions x at most {rollout.max_completion_tokens} tokens, "
        f"{config.learner.minibatches_per_step} update(s) a step",
        highlight=False,
        soft_wrap=True,
    )


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does, with everything cleaned up."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
