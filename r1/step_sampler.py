"""The scored groups of each step: begun ahead where they may be stale, over-sampled and sampled on where that is asked for.

With the defaults a step is one batch of P prompts, begun when the step begins, and all of its groups are learnt from.

    rollout.max_staleness = k     the next k steps are begun as well: the engines work on them while the learner updates.
                                  No queue grows: when those are done, the engines wait for the learner.
    rollout.oversampling = f      f x P prompts are begun; when P groups are finished, the others are cut off.
    algorithm.zero_variance       "resample": groups whose rewards are all equal are replaced in further rounds (DAPO,
                                  arXiv:2503.14476 section 3.2), at most MAX_ROUNDS in a step.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from r1.algorithm import ADVANTAGES
from r1.config import RunConfig
from r1.errors import RunError, ScoringError, SyncError
from r1.protocols import Sampler, Scorer
from r1.stopwatch import Stopwatch
from r1.types import Progress, PromptBatch, RolloutGroup, Score, ScoredGroup, StepSamples

MAX_ROUNDS = 10
"""Of dynamic sampling in a step, the first one included: the limit of DAPO's published recipe."""

Prompts = Callable[[Progress, int], PromptBatch]
"""(progress so far, number of prompts) -> the prompts of the step after it; a pure function, so a resumed run sees the same."""
Judged = tuple[RolloutGroup, tuple[Score, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Begun:
    batch: PromptBatch
    num_drawn_before: int


class StepSampler:
    """Asks sampler and scorer for what each step needs, and keeps the place in the walk over the prompts."""

    def __init__(self, config: RunConfig, prompts: Prompts, sampler: Sampler, scorer: Scorer, progress: Progress) -> None:
        self._config = config
        self._prompts = prompts
        self._sampler = sampler
        self._scorer = scorer
        self._begun: dict[int, _Begun] = {}
        self._num_drawn = progress.num_prompts_drawn

    def begin(self, progress: Progress) -> None:
        """Begin the step after `progress`, and the max_staleness steps after that, unless they are begun already.

        The engines hold `progress.policy_version`, so the last of them gets samples that are max_staleness versions old.
        """
        last = min(progress.step + 1 + self._config.rollout.max_staleness, self._config.num_steps)
        for step in range(progress.step + 1, last + 1):
            if step not in self._begun:
                version = progress.policy_version + step - (progress.step + 1)
                before = self._num_drawn
                batch = self._begin_round(step, version, 0, 0, self._config.rollout.num_prompts)
                self._begun[step] = _Begun(batch=batch, num_drawn_before=before)

    def collect(self, step: int, clock: Stopwatch) -> StepSamples:
        """Wait for a step that was begun: its groups, scored, with advantages; samples on where too few of them teach.

        clock: gets the phases sample and score.
        """
        num_prompts = self._config.rollout.num_prompts
        batch = self._begun.pop(step).batch
        informative, flat = list[Judged](), list[Judged]()
        num_wanted, first_group_id, num_rounds = num_prompts, 0, 0
        while True:
            for judged in self._round(batch, num_wanted, clock):
                (informative if has_spread(judged[1]) else flat).append(judged)
            num_rounds += 1
            num_wanted = num_prompts - len(informative)
            if self._config.algorithm.zero_variance != "resample" or num_wanted <= 0 or num_rounds == MAX_ROUNDS:
                break
            first_group_id += len(batch.prompts)
            batch = self._begin_round(step, batch.policy_version, num_rounds, first_group_id, num_wanted)
        chosen = sorted([*informative, *flat[: max(0, num_wanted)]], key=_group_id)
        taken = {_group_id(judged) for judged in chosen}
        others = [judged for judged in flat if _group_id(judged) not in taken]
        return StepSamples(groups=self._scored(chosen), others=_without_advantages(others), num_rounds=num_rounds)

    def num_prompts_drawn(self) -> int:
        """Where a resumed run goes on drawing: before the first prompt of the steps that are begun and not learnt from."""
        return min([self._num_drawn, *(begun.num_drawn_before for begun in self._begun.values())])

    def forget(self, progress: Progress) -> None:
        """Drop what is begun, and go on after `progress`."""
        self._sampler.forget()
        self._scorer.forget()
        self._begun.clear()
        self._num_drawn = progress.num_prompts_drawn

    def _begin_round(self, step: int, version: int, number: int, first_group_id: int, num_wanted: int) -> PromptBatch:
        num_begun = math.ceil(num_wanted * self._config.rollout.oversampling)
        progress = Progress(step=step - 1, policy_version=version, num_prompts_drawn=self._num_drawn)
        batch = self._prompts(progress, num_begun)
        self._num_drawn += num_begun
        prompts = tuple(replace(prompt, group_id=prompt.group_id + first_group_id) for prompt in batch.prompts)
        batch = replace(batch, prompts=prompts, round=number, max_staleness=self._config.rollout.max_staleness)
        self._sampler.submit(batch)
        return batch

    def _round(self, batch: PromptBatch, num_wanted: int, clock: Stopwatch) -> list[Judged]:
        with clock("sample"):
            groups = sample(batch, self._sampler, self._scorer, num_wanted)
        with clock("score"):
            scores = self._scorer.collect(groups)
        # A later round may want a single group, and one problem that cannot be judged is no reason to end a run.
        if batch.round == 0 and all(score.reward is None for of_group in scores for score in of_group):
            raise ScoringError(
                f"step {batch.step}: not one of the {sum(map(len, scores))} completions could be judged; "
                "do the rewards of this task fit its reference answers?"
            )
        return list(zip(groups, scores, strict=True))

    def _scored(self, judged: Sequence[Judged]) -> list[ScoredGroup]:
        advantages = ADVANTAGES[self._config.algorithm.advantage]([[score.reward for score in scores] for _, scores in judged])
        keeps_all = self._config.algorithm.zero_variance == "keep"
        return [
            ScoredGroup(
                prompt=group.prompt,
                completions=group.completions,
                scores=scores,
                advantages=tuple(values),
                is_learnt=keeps_all or has_spread(scores),
            )
            for (group, scores), values in zip(judged, advantages, strict=True)
        ]


def sample(batch: PromptBatch, sampler: Sampler, scorer: Scorer, num_wanted: int | None = None) -> list[RolloutGroup]:
    """Take the groups of a submitted batch as they are finished, each to the scorer at once; returns them by group_id.

    num_wanted: so many are taken, and the rest is cut off; None takes all.
    """
    num_wanted = num_wanted or len(batch.prompts)
    groups = []
    for group in sampler.collect(batch):
        scorer.submit(group)
        groups.append(group)
        if len(groups) == num_wanted < len(batch.prompts):
            sampler.cut_off(batch)
            break
    # What is learnt shall not depend on who was finished first.
    groups.sort(key=lambda group: group.prompt.group_id)
    check_groups(batch, groups, num_wanted)
    return groups


def check_groups(batch: PromptBatch, groups: Sequence[RolloutGroup], num_wanted: int) -> None:
    """Every prompt once, or so many as were wanted; G completions each, none by a policy that is too old or too new."""
    asked, got = [prompt.group_id for prompt in batch.prompts], [group.prompt.group_id for group in groups]
    if len(got) != num_wanted or len(set(got)) != len(got) or not set(got) <= set(asked):
        raise RunError(f"step {batch.step}: asked for {num_wanted} of the groups {asked}, the sampler returned {got}")
    oldest = batch.policy_version - batch.max_staleness
    for group in groups:
        if [completion.sample_id for completion in group.completions] != list(range(batch.group_size)):
            raise RunError(
                f"step {batch.step}, group {group.prompt.group_id}: not exactly {batch.group_size} completions in order"
            )
        for completion in group.completions:
            if not oldest <= completion.policy_version <= batch.policy_version:
                at = f"{oldest} to {batch.policy_version}" if batch.max_staleness else f"{batch.policy_version}"
                raise SyncError(
                    f"step {batch.step}, group {group.prompt.group_id}, sample {completion.sample_id}: sampled by policy version "
                    f"{completion.policy_version}, the step is at {at}"
                )


def has_spread(scores: Sequence[Score]) -> bool:
    """Whether a group's known rewards differ: only then has it an advantage."""
    return len({score.reward for score in scores if score.reward is not None}) > 1


def _without_advantages(judged: Sequence[Judged]) -> list[ScoredGroup]:
    return [
        ScoredGroup(
            prompt=group.prompt, completions=group.completions, scores=scores, advantages=(0.0,) * len(scores), is_learnt=False
        )
        for group, scores in judged
    ]


def _group_id(judged: Judged) -> int:
    return judged[0].prompt.group_id
