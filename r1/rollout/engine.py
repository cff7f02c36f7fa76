"""What an engine is: the thing inside a rollout worker that turns prompts into completions."""

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Literal, Protocol, cast

from r1.errors import SyncError, UserError
from r1.types import Completion, FinishedGroup, GroupRequest, Prompt, PromptBatch, RolloutGroup, WeightManifest

GPU_SHARE, COLOCATED_GPU_SHARE = 0.9, 0.5
"""Of a GPU's memory, for weights and cache. Beside a learner half: what it keeps while the engine is awake (float32 weights and
two moments, 12 bytes a parameter, and what is published) must find room in the rest, and an engine only notices at its start."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineOptions:
    """All that an engine needs to know; plain values, so that it can be sent to another process."""

    model_path: str
    dtype: str
    """torch's name, e.g. "float32"."""
    max_prompt_tokens: int
    max_completion_tokens: int
    temperature: float
    """0.0 takes the likeliest token each time, which only an evaluation asks for; log-probabilities are those at 1.0 then."""
    max_num_seqs: int
    tensor_parallel_size: int = 1
    """Processes that share the weights, a GPU each."""
    colocated: bool = False
    """Whether the learner lives on the same GPU: the engine then sleeps while it works."""


MIN_BATCHED_TOKENS = 8192
"""A forward pass of vLLM may have so many tokens, or those of one whole sequence where that is more."""
SleepingPart = Literal["weights", "kv_cache"]
"""What an engine wakes up apart: weights first, so that they can be loaded before the cache takes the rest of the memory."""


class RolloutEngine(Protocol):
    """Samples completions group by group, and takes new weights in four steps that a weight sync calls in this order."""

    policy_version: int
    """The version of the weights that the next token is sampled with."""
    vocab_size: int
    """Token ids are below it."""
    devices: tuple[str, ...]
    """The GPUs that weights can be sent to (`r1.weight_transport.Place`); () makes them come through a file."""

    def add(self, request: GroupRequest) -> None:
        """Begin a group; its completions are decoded together with those of the groups before it."""
        ...

    def step(self) -> list[FinishedGroup]:
        """Go on a little, by one token of every completion, say; returns the groups that are whole now."""
        ...

    @property
    def num_unfinished(self) -> int:
        """Groups that were added and have not come back."""
        ...

    def abort(self, tickets: Collection[int] | None = None) -> None:
        """Drop unfinished groups: these, or all of them. Tickets that are finished or unknown are no error."""
        ...

    def sleep(self) -> None:
        """Give the device's memory back, weights included; nothing may be unfinished. Again while asleep: nothing happens."""
        ...

    def wake_up(self, part: SleepingPart) -> None:
        """Take a part of the memory again, with anything in it: weights must be loaded. Nothing happens while awake."""
        ...

    def receive_weights(self, manifest: WeightManifest, *, verify: bool) -> None:
        """Map the published bytes and compare their checksums; of a file (`manifest.path`) nothing is loaded yet.

        An engine may leave the comparison of some tensors to `verify_weights`, which then proves those it holds.
        Without a file they come from the learner's GPUs, as `DeviceReceiver` says, and are loaded as they come.
        """
        ...

    def load_weights(self) -> None:
        """Replace the live weights by the received ones; `policy_version` becomes the manifest's."""
        ...

    def reset_prefix_cache(self) -> None:
        """Forget key-value blocks that were computed with older weights; unfinished groups compute theirs again."""
        ...

    def verify_weights(self) -> None:
        """Prove that what the engine computes with is what it received; raises `SyncError`."""
        ...

    def close(self) -> None: ...


class DeviceReceiver(Protocol):
    """What an engine with `devices` offers besides."""

    def join_transfer(self, meeting_point: str, world_size: int, rank_offset: int) -> None:
        """Become ranks `rank_offset` and following of a broadcast group; the next `receive_weights` receives from rank 0."""
        ...

    def receive_bucket(self, manifest: WeightManifest, index: int, bucket: dict[str, Any], *, verify: bool) -> None:
        """Read a bucket in the memory of this very GPU and load it; after the last one, `receive_weights` ends the transfer."""
        ...


class WholeGroups:
    """The first half of a `RolloutEngine` that samples one group at a time, from start to end in one step."""

    policy_version: int = 0
    devices: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._waiting: deque[GroupRequest] = deque()

    def sample_group(self, request: GroupRequest) -> RolloutGroup:
        raise NotImplementedError

    def add(self, request: GroupRequest) -> None:
        check_version(request, self.policy_version)
        self._waiting.append(request)

    def step(self) -> list[FinishedGroup]:
        if not self._waiting:
            return []
        request = self._waiting.popleft()
        start = time.monotonic()
        group = self.sample_group(request)
        sample_s = time.monotonic() - start
        completions = tuple(replace(completion, sample_s=sample_s) for completion in group.completions)
        return [FinishedGroup(ticket=request.ticket, group=replace(group, completions=completions))]

    @property
    def num_unfinished(self) -> int:
        return len(self._waiting)

    def abort(self, tickets: Collection[int] | None = None) -> None:
        self._waiting = deque(one for one in self._waiting if tickets is not None and one.ticket not in tickets)

    def sleep(self) -> None:
        """Keeps its memory."""

    def wake_up(self, part: SleepingPart) -> None:
        """Was never asleep."""


def generate(engine: RolloutEngine, batch: PromptBatch) -> list[RolloutGroup]:
    """Sample a whole batch with one engine; returns one group per prompt, in order."""
    for request in requests_of(batch, first_ticket=0):
        engine.add(request)
    finished: dict[int, RolloutGroup] = {}
    while engine.num_unfinished:
        for one in engine.step():
            check_group(one.group.prompt, one.group.completions, engine.vocab_size)
            finished[one.ticket] = one.group
    return [finished[ticket] for ticket in range(len(batch.prompts))]


def requests_of(batch: PromptBatch, *, first_ticket: int) -> list[GroupRequest]:
    """Return one request per prompt, numbered from `first_ticket`."""
    return [
        GroupRequest(
            ticket=ticket,
            step=batch.step,
            prompt=prompt,
            group_size=batch.group_size,
            seed=batch.seed,
            policy_version=batch.policy_version,
            max_staleness=batch.max_staleness,
        )
        for ticket, prompt in enumerate(batch.prompts, start=first_ticket)
    ]


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


def check_version(request: GroupRequest, policy_version: int) -> None:
    """Refuse to sample with weights that the step could not learn from."""
    if not request.policy_version - request.max_staleness <= policy_version <= request.policy_version:
        older = f", or at most {request.max_staleness} older" if request.max_staleness else ""
        raise SyncError(
            f"step {request.step} wants samples of policy version {request.policy_version}{older}, the engine holds "
            f"{policy_version}"
        )


def check_group(prompt: Prompt, completions: Sequence[Completion], vocab_size: int) -> None:
    """Refuse what no healthy engine returns: ids outside the vocabulary, log-probabilities that are no numbers."""
    for completion in completions:
        where = f"group {prompt.group_id}, sample {completion.sample_id}"
        if len(completion.token_ids) != len(completion.rollout_logprobs) or not completion.token_ids:
            raise SyncError(
                f"{where}: {len(completion.token_ids)} tokens with {len(completion.rollout_logprobs)} log-probabilities"
            )
        if completion.finish_reason == "abort":
            raise SyncError(f"{where}: the engine gave it up after {len(completion.token_ids)} tokens")
        if min(completion.token_ids) < 0 or max(completion.token_ids) >= vocab_size:
            raise SyncError(f"{where}: a token id outside the vocabulary of {vocab_size}")
        # A sum is finite if all its parts are, and many times faster than looking at each: this runs for every token.
        if not math.isfinite(sum(completion.rollout_logprobs)) or max(completion.rollout_logprobs) > 1e-3:
            raise SyncError(f"{where}: a log-probability that is not finite or above 0")
