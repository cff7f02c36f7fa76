"""What the options of a run come to: prompts, completions and tokens of a step, updates, epochs, evaluations, checkpoints.

Four words that are easily mixed: a *step* samples num_prompts x group_size completions once; an *update* is one step of the
optimizer, on a mini-batch of these; a *micro-batch* is what one forward pass of one rank reads; an *epoch* is a walk over all
training problems.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from r1.config import RunConfig
from r1.prompt_mix import TrainedTask
from r1.step_sampler import MAX_ROUNDS


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchArithmetic:
    """Counts that follow from a configuration and the number of its problems."""

    prompts: int
    """Per step, learnt from."""
    completions: int
    """Per step: prompts x group_size."""
    sampled_tokens: int
    """Per step, when every completion reaches max_completion_tokens."""
    tokens: int
    """Per step, with as many of the longest prompts: what the learner's forward passes read at most."""
    updates: int
    """Per step."""
    prompts_per_update: int
    completions_per_update: int
    longest_row: int
    """Tokens of the longest prompt and completion in a forward pass: the last one is only predicted."""
    microbatches: int
    """Of one rank in an update, when every row is the longest."""
    prompts_begun: int
    """Per round of sampling: with rollout.oversampling more than are needed."""
    prompts_at_most: int
    """Per step: with dynamic sampling, when every round leaves all groups to be replaced."""
    completions_at_most: int
    in_flight: int
    """Completions that all engines decode at the same time."""
    steps: int
    all_updates: int
    all_completions: int
    epochs: Sequence[float]
    """[tasks] walks over the training problems, without further rounds of dynamic sampling."""
    evaluations: int
    evaluated_completions: int
    """Of one evaluation, of all tasks."""
    checkpoints: int


def batch_arithmetic(config: RunConfig, *, tasks: Sequence[TrainedTask], num_evaluated: int) -> BatchArithmetic:
    """Work out the counts of a run.

    tasks: those trained on. num_evaluated: completions of one evaluation.
    """
    rollout, learner = config.rollout, config.learner
    completions = rollout.num_prompts * rollout.group_size
    longest_row = rollout.max_prompt_tokens + rollout.max_completion_tokens - 1
    updates = learner.minibatches_per_step
    per_update = completions // updates
    rows_of_rank = math.ceil(per_update / learner.num_ranks)
    rows_per_microbatch = max(1, learner.max_tokens_per_microbatch // longest_row)
    begun = math.ceil(rollout.num_prompts * rollout.oversampling)
    at_most = begun * (MAX_ROUNDS if config.algorithm.zero_variance == "resample" else 1)
    in_flight = rollout.num_workers * rollout.max_num_seqs
    return BatchArithmetic(
        prompts=rollout.num_prompts,
        completions=completions,
        sampled_tokens=completions * rollout.max_completion_tokens,
        tokens=completions * (rollout.max_prompt_tokens + rollout.max_completion_tokens),
        updates=updates,
        prompts_per_update=rollout.num_prompts // updates,
        completions_per_update=per_update,
        longest_row=longest_row,
        microbatches=math.ceil(rows_of_rank / rows_per_microbatch),
        prompts_begun=begun,
        prompts_at_most=at_most,
        completions_at_most=at_most * rollout.group_size,
        in_flight=in_flight,
        steps=config.num_steps,
        all_updates=config.num_steps * updates,
        all_completions=config.num_steps * completions,
        epochs=[config.num_steps * begun * task.share / task.num_problems for task in tasks],
        # Before the first step and after the last one, and at the multiples of `every` between them.
        evaluations=1 + _times(config.num_steps, config.evaluate.every) if num_evaluated else 0,
        evaluated_completions=num_evaluated,
        checkpoints=_times(config.num_steps, config.checkpoint.every),
    )


def batch_lines(config: RunConfig, counts: BatchArithmetic, tasks: Sequence[TrainedTask]) -> list[str]:
    """The counts in words, with the multiplication that each of them comes from."""
    rollout, size = config.rollout, config.rollout.group_size
    lines = [
        f"step: {counts.prompts:,} prompts x {size} completions = {counts.completions:,} completions",
        f"tokens of a step, at most: {counts.completions:,} x {rollout.max_completion_tokens:,} = {counts.sampled_tokens:,} "
        f"sampled; {counts.completions:,} x ({rollout.max_prompt_tokens:,} + {rollout.max_completion_tokens:,}) = "
        f"{counts.tokens:,} with prompts",
        f"updates of a step: {counts.updates:,}, each on {counts.prompts_per_update:,} prompts x {size} = "
        f"{counts.completions_per_update:,} completions",
        f"micro-batches of an update: {counts.microbatches:,} on each of {config.learner.num_ranks} rank(s) when every row is "
        f"the longest, {counts.longest_row:,} tokens; a micro-batch has room for {config.learner.max_tokens_per_microbatch:,}",
        f"engines: {rollout.num_workers} x {rollout.max_num_seqs:,} = {counts.in_flight:,} completions at once, a step is "
        f"{counts.prompts_begun * size / counts.in_flight:.2g} times that",
    ]
    if counts.prompts_at_most > counts.prompts:
        rounds = counts.prompts_at_most // counts.prompts_begun
        begun = f"{counts.prompts_begun:,} prompts begun" if rollout.oversampling > 1 else f"{counts.prompts_begun:,} prompts"
        lines.append(
            f"worst case of a step: {f'{rounds} rounds x ' if rounds > 1 else ''}{begun} x {size} = "
            f"{counts.completions_at_most:,} completions"
        )
    lines += [
        f"run: {counts.steps:,} steps x {counts.updates:,} = {counts.all_updates:,} updates "
        f"({config.learner.warmup_steps:,} of them warm-up, then {config.learner.schedule}), "
        f"{counts.all_completions:,} completions",
        f"epochs over the training problems: {_epochs(counts, tasks)}"
        f"{', and more with every further round' if config.algorithm.zero_variance == 'resample' else ''}",
        f"evaluations: {counts.evaluations:,} of {counts.evaluated_completions:,} completions",
        f"checkpoints: {counts.checkpoints:,}",
    ]
    return lines


def _epochs(counts: BatchArithmetic, tasks: Sequence[TrainedTask]) -> str:
    if len(tasks) == 1:
        return f"{counts.epochs[0]:.2f}"
    each = zip(tasks, counts.epochs, strict=True)
    return ", ".join(f"{task.name} {epochs:.2f} ({task.share:.1%} of the prompts)" for task, epochs in each)


def _times(num_steps: int, every: int) -> int:
    """How often something comes that is due every so many steps, and after the last one; 0: only then.

    >>> _times(50, 20), _times(40, 20), _times(5, 0)
    (3, 2, 1)
    """
    if not every:
        return 1
    return num_steps // every + (num_steps % every > 0)
