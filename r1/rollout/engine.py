"""What an engine is: the thing inside a rollout worker that turns prompts into completions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from r1.errors import SyncError, UserError
from r1.types import Completion, Prompt, PromptBatch, RolloutGroup, WeightManifest


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineOptions:
    """All that an engine needs to know; plain values, so that it can be sent to another process."""

    model_path: str
    dtype: str
    """torch's name, e.g. "float32"."""
    max_prompt_tokens: int
    max_completion_tokens: int
    temperature: float
    max_num_seqs: int
    kv_cache_bytes: int
    """On a CPU; a GPU engine takes `gpu_share` of the device's memory."""
    gpu_share: float = 1.0
    """Below 1 when the learner lives on the same GPU."""


class RolloutEngine(Protocol):
    """Samples completions, and takes new weights in four steps that a weight sync calls in this order."""

    policy_version: int
    """The version of the weights that the next completion is sampled with."""

    def generate(self, batch: PromptBatch) -> list[RolloutGroup]:
        """Sample `group_size` completions for each prompt; returns one group per prompt, in order."""
        ...

    def receive_weights(self, manifest: WeightManifest, *, verify: bool) -> None:
        """Map the published bytes and compare their checksums; nothing is loaded yet."""
        ...

    def load_weights(self) -> None:
        """Replace the live weights by the received ones; `policy_version` becomes the manifest's."""
        ...

    def reset_prefix_cache(self) -> None:
        """Forget key-value blocks that were computed with older weights."""
        ...

    def verify_weights(self) -> None:
        """Prove that what the engine computes with is what it received; raises `SyncError`."""
        ...

    def close(self) -> None: ...


EngineFactory = Callable[[EngineOptions], RolloutEngine]


def load_engine_class(import_string: str) -> EngineFactory:
    """Import an engine by "module:Class". By string, since importing one is heavy (vLLM: 8 to 10 s)."""
    module_name, colon, class_name = import_string.partition(":")
    if not colon:
        raise UserError(f"option 'rollout.engine': {import_string!r} must look like package.module:Class")
    try:
        return cast(EngineFactory, getattr(import_module(module_name), class_name))
    except (ImportError, AttributeError) as error:
        raise UserError(f"option 'rollout.engine': cannot import {import_string!r}: {error}") from error


def check_version(batch: PromptBatch, policy_version: int) -> None:
    """Refuse to sample with weights other than those the step asks for (strict mode)."""
    if policy_version != batch.policy_version:
        raise SyncError(
            f"step {batch.step} wants samples of policy version {batch.policy_version}, the engine holds {policy_version}"
        )


def check_group(prompt: Prompt, completions: Sequence[Completion], vocab_size: int) -> None:
    """Refuse what no healthy engine returns: ids outside the vocabulary, log-probabilities that are no numbers."""
    for completion in completions:
        where = f"group {prompt.group_id}, sample {completion.sample_id}"
        if len(completion.token_ids) != len(completion.rollout_logprobs) or not completion.token_ids:
            raise SyncError(
                f"{where}: {len(completion.token_ids)} tokens with {len(completion.rollout_logprobs)} log-probabilities"
            )
        if not all(0 <= token < vocab_size for token in completion.token_ids):
            raise SyncError(f"{where}: a token id outside the vocabulary of {vocab_size}")
        if not all(math.isfinite(logprob) and logprob <= 1e-3 for logprob in completion.rollout_logprobs):
            raise SyncError(f"{where}: a log-probability that is not finite or above 0")
