"""An engine that answers at once with completions made beforehand: what is left to measure is everything around it."""

import random
from dataclasses import replace

from r1.rollout.engine import EngineOptions
from r1.rollout.scripted_engine import ScriptedEngine
from r1.types import Completion, FinishedGroup, GroupRequest, RolloutGroup

VOCABULARY = 32_000
NUM_MADE = 256
"""Different completions; groups draw from them in turn."""


class InstantEngine(ScriptedEngine):
    """Random tokens and log-probabilities, lengths from a third of `max_completion_tokens` to all of it.

    One step finishes all groups in hand: a worker has up to max_num_seqs completions ready when it is asked.
    """

    def __init__(self, options: EngineOptions) -> None:
        super().__init__(lambda text, sample_id: "")
        self.vocab_size = VOCABULARY
        rng = random.Random(0)
        longest = options.max_completion_tokens
        self._made = [self._random_completion(rng, rng.randint(longest // 3, longest)) for _ in range(NUM_MADE)]

    def step(self) -> list[FinishedGroup]:
        return [finished for _ in range(self.num_unfinished) for finished in super(InstantEngine, self).step()]

    def sample_group(self, request: GroupRequest) -> RolloutGroup:
        first = request.ticket * request.group_size
        made = [self._made[(first + sample_id) % NUM_MADE] for sample_id in range(request.group_size)]
        group_id, version = request.prompt.group_id, self.policy_version
        completions = tuple(
            replace(completion, group_id=group_id, sample_id=sample_id, policy_version=version)
            for sample_id, completion in enumerate(made)
        )
        return RolloutGroup(prompt=request.prompt, completions=completions)

    def _random_completion(self, rng: random.Random, num_tokens: int) -> Completion:
        return Completion(
            group_id=0,
            sample_id=0,
            token_ids=tuple(rng.randrange(VOCABULARY) for _ in range(num_tokens)),
            rollout_logprobs=tuple(-rng.expovariate(2.0) for _ in range(num_tokens)),
            text="".join(rng.choices("abcdefghijklmnopqrstuvwxyz     0123456789", k=4 * num_tokens)),
            finish_reason="stop",
            policy_version=0,
        )
