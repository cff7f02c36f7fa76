"""Aggregations: how token losses become one number. Each is a weight per token; the loss is sum(weight x loss).

The counts are those of the whole optimizer batch, over all micro-batches and ranks, fixed before any
backward pass. So the weights of a micro-batch do not depend on how the batch was split, and summing the
gradients of the parts gives the gradient of the whole.

Shapes: loss_mask_BT bool [B, T], each row one completion; weights [B, T]. A completion without a token that counts (all
of its row is masked) has weight 0 everywhere and must not be in the counts. A batch of nothing else has weights 0, no NaN.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from r1.algorithm.shapes import check_mask


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchCounts:
    """What an optimizer batch holds, globally."""

    num_sequences: int
    """Completions with at least one token that counts in the loss."""
    num_loss_tokens: int
    max_completion_tokens: int
    """The sampling limit, for `constant`."""

    def __post_init__(self) -> None:
        if self.num_sequences < 0 or self.num_loss_tokens < 0 or self.max_completion_tokens < 1:
            raise ValueError(f"counts must not be negative, and max_completion_tokens at least 1; got {self}")


TokenWeights = Callable[[torch.Tensor, BatchCounts], torch.Tensor]
"""(loss_mask_BT, counts) -> weights_BT, float32, 0 where the mask is False. Each row holds one completion."""


def sequence_mean(loss_mask_BT: torch.Tensor, counts: BatchCounts) -> torch.Tensor:
    """GRPO, arXiv:2402.03300 equation 3: mean over completions of each one's token mean: 1 / (sequences x own length).

    A token of a long completion weighs less than one of a short completion. The paper averages over the G completions of
    a prompt, then over prompts: the same while all groups are of one size; here every completion that counts weighs the same.
    """
    check_mask(loss_mask_BT)
    lengths_B1 = loss_mask_BT.sum(-1, keepdim=True).clamp(min=1)
    return loss_mask_BT / (lengths_B1 * max(1, counts.num_sequences))


def token_mean(loss_mask_BT: torch.Tensor, counts: BatchCounts) -> torch.Tensor:
    """DAPO, arXiv:2503.14476 equation 12: every token weighs the same: 1 / tokens.

    The equation's divisor is the tokens of one prompt's group, under an average over prompts; here it is the tokens of the
    whole optimizer batch, so a prompt with longer completions weighs more.
    """
    check_mask(loss_mask_BT)
    return loss_mask_BT / max(1, counts.num_loss_tokens)


def constant(loss_mask_BT: torch.Tensor, counts: BatchCounts) -> torch.Tensor:
    """Dr. GRPO, arXiv:2503.20783 section 3.2: a fixed divisor, free of length bias: 1 / (sequences x max_completion_tokens).

    The paper sums a completion's tokens; its code divides by a constant, the generation budget, which only scales.
    """
    check_mask(loss_mask_BT)
    return loss_mask_BT / (max(1, counts.num_sequences) * counts.max_completion_tokens)
