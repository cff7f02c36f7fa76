"""Aggregations: how token losses become one number. Each is a weight per token; the loss is sum(weight x loss).

The counts are those of the whole optimizer batch, over all micro-batches and ranks, fixed before any
backward pass. So the weights of a micro-batch do not depend on how the batch was split, and summing the
gradients of the parts gives the gradient of the whole.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchCounts:
    """What an optimizer batch holds, globally."""

    num_sequences: int
    """Completions with at least one token that counts in the loss."""
    num_loss_tokens: int
    max_completion_tokens: int
    """The sampling limit, for `constant`."""


TokenWeights = Callable[[torch.Tensor, BatchCounts], torch.Tensor]
"""(loss_mask_BT, counts) -> weights_BT, float32, 0 where the mask is False. Each row holds one completion."""


def sequence_mean(loss_mask_BT: torch.Tensor, counts: BatchCounts) -> torch.Tensor:
    """GRPO, arXiv:2402.03300 equation 3: mean over completions of each one's token mean: 1 / (sequences x own length).

    A token of a long completion weighs less than one of a short completion.
    """
    lengths_B1 = loss_mask_BT.sum(-1, keepdim=True).clamp(min=1)
    return loss_mask_BT / (lengths_B1 * counts.num_sequences)


def token_mean(loss_mask_BT: torch.Tensor, counts: BatchCounts) -> torch.Tensor:
    """DAPO, arXiv:2503.14476 equation 12: every token of the batch weighs the same: 1 / tokens."""
    return loss_mask_BT / counts.num_loss_tokens


def constant(loss_mask_BT: torch.Tensor, counts: BatchCounts) -> torch.Tensor:
    """Dr. GRPO, arXiv:2503.20783 appendix: a fixed divisor, free of length bias: 1 / (sequences x max_completion_tokens)."""
    return loss_mask_BT / (counts.num_sequences * counts.max_completion_tokens)
