"""The policy as the learner calls it: a micro-batch in, the log-probabilities of its labels out."""

from typing import Any

import torch
from torch import nn

from r1.batching import MicroBatch
from r1.policy_model import label_logprobs


class Policy(nn.Module):
    """A model whose forward pass ends in log-probabilities: sharding gathers its weights around all of it, head included."""

    is_packed: bool
    """Whether a micro-batch is computed as one row without padding, see `r1.attention`."""

    def __init__(self, model: Any, *, is_packed: bool = False) -> None:
        super().__init__()
        self.model = model
        self.is_packed = is_packed

    def forward(self, micro: MicroBatch, temperature: float, entropy_gradient: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (log-probabilities, entropies) of the labels, [B, T] each, 0.0 where the loss mask is False."""
        mask = micro.loss_mask_BT
        token_ids, labels, loss_mask, position_ids = micro.token_ids_BT, micro.labels_BT, mask, None
        if self.is_packed:
            real = micro.attention_mask_BT
            columns = torch.arange(real.shape[1], device=real.device).expand_as(real)
            # [1, N] each. Row-major, so the tokens that count keep their order and go back where they came from.
            token_ids, labels, loss_mask, position_ids = (x[real][None] for x in (token_ids, labels, loss_mask, columns))
        # No attention mask: it would hide the borders of packed rows, and padding stands on the right, where causal attention
        # never looks. Without one SDPA needs neither the [B, 1, T, T] mask nor copies of the shared key and value heads.
        logprobs_N, entropies_N = label_logprobs(
            self.model, token_ids, labels, loss_mask, temperature, position_ids_BT=position_ids, entropy_gradient=entropy_gradient
        )
        zeros = torch.zeros(mask.shape, device=mask.device)
        return zeros.masked_scatter(mask, logprobs_N), zeros.masked_scatter(mask, entropies_N)
