"""The values that cross processes: frozen dataclasses of builtins, no tensors, no torch.

Shapes in brackets: P prompts in a step, G completions in a group, L tokens in one completion.
"""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rewards.base import AnswerForm
from tasks.base import Problem

ChecksumKind = Literal["xxh3", "device"]
"""XXH3 of bytes on a CPU (r1.shm_weights), or torch's integer operations where the bytes are (r1.device_weights)."""
FinishReason = Literal["stop", "length", "abort"]
FailureKind = Literal["error", "timeout"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A problem, rendered by a template and tokenised once, for one step.

    >>> problem = Problem(problem_id="12+7", question="12+7=", reference={"answer": "19"})
    >>> Prompt(group_id=3, task="arithmetic", problem=problem, text="12+7=", prefill="",
    ...        token_ids=(2, 5, 6)).problem.reference["answer"]
    '19'
    """

    group_id: int
    """Position in the step, 0 .. P-1; all completions of this prompt carry it."""
    task: str
    problem: Problem
    text: str
    """The whole prompt as the policy reads it, prefill included."""
    prefill: str
    """The end of `text` that already belongs to the answer (e.g. "<think>\\n"); rewards see it before the completion."""
    token_ids: tuple[int, ...]
    answer_form: AnswerForm = "any"
    """What the template asks for; rewards find it in their reference."""
    stop: tuple[str, ...] = ()
    """Texts that end a completion as the end-of-sequence token does; rewards see those that are closing tags."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptBatch:
    """What one step asks the rollout workers for: `group_size` completions of each prompt.

    >>> PromptBatch(step=1, prompts=(), group_size=8, policy_version=0, seed=0).group_size
    8
    """

    step: int
    prompts: tuple[Prompt, ...]
    """[P]"""
    group_size: int
    policy_version: int
    """The version that does the sampling; the newest one that may, with `max_staleness`."""
    seed: int
    """The run's seed; sample seeds are a function of (seed, step, group_id, sample_id)."""
    max_staleness: int = 0
    """How many versions older the sampling policy may be."""
    round: int = 0
    """Above 0 where the step samples on; its group_ids follow those of the rounds before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupRequest:
    """One prompt of a batch, as one rollout worker gets it."""

    ticket: int
    """Its number in the run: the group that comes back carries it."""
    step: int
    prompt: Prompt
    group_size: int
    seed: int
    """As in `PromptBatch`; so are the next two."""
    policy_version: int
    max_staleness: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """One sampled answer, exactly as the engine produced it.

    >>> Completion(group_id=3, sample_id=0, token_ids=(9, 1), rollout_logprobs=(-0.1, -0.5), text="19",
    ...            finish_reason="stop", policy_version=4).finish_reason
    'stop'
    """

    group_id: int
    sample_id: int
    """Position in the group, 0 .. G-1."""
    token_ids: tuple[int, ...]
    """[L] as sampled, the end-of-sequence token included; the learner trains on these, never on re-tokenised text."""
    rollout_logprobs: tuple[float, ...]
    """[L] log-probability of each token under the distribution that it was sampled from (temperature applied)."""
    text: str
    """The decoded tokens without the end-of-sequence token and without the prefill."""
    finish_reason: FinishReason
    policy_version: int
    """The weights that sampled it; the oldest of them, if they changed in the middle."""
    later_versions: tuple[tuple[int, int], ...] = ()
    """(policy_version, first token that it sampled), for each change of weights in the middle."""
    sample_s: float | None = field(default=None, compare=False)
    """Seconds from when an engine took it to its last token; None where the engine does not say."""

    def __reduce__(self) -> tuple[Any, ...]:
        # What dataclasses do themselves looks the fields up for each of a step's thousands of completions, in both processes:
        # 14 instead of 8 ms for 256 of 200 tokens.
        values = (self.group_id, self.sample_id, self.token_ids, self.rollout_logprobs, self.text, self.finish_reason)
        return _completion, (*values, self.policy_version, self.later_versions, self.sample_s)


def _completion(
    group_id: int,
    sample_id: int,
    token_ids: tuple[int, ...],
    rollout_logprobs: tuple[float, ...],
    text: str,
    finish_reason: FinishReason,
    policy_version: int,
    later_versions: tuple[tuple[int, int], ...],
    sample_s: float | None,
) -> Completion:
    """Unpickled: `Completion.__reduce__`."""
    return Completion(
        group_id=group_id,
        sample_id=sample_id,
        token_ids=token_ids,
        rollout_logprobs=rollout_logprobs,
        text=text,
        finish_reason=finish_reason,
        policy_version=policy_version,
        later_versions=later_versions,
        sample_s=sample_s,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutGroup:
    """A prompt with its completions, before scoring."""

    prompt: Prompt
    completions: tuple[Completion, ...]
    """[G] in the order of sample_id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedGroup:
    """What comes back for a `GroupRequest`."""

    ticket: int
    group: RolloutGroup


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """What the reward functions say of one completion.

    >>> Score(reward=1.1, breakdown={"accuracy": 1.0, "reasoning_format": 1.0}).error is None
    True
    """

    reward: float | None
    """The weighted sum; None when a reward function could not judge or failed: the sample leaves the baseline."""
    breakdown: Mapping[str, float | None]
    """Reward name -> its unweighted value, whether or not the format gate let it count."""
    error: str | None = None
    """The first failure in words: "math_answer: timed out after 2.0 s"."""
    failures: Mapping[str, FailureKind] = field(default_factory=dict)
    """Reward name -> how it failed; rewards that could judge are not in it."""
    score_s: float | None = field(default=None, compare=False)
    """Seconds that the reward functions took, all together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenValues:
    """What the learner computed of each token of one completion, before the step's first update.

    >>> TokenValues(old_logprobs=array("f", [-0.5]), entropies=array("f", [1.25])).entropies[0]
    1.25
    """

    old_logprobs: "array[float]"
    """[L] float32. With `learner.old_logprobs=rollout` and several mini-batches those before the token's own update."""
    entropies: "array[float]"
    """[L] float32, nats: of the distribution that the token was drawn from, in the learner's eyes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredGroup:
    """A group that is ready to be learnt from."""

    prompt: Prompt
    completions: tuple[Completion, ...]
    """[G]"""
    scores: tuple[Score, ...]
    """[G]"""
    advantages: tuple[float, ...]
    """[G] 0.0 for samples without a reward."""
    is_learnt: bool = True
    """False: the group leaves the loss and its counts, since all of its rewards are equal (`algorithm.zero_variance`)."""
    token_values: tuple[TokenValues | None, ...] = ()
    """[G] for the traces, after the update; None for completions that left the loss, () where they are not kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSamples:
    """What a step has sampled."""

    groups: list[ScoredGroup]
    """[P] for the update; those that teach nothing may be marked as not learnt."""
    others: list[ScoredGroup]
    """Sampled and replaced: not in the update."""
    num_rounds: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """Where one tensor lies in a published weight buffer, and the checksum of its bytes."""

    name: str
    dtype: str
    """torch's name, e.g. "bfloat16"."""
    shape: tuple[int, ...]
    offset: int
    """bytes from the start of the buffer"""
    checksum: int
    """64-bit, over the bytes as the learner holds them out; `WeightManifest.checksum_kind` says how"""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightManifest:
    """A published policy: what a rollout worker needs to load it and to prove that it did."""

    policy_version: int
    path: str
    """The shared-memory file that holds the bytes; "" while they are on the learner's GPUs alone."""
    num_bytes: int
    tensors: tuple[TensorSpec, ...]
    """In the order in which they are written, sent and loaded."""
    checksum_kind: ChecksumKind = "xxh3"


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a run has come: with the configuration, all that decides which prompts the next step gets.

    >>> Progress() == Progress(step=0, policy_version=0, num_prompts_drawn=0)
    True
    """

    step: int = 0
    """The last finished step."""
    policy_version: int = 0
    """The learner's after that step."""
    num_prompts_drawn: int = 0
    """The place in the walk over the training problems."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """One finished step, for people and for metrics.jsonl.

    >>> StepReport(step=1, policy_version=1, metrics={"reward": 0.4}, timings_s={"sample": 1.2}).step
    1
    """

    step: int
    """1 for the first update."""
    policy_version: int
    """After the step's update."""
    metrics: Mapping[str, float]
    timings_s: Mapping[str, float]
    """Phase name -> wall seconds: sample, score, update, publish, load, write."""
