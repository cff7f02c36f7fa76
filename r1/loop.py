"""GRPO in the order of the paper, against three Protocols: no Ray, no vLLM, no files.

One step, and who waits for whom (strict mode, nothing overlaps):

    prompts -> sampler.sample      the rollout workers, with the weights of `policy_version`
            -> scorer.score        reward functions in child processes
            -> advantages          here
            -> learner.update      the learner; the version grows by one
            -> learner.publish     the learner writes its weights
            -> sampler.load        every rollout worker loads and verifies them, then the next step may begin
"""

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from r1.algorithm import ADVANTAGES
from r1.batching import TrainBatch, make_train_batch
from r1.config import RunConfig
from r1.errors import RunError, ScoringError, SyncError, WorkerLost
from r1.step_metrics import rollout_metrics
from r1.types import Progress, PromptBatch, RolloutGroup, Score, ScoredGroup, StepReport, WeightManifest

START = Progress()
LAST_SAVE_S = 60.0
"""How long a run that fails waits for the checkpoint that is being written."""


class Sampler(Protocol):
    """The rollout workers."""

    def submit(self, batch: PromptBatch) -> None:
        """Begin to sample a batch."""
        ...

    def collect(self, batch: PromptBatch) -> Iterator[RolloutGroup]:
        """Yield the groups of a submitted batch, one per prompt, whichever is finished first."""
        ...

    def pause(self) -> None:
        """Finish what is being sampled and begin nothing, until the next `load_weights`."""
        ...

    def load_weights(self, manifest: WeightManifest) -> None:
        """Bring every worker to the published version and go on; returns when all have proved it."""
        ...

    def forget(self) -> None:
        """Drop what is being sampled."""
        ...


class Scorer(Protocol):
    """The reward functions."""

    def submit(self, group: RolloutGroup) -> None:
        """Begin to score a group."""
        ...

    def collect(self) -> list[tuple[Score, ...]]:
        """Return the scores of each submitted group's completions, in the order of the groups, and forget them."""
        ...

    def forget(self) -> None:
        """Drop the submitted groups."""
        ...


class PolicyLearner(Protocol):
    """The policy and its optimizer."""

    def update(self, batch: TrainBatch) -> dict[str, float]:
        """Learn from a batch; returns metrics. The policy version grows by one."""
        ...

    def publish_weights(self) -> WeightManifest:
        """Put the current weights where the sampler can load them."""
        ...

    def save(self, progress: Progress) -> None:
        """Begin a checkpoint from which the run can go on; it may be written while the next steps run."""
        ...

    def recover(self, lost: WorkerLost) -> Progress:
        """Start again from the last checkpoint, and return its progress; raises `lost` when that was done too often."""
        ...

    def finish_save(self, limit_s: float = math.inf) -> None:
        """Return once the last checkpoint that was begun is complete; raises after `limit_s`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """The parts of a run."""

    config: RunConfig
    correctness: str
    """The reward that is reported as accuracy."""
    prompts: Callable[[Progress], PromptBatch]
    """Progress so far -> the next step's prompts; a pure function, so a resumed run sees the same ones."""
    sampler: Sampler
    scorer: Scorer
    learner: PolicyLearner


@dataclass(frozen=True, kw_only=True)
class Observer:
    """What happens around the steps; each callback may be left out."""

    on_groups: Callable[[int, Sequence[ScoredGroup]], None] = lambda step, groups: None
    """Called before the update, so that the samples of a step that fails are kept as well."""
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
    trainer.sampler.load_weights(trainer.learner.publish_weights())
    if evaluate_first:
        observer.evaluate(progress.step, progress.policy_version)
    reports: list[StepReport] = []
    try:
        while progress.step < config.num_steps:
            try:
                report, progress = train_step(trainer, observer, progress)
                observer.on_step(report)
                reports.append(report)
                _after_step(trainer, observer, progress)
            except WorkerLost as lost:
                progress = _rewind(trainer, observer, lost)
                reports = [report for report in reports if report.step <= progress.step]
    except BaseException:
        # Whatever ends the run, Ctrl-C as well: a checkpoint that is nearly written is worth a moment. The learner may be
        # what failed, so an error here says nothing new.
        with contextlib.suppress(RunError):
            trainer.learner.finish_save(LAST_SAVE_S)
        raise
    return reports


def _after_step(trainer: Trainer, observer: Observer, progress: Progress) -> None:
    """Save and evaluate, if they are due."""
    config, step = trainer.config, progress.step
    last = step == config.num_steps
    if last or _due(step, config.checkpoint.every):
        trainer.learner.save(progress)
    if last:
        trainer.learner.finish_save()
    if last or _due(step, config.evaluate.every):
        observer.evaluate(step, progress.policy_version)


def _rewind(trainer: Trainer, observer: Observer, lost: WorkerLost) -> Progress:
    """Go on from the last checkpoint with another learner; raises `lost` when that does not help."""
    progress = trainer.learner.recover(lost)
    trainer.sampler.forget()
    trainer.scorer.forget()
    observer.on_rewind(progress)
    trainer.sampler.load_weights(trainer.learner.publish_weights())
    return progress


def train_step(trainer: Trainer, observer: Observer, progress: Progress) -> tuple[StepReport, Progress]:
    """One GRPO step: sample, score, compare siblings, update, publish, load."""
    config, clock = trainer.config, Stopwatch()
    step, policy_version = progress.step + 1, progress.policy_version
    batch = trainer.prompts(progress)
    with clock("sample"):
        groups = sample(batch, trainer.sampler, trainer.scorer)
    with clock("score"):
        groups, scores = in_order(groups, trainer.scorer.collect())
        if all(score.reward is None for of_group in scores for score in of_group):
            raise ScoringError(
                f"step {step}: not one of the {sum(map(len, scores))} completions could be judged; "
                "do the rewards of this task fit its reference answers?"
            )
        scored = with_advantages(groups, scores, config.algorithm.advantage)
    with clock("write"):
        observer.on_groups(step, scored)
    with clock("update"):
        metrics = trainer.learner.update(
            make_train_batch(
                scored,
                step=step,
                policy_version=policy_version,
                num_minibatches=config.learner.minibatches_per_step,
                max_tokens_per_microbatch=config.learner.max_tokens_per_microbatch,
                max_completion_tokens=config.rollout.max_completion_tokens,
                num_ranks=config.learner.num_ranks,
                overlong_filtering=config.algorithm.overlong_filtering,
            )
        )
    with clock("load"):
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
        metrics={**rollout_metrics(scored, trainer.correctness), **metrics},
        timings_s=clock.seconds,
    )
    num_drawn = progress.num_prompts_drawn + len(batch.prompts)
    return report, Progress(step=step, policy_version=manifest.policy_version, num_prompts_drawn=num_drawn)


def sample(batch: PromptBatch, sampler: Sampler, scorer: Scorer) -> list[RolloutGroup]:
    """Sample a batch, checked; each group goes to the scorer as it is finished, and is returned in that order."""
    sampler.submit(batch)
    groups = []
    for group in sampler.collect(batch):
        scorer.submit(group)
        groups.append(group)
    check_groups(batch, sorted(groups, key=_group_id))
    return groups


def in_order(
    groups: Sequence[RolloutGroup], scores: Sequence[tuple[Score, ...]]
) -> tuple[list[RolloutGroup], list[tuple[Score, ...]]]:
    """Sort groups and their scores by group_id: what is learnt shall not depend on who was finished first."""
    pairs = sorted(zip(groups, scores, strict=True), key=lambda pair: _group_id(pair[0]))
    return [group for group, _ in pairs], [of_group for _, of_group in pairs]


def _group_id(group: RolloutGroup) -> int:
    return group.prompt.group_id


def check_groups(batch: PromptBatch, groups: Sequence[RolloutGroup]) -> None:
    """Strict mode: every prompt once, G completions each, all of the version that was asked for."""
    wanted, got = [prompt.group_id for prompt in batch.prompts], [group.prompt.group_id for group in groups]
    if wanted != got:
        raise RunError(f"step {batch.step}: asked for groups {wanted}, the sampler returned {got}")
    for group in groups:
        if [completion.sample_id for completion in group.completions] != list(range(batch.group_size)):
            raise RunError(
                f"step {batch.step}, group {group.prompt.group_id}: not exactly {batch.group_size} completions in order"
            )
        for completion in group.completions:
            if completion.policy_version != batch.policy_version:
                raise SyncError(
                    f"step {batch.step}, group {group.prompt.group_id}, sample {completion.sample_id}: sampled by policy version "
                    f"{completion.policy_version}, the step is at {batch.policy_version}"
                )


def with_advantages(groups: Sequence[RolloutGroup], scores: Sequence[Sequence[Score]], advantage: str) -> list[ScoredGroup]:
    """Join groups with their scores and the advantages computed from them."""
    advantages = ADVANTAGES[advantage]([[score.reward for score in of_group] for of_group in scores])
    return [
        ScoredGroup(prompt=group.prompt, completions=group.completions, scores=tuple(of_group), advantages=tuple(values))
        for group, of_group, values in zip(groups, scores, advantages, strict=True)
    ]


class Stopwatch:
    """Wall seconds by phase.

    >>> clock = Stopwatch()
    >>> with clock("sample"):
    ...     pass
    >>> list(clock.seconds)
    ['sample']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
