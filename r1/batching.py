"""Scored groups -> training batch: shifted, padded, split by token budget, with global counts.

Shapes: B rows, T columns. Row b holds prompt + completion of one sample; column t predicts labels_BT[b, t].
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from r1.algorithm.aggregation import BatchCounts
from r1.types import Completion, Prompt, ScoredGroup


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """What one forward pass reads. Rows are padded on the right; padding is False in both masks."""

    token_ids_BT: torch.Tensor
    """int64: prompt + completion without its last token; 0 where padded."""
    labels_BT: torch.Tensor
    """int64: the token that follows, i.e. already shifted; 0 where padded."""
    attention_mask_BT: torch.Tensor
    """bool: True for real tokens."""
    loss_mask_BT: torch.Tensor
    """bool: True where the label is a token of the completion."""
    rollout_logprobs_BT: torch.Tensor
    """float32: what the engine sampled the label with; 0.0 where loss_mask is False."""
    advantages_BT: torch.Tensor
    """float32: the completion's advantage; 0.0 where loss_mask is False."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MiniBatch:
    """One optimizer update: the micro-batches of each learner rank and the counts over all of them."""

    microbatches: tuple[tuple[MicroBatch, ...], ...]
    """[rank][i]"""
    counts: BatchCounts


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainBatch:
    """All that the learner gets in a step."""

    step: int
    policy_version: int
    """The version that sampled it."""
    minibatches: tuple[MiniBatch, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    prompt: Prompt
    completion: Completion
    advantage: float

    @property
    def num_columns(self) -> int:
        return len(self.prompt.token_ids) + len(self.completion.token_ids) - 1


def make_train_batch(
    groups: Sequence[ScoredGroup],
    *,
    step: int,
    policy_version: int,
    num_minibatches: int,
    max_tokens_per_microbatch: int,
    max_completion_tokens: int,
) -> TrainBatch:
    """Lay out a step's groups for the learner: one mini-batch per update, each with its share of the groups.

    The number of groups must be a multiple of `num_minibatches` (the configuration checks it).
    """
    per_minibatch, rest = divmod(len(groups), num_minibatches)
    assert rest == 0, f"{len(groups)} groups into {num_minibatches} mini-batches"
    minibatches = []
    for start in range(0, len(groups), per_minibatch):
        rows = [
            _Row(group.prompt, completion, advantage)
            for group in groups[start : start + per_minibatch]
            for completion, advantage in zip(group.completions, group.advantages, strict=True)
        ]
        counts = BatchCounts(
            num_sequences=len(rows),
            num_loss_tokens=sum(len(row.completion.token_ids) for row in rows),
            max_completion_tokens=max_completion_tokens,
        )
        one_rank = tuple(_pad(part) for part in _split(rows, max_tokens_per_microbatch))
        minibatches.append(MiniBatch(microbatches=(one_rank,), counts=counts))
    return TrainBatch(step=step, policy_version=policy_version, minibatches=tuple(minibatches))


def _split(rows: Sequence[_Row], max_tokens: int) -> Iterator[list[_Row]]:
    """Cut the rows, longest first, into parts of at most `max_tokens` cells; a longer row stands alone."""
    part: list[_Row] = []
    for row in sorted(rows, key=lambda row: row.num_columns, reverse=True):
        # Sorted: the first row of a part is its longest and sets the width.
        if part and (len(part) + 1) * part[0].num_columns > max_tokens:
            yield part
            part = []
        part.append(row)
    if part:
        yield part


def _pad(rows: Sequence[_Row]) -> MicroBatch:
    shape = (len(rows), max(row.num_columns for row in rows))
    token_ids, labels = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
    attention_mask, loss_mask = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
    rollout_logprobs, advantages = torch.zeros(shape), torch.zeros(shape)
    for b, row in enumerate(rows):
        sequence = torch.tensor(row.prompt.token_ids + row.completion.token_ids, dtype=torch.int64)
        end = row.num_columns
        # The first completion token is predicted by the last prompt token.
        begin = len(row.prompt.token_ids) - 1
        token_ids[b, :end], labels[b, :end] = sequence[:-1], sequence[1:]
        attention_mask[b, :end], loss_mask[b, begin:end] = True, True
        rollout_logprobs[b, begin:end] = torch.tensor(row.completion.rollout_logprobs)
        advantages[b, begin:end] = row.advantage
    return MicroBatch(
        token_ids_BT=token_ids,
        labels_BT=labels,
        attention_mask_BT=attention_mask,
        loss_mask_BT=loss_mask,
        rollout_logprobs_BT=rollout_logprobs,
        advantages_BT=advantages,
    )
