"""The seam of the loop: what samples, what scores and what learns, as three Protocols.

Ray classes in `r1.runtime` implement them; tests do in twenty lines.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

from r1.batching import SampleKey, TrainBatch
from r1.errors import WorkerLost
from r1.types import Progress, PromptBatch, RolloutGroup, Score, TokenValues, WeightManifest


class Sampler(Protocol):
    """The rollout workers."""

    def submit(self, batch: PromptBatch) -> None:
        """Begin to sample a batch, after those of earlier steps and before those of later ones."""
        ...

    def collect(self, batch: PromptBatch) -> Iterator[RolloutGroup]:
        """Yield the groups of a submitted batch, one per prompt, whichever is finished first."""
        ...

    def cut_off(self, batch: PromptBatch) -> None:
        """Drop what is left of a submitted batch; `collect` is not called for it again."""
        ...

    def pause(self) -> None:
        """Make ready for new weights, and begin no group until the next `load_weights`.

        What is in hand is finished first, with the old weights, or goes on with the new ones (`sync.in_flight`).
        """
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
        """Begin to score a group, unless it was submitted before."""
        ...

    def collect(self, groups: Sequence[RolloutGroup]) -> list[tuple[Score, ...]]:
        """Return the scores of the completions of submitted groups, in the order asked for, and forget them."""
        ...

    def forget(self) -> None:
        """Drop the submitted groups."""
        ...


class PolicyLearner(Protocol):
    """The policy and its optimizer."""

    def update(self, batch: TrainBatch) -> dict[str, float]:
        """Learn from a batch; returns metrics. The policy version grows by one."""
        ...

    def token_values(self, group_ids: Collection[int]) -> dict[SampleKey, TokenValues]:
        """What the last `update` computed of each token of these groups' completions, as far as they were in the loss."""
        ...

    def publish_weights(self) -> WeightManifest:
        """Put the current weights where the sampler can load them."""
        ...

    def save(self, progress: Progress) -> None:
        """Begin a checkpoint from which the run can go on; it may be written while the next steps run."""
        ...

    def recover(self, lost: WorkerLost) -> Progress:
        """Start again from the last checkpoint, and return its progress.

        Raises `WorkerLost` when it is lost again meanwhile, and another `RunError` when it was started too often.
        """
        ...

    def finish_save(self, limit_s: float = math.inf) -> None:
        """Return once the last checkpoint that was begun is complete; raises after `limit_s`."""
        ...
