"""Scored groups -> training batch: shifted, padded, split by token budget, with global counts.

Shapes: B rows, T columns. Row b holds prompt + completion of one sample; column t predicts labels_BT[b, t].
"""

import heapq
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from r1.algorithm.aggregation import BatchCounts
from r1.algorithm.overlong import keep_finished
from r1.types import Completion, Prompt, ScoredGroup

MAX_PADDING = 0.1
"""Share of a micro-batch's cells that may be padding. More, smaller parts cost less than arithmetic on padding: rows are
sorted by length, so a part ends where the rows become much shorter than its first."""
MIN_CELLS = 512
"""A part with fewer cells is not ended for its padding: a forward pass of its own would cost more."""


SampleKey = tuple[int, int]
"""(group_id, sample_id) of a completion of the step."""


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
    fresh_BT: torch.Tensor
    """bool: True where the label was sampled by the batch's policy version: there engine and learner must agree."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MiniBatch:
    """One optimizer update: the micro-batches of each learner rank and the counts over all of them."""

    microbatches: tuple[tuple[MicroBatch, ...], ...]
    """[rank][i]"""
    samples: tuple[tuple[tuple[SampleKey, ...], ...], ...]
    """[rank][i][B] whose rows they are; shorter than B where nothing counts."""
    counts: BatchCounts


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainBatch:
    """All that the learner gets in a step."""

    step: int
    policy_version: int
    """The version that learns from it, and that sampled it unless it is stale."""
    minibatches: tuple[MiniBatch, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    prompt: Prompt
    completion: Completion
    advantage: float
    policy_version: int
    """The learner's."""
    num_columns: int
    """Tokens of both but one; kept, since sorting and splitting ask for it again and again."""

    @property
    def num_stale(self) -> int:
        """Tokens of the completion, from its first one on, that an older policy sampled."""
        if self.completion.policy_version == self.policy_version:
            return 0
        starts = dict(self.completion.later_versions)
        return starts.get(self.policy_version, len(self.completion.token_ids))


def make_train_batch(
    groups: Sequence[ScoredGroup],
    *,
    step: int,
    policy_version: int,
    num_minibatches: int,
    max_tokens_per_microbatch: int,
    max_completion_tokens: int,
    num_ranks: int = 1,
    overlong_filtering: bool = False,
) -> TrainBatch:
    """Lay out a step's groups for the learner: one mini-batch per update, each with its share of the groups.

    The number of groups must be a multiple of `num_minibatches` (the configuration checks it).
    num_ranks: every rank gets about as many tokens, and exactly as many micro-batches: ranks meet in each of them.
    overlong_filtering: truncated completions are left out, see `r1.algorithm.overlong`.
    """
    per_minibatch, rest = divmod(len(groups), num_minibatches)
    assert rest == 0, f"{len(groups)} groups into {num_minibatches} mini-batches"
    minibatches = []
    for start in range(0, len(groups), per_minibatch):
        rows = list(_rows(groups[start : start + per_minibatch], policy_version, overlong_filtering))
        counts = BatchCounts(
            num_sequences=len(rows),
            num_loss_tokens=sum(len(row.completion.token_ids) for row in rows),
            max_completion_tokens=max_completion_tokens,
        )
        per_rank = [list(_split(part, max_tokens_per_microbatch)) for part in _balance(rows, num_ranks)]
        num_parts = max(1, *map(len, per_rank))
        microbatches = tuple(tuple(_pad(part) for part in parts) + (_EMPTY,) * (num_parts - len(parts)) for parts in per_rank)
        samples = tuple(tuple(_keys(part) for part in parts) + ((),) * (num_parts - len(parts)) for parts in per_rank)
        minibatches.append(MiniBatch(microbatches=microbatches, samples=samples, counts=counts))
    return TrainBatch(step=step, policy_version=policy_version, minibatches=tuple(minibatches))


def padding_share(minibatch: MiniBatch) -> float:
    """Return the share of a mini-batch's cells that hold no token.

    >>> padding_share(MiniBatch(microbatches=((_EMPTY,),), samples=(((),),), counts=BatchCounts(
    ...     num_sequences=0, num_loss_tokens=0, max_completion_tokens=1)))
    0.0
    """
    masks = [micro.attention_mask_BT for of_rank in minibatch.microbatches for micro in of_rank]
    return 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)


def _rows(groups: Sequence[ScoredGroup], policy_version: int, overlong_filtering: bool) -> Iterator[_Row]:
    for group, keep in zip(groups, keep_finished(groups), strict=True):
        if not group.is_learnt:
            continue
        for completion, advantage, is_finished in zip(group.completions, group.advantages, keep, strict=True):
            if is_finished or not overlong_filtering:
                num_columns = len(group.prompt.token_ids) + len(completion.token_ids) - 1
                yield _Row(group.prompt, completion, advantage, policy_version, num_columns)


def _balance(rows: Sequence[_Row], num_ranks: int) -> list[list[_Row]]:
    """Share the rows out, longest first, each to the rank with the fewest tokens so far (Graham 1969: within 4/3 of the best)."""
    loads = [(0, rank) for rank in range(num_ranks)]
    shares: list[list[_Row]] = [[] for _ in range(num_ranks)]
    for row in sorted(rows, key=lambda row: row.num_columns, reverse=True):
        load, rank = heapq.heappop(loads)
        shares[rank].append(row)
        heapq.heappush(loads, (load + row.num_columns, rank))
    return shares


def _split(rows: Sequence[_Row], max_tokens: int) -> Iterator[list[_Row]]:
    """Cut the rows, longest first, into parts of at most `max_tokens` cells.

    At most a tenth of a part is padding, but for small ones (MIN_CELLS). A row that is longer than the budget stands alone.
    """
    part: list[_Row] = []
    num_tokens = 0
    for row in sorted(rows, key=lambda row: row.num_columns, reverse=True):
        # Sorted: the first row of a part is its longest and sets the width.
        cells = (len(part) + 1) * part[0].num_columns if part else 0
        is_padded = cells > MIN_CELLS and num_tokens + row.num_columns < (1 - MAX_PADDING) * cells
        if part and (cells > max_tokens or is_padded):
            yield part
            part, num_tokens = [], 0
        part.append(row)
        num_tokens += row.num_columns
    if part:
        yield part


def _keys(rows: Sequence[_Row]) -> tuple[SampleKey, ...]:
    return tuple((row.completion.group_id, row.completion.sample_id) for row in rows)


def _pad(rows: Sequence[_Row]) -> MicroBatch:
    # In numpy: row by row torch takes several times as long, most of it for turning tuples into tensors.
    shape = (len(rows), max(row.num_columns for row in rows))
    token_ids, labels = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    attention_mask, loss_mask, fresh = np.zeros(shape, bool), np.zeros(shape, bool), np.zeros(shape, bool)
    rollout_logprobs, advantages = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for b, row in enumerate(rows):
        sequence = np.frombuffer(array("q", row.prompt.token_ids + row.completion.token_ids), np.int64)
        end = row.num_columns
        # The first completion token is predicted by the last prompt token.
        begin = len(row.prompt.token_ids) - 1
        token_ids[b, :end], labels[b, :end] = sequence[:-1], sequence[1:]
        attention_mask[b, :end], loss_mask[b, begin:end], fresh[b, begin + row.num_stale : end] = True, True, True
        rollout_logprobs[b, begin:end] = array("f", row.completion.rollout_logprobs)
        advantages[b, begin:end] = row.advantage
    return MicroBatch(
        token_ids_BT=torch.from_numpy(token_ids),
        labels_BT=torch.from_numpy(labels),
        attention_mask_BT=torch.from_numpy(attention_mask),
        loss_mask_BT=torch.from_numpy(loss_mask),
        rollout_logprobs_BT=torch.from_numpy(rollout_logprobs),
        advantages_BT=torch.from_numpy(advantages),
        fresh_BT=torch.from_numpy(fresh),
    )


def _empty() -> MicroBatch:
    """One token that counts nowhere: for a rank that has less to do than the others, but must take part."""
    nothing = torch.zeros((1, 1))
    ids, no = nothing.long(), nothing.bool()
    return MicroBatch(
        token_ids_BT=ids,
        labels_BT=ids,
        attention_mask_BT=~no,
        loss_mask_BT=no,
        rollout_logprobs_BT=nothing,
        advantages_BT=nothing,
        fresh_BT=no,
    )


_EMPTY = _empty()
