"""GRPO in the order of the paper, against three Protocols: no Ray, no vLLM, no files.

One step, and who waits for whom (strict mode, nothing overlaps):

    prompts -> sampler             the rollout workers, with the weights of `policy_version`
            -> scorer              reward functions in child processes
            -> advantages          `r1.step_sampler`, which also samples on, or ahead
            -> learner.update      the learner; the version grows by one
            -> learner.publish     the learner writes its weights
            -> sampler.load        every rollout worker loads and verifies them, then the next step may begin

With `rollout.max_staleness` = k the next k steps are begun before this one is learnt from, so the rollout workers sample
them while the learner updates. They only stop for the weights.

A run that is asked to stop (`r1.stopping`) drops what is being sampled or evaluated, finishes the step that is being learnt
from, and saves it.
"""

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from r1.batching import make_train_batch
from r1.config import RunConfig
from r1.errors import RunError, SyncError, WorkerLost
from r1.protocols import PolicyLearner, Sampler, Scorer
from r1.step_metrics import Correctness, step_metrics
from r1.step_sampler import Prompts, StepSampler
from r1.stopping import Stop
from r1.stopwatch import Stopwatch
from r1.trace_choice import TraceChoice
from r1.types import Progress, ScoredGroup, StepReport, StepSamples

START = Progress()
LAST_SAVE_S = 60.0
"""How long a run that fails waits for the checkpoint that is being written."""


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """The parts of a run."""

    config: RunConfig
    correctness: Correctness
    """The reward that is reported as accuracy."""
    prompts: Prompts
    sampler: Sampler
    scorer: Scorer
    learner: PolicyLearner
    stop: Stop = field(default_factory=Stop)


@dataclass(frozen=True, kw_only=True)
class Observer:
    """What happens around the steps; each callback may be left out."""

    on_groups: Callable[[int, Sequence[ScoredGroup]], None] = lambda step, groups: None
    """All that a step has sampled, with what the update computed of its tokens. Of a step whose update fails, without that."""
    on_step: Callable[[StepReport], None] = lambda report: None
    on_rewind: Callable[[Progress], None] = lambda progress: None
    """A learner was lost: the run goes on from here, and writes the later steps anew."""
    evaluate: Callable[[int, int], None] = lambda step, policy_version: None
    """(step, policy_version), whenever held-out problems are due."""


def train(
    trainer: Trainer, observer: Observer, *, start: Progress = START, evaluated: Collection[int] = ()
) -> list[StepReport]:
    """Run the steps after `start` up to num_steps and return their reports.

    evaluated: steps whose evaluation an earlier process has done; the one that is due at the start is made up for.
    """
    config, progress = trainer.config, start
    is_due = progress.step in (0, config.num_steps) or _due(progress.step, config.evaluate.every)
    evaluate_first = is_due and progress.step not in evaluated
    if progress.step >= config.num_steps and not evaluate_first:
        raise RunError(f"nothing to train: the run has finished its {config.num_steps} steps; raise num_steps to go on")
    samples = StepSampler(config, trainer.prompts, trainer.sampler, trainer.scorer, progress)
    reports: list[StepReport] = []
    try:
        trainer.sampler.load_weights(trainer.learner.publish_weights())
        if evaluate_first:
            observer.evaluate(progress.step, progress.policy_version)
        with trainer.stop.held():
            while progress.step < config.num_steps:
                trainer.stop.check()
                try:
                    report, progress = train_step(trainer, samples, observer, progress)
                    observer.on_step(report)
                    reports.append(report)
                    _after_step(trainer, observer, progress)
                except WorkerLost as lost:
                    progress = _rewind(trainer, samples, observer, lost)
                    reports = [report for report in reports if report.step <= progress.step]
                    if progress.step == config.num_steps:  # it was lost between the last checkpoint and the last evaluation
                        _evaluate(trainer, observer, progress)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and trainer.stop.is_graceful:
            _save_last_step(trainer, start, progress)
            raise trainer.stop.stopped(progress.step) from error
        # Whatever ends the run, a second Ctrl-C as well: a checkpoint that is nearly written is worth a moment. The learner
        # may be what failed, so an error here says nothing new.
        with contextlib.suppress(RunError):
            trainer.learner.finish_save(LAST_SAVE_S)
        raise
    return reports


def _after_step(trainer: Trainer, observer: Observer, progress: Progress) -> None:
    """Save and evaluate, if they are due."""
    config, step = trainer.config, progress.step
    last = step == config.num_steps
    if _saves_after(config, step):
        trainer.learner.save(progress)
    if last:
        trainer.learner.finish_save()
    if last or _due(step, config.evaluate.every):
        _evaluate(trainer, observer, progress)


def _evaluate(trainer: Trainer, observer: Observer, progress: Progress) -> None:
    with trainer.stop.at_once():
        observer.evaluate(progress.step, progress.policy_version)


def _save_last_step(trainer: Trainer, start: Progress, progress: Progress) -> None:
    """Save the step that a stopped run has ended with, unless it began there or has saved it."""
    if progress.step > start.step and not _saves_after(trainer.config, progress.step):
        trainer.learner.save(progress)
    trainer.learner.finish_save()


def _rewind(trainer: Trainer, samples: StepSampler, observer: Observer, lost: WorkerLost) -> Progress:
    """Go on from the last checkpoint with another learner, which may be lost as well; `recover` says when it is enough."""
    while True:
        try:
            progress = trainer.learner.recover(lost)
            samples.forget(progress)
            observer.on_rewind(progress)
            trainer.sampler.load_weights(trainer.learner.publish_weights())
            return progress
        except WorkerLost as again:
            lost = again


def train_step(
    trainer: Trainer, samples: StepSampler, observer: Observer, progress: Progress
) -> tuple[StepReport, Progress]:
    """One GRPO step: sample, score, compare siblings, update, publish, load."""
    config, clock = trainer.config, Stopwatch()
    step, policy_version = progress.step + 1, progress.policy_version
    overlaps = config.rollout.max_staleness > 0
    with trainer.stop.at_once():
        samples.begin(progress)
        sampled = samples.collect(step, clock)
    if not overlaps:
        with clock("sample"):
            trainer.sampler.pause()
    with clock("update"):
        metrics, groups = _update(trainer, observer, sampled, step, policy_version)
    with clock("write"):
        observer.on_groups(step, groups)
    if overlaps:
        with clock("sample"):
            trainer.sampler.pause()
    with clock("publish"):
        manifest = trainer.learner.publish_weights()
    if manifest.policy_version != policy_version + 1:
        raise SyncError(f"step {step}: the learner published version {manifest.policy_version} instead of {policy_version + 1}")
    with clock("load"):
        trainer.sampler.load_weights(manifest)
    report = StepReport(
        step=step,
        policy_version=manifest.policy_version,
        metrics={**step_metrics(sampled, policy_version, trainer.correctness), **metrics},
        timings_s=clock.seconds,
    )
    num_drawn = samples.num_prompts_drawn()
    return report, Progress(step=step, policy_version=manifest.policy_version, num_prompts_drawn=num_drawn)


def _update(
    trainer: Trainer, observer: Observer, sampled: StepSamples, step: int, policy_version: int
) -> tuple[dict[str, float], list[ScoredGroup]]:
    """Learn from the step; returns the learner's metrics, and all groups with what it computed of their tokens."""
    config = trainer.config
    try:
        metrics = trainer.learner.update(
            make_train_batch(
                sampled.groups,
                step=step,
                policy_version=policy_version,
                num_minibatches=config.learner.minibatches_per_step,
                max_tokens_per_microbatch=config.learner.max_tokens_per_microbatch,
                max_completion_tokens=config.rollout.max_completion_tokens,
                num_ranks=config.learner.num_ranks,
                overlong_filtering=config.algorithm.overlong_filtering,
            )
        )
        return metrics, _with_token_values(trainer, sampled, step)
    except BaseException:  # whatever it is, Ctrl-C as well: its samples are what a person looks at first
        observer.on_groups(step, [*sampled.groups, *sampled.others])
        raise


def _with_token_values(trainer: Trainer, sampled: StepSamples, step: int) -> list[ScoredGroup]:
    """All groups of the step; those whose tokens are stored with what the learner computed of them."""
    config, choice = trainer.config, TraceChoice.parse(trainer.config.logging.traces)
    kept = {
        group.prompt.group_id
        for group in sampled.groups
        if choice.with_tokens and choice.keeps(seed=config.seed, step=step, group_id=group.prompt.group_id)
    }
    values = trainer.learner.token_values(kept) if kept else {}
    return [
        replace(group, token_values=tuple(values.get((c.group_id, c.sample_id)) for c in group.completions))
        if group.prompt.group_id in kept
        else group
        for group in [*sampled.groups, *sampled.others]
    ]


def _saves_after(config: RunConfig, step: int) -> bool:
    return step == config.num_steps or _due(step, config.checkpoint.every)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
