"""Token log-probabilities from hidden states, without ever holding the logits of a whole micro-batch."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

CHUNK_TOKENS = 512
"""Rows of logits alive at a time: 512 x 49,152 x 4 bytes = 100 MB for SmolLM2, 300 MB for a 150k vocabulary."""


def token_logprobs(
    hidden_ND: torch.Tensor,
    logits_of: Callable[[torch.Tensor], torch.Tensor],
    labels_N: torch.Tensor,
    temperature: float,
    *,
    entropy_gradient: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """log softmax(logits / temperature)[label] for N tokens; also the entropy of each distribution.

    hidden_ND: last hidden states of the positions that predict the labels, [N, D].
    logits_of: the model's way from hidden states [N, D] to logits [N, V], float32: the output head, and what a family does
        behind it (r1/policy_model.py).
    labels_N: token ids, [N] int64.
    temperature: the sampling temperature; the engine samples from softmax(logits / T), so its log-probabilities
        and ours agree only if the same T divides here.
    entropy_gradient: whether the entropies carry a gradient, for a bonus (coefficient x entropy, subtracted from the loss;
        A3C, arXiv:1602.01783 section 4). It costs about two more tensors of a chunk's size in the backward pass.
    Returns (logprobs_N, entropies_N), float32. The entropy -sum_v p_v log p_v is that of the distribution that is sampled
    from, at this temperature. N = 0 is allowed: empty tensors, through which the gradient is 0.

    Each chunk's logits are recomputed in the backward pass instead of being kept, but for the last chunk's: the backward
    pass begins with them, so keeping them takes no more memory than recomputing them.
    """
    if hidden_ND.ndim != 2 or labels_N.shape != hidden_ND.shape[:1]:
        raise ValueError(f"want [N, D], [N]; got {hidden_ND.shape}, {labels_N.shape}")
    logprobs, entropies = [], []
    # At least once: a micro-batch without a token that counts still needs a backward pass, e.g. to meet the other ranks.
    for start in range(0, max(1, len(labels_N)), CHUNK_TOKENS):
        rows = slice(start, start + CHUNK_TOKENS)
        inputs = (hidden_ND[rows], logits_of, labels_N[rows], temperature, entropy_gradient)
        is_last = start + CHUNK_TOKENS >= len(labels_N)
        logprob, entropy = _chunk_logprobs(*inputs) if is_last else checkpoint(_chunk_logprobs, *inputs, use_reentrant=False)
        logprobs.append(logprob)
        entropies.append(entropy)
    return torch.cat(logprobs), torch.cat(entropies)


def _chunk_logprobs(
    hidden_ND: torch.Tensor,
    logits_of: Callable[[torch.Tensor], torch.Tensor],
    labels_N: torch.Tensor,
    temperature: float,
    entropy_gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    logits_NV = logits_of(hidden_ND)
    outputs: tuple[torch.Tensor, torch.Tensor] = _LogprobAndEntropy.apply(  # type: ignore[no-untyped-call]
        logits_NV, labels_N, temperature, entropy_gradient
    )
    return outputs


class _LogprobAndEntropy(torch.autograd.Function):
    """log p_label and H = -sum_v p_v log p_v of p = softmax(z / T), with their gradients in closed form.

        d log p_label / d z_v = (1[v = label] - p_v) / T        d H / d z_v = -p_v (log p_v + H) / T

    autograd would get there in five passes over [N, V], one after another in tensors of their own; here there are two at a
    time. Measured: `docs/performance.md`.
    """

    @staticmethod
    def forward(
        ctx: Any, logits_NV: torch.Tensor, labels_N: torch.Tensor, temperature: float, entropy_gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logprobs_NV = torch.log_softmax(logits_NV if temperature == 1.0 else logits_NV / temperature, dim=-1)
        entropies_N = -logprobs_NV.exp().mul_(logprobs_NV).sum(-1)
        ctx.save_for_backward(logprobs_NV, labels_N, entropies_N)
        ctx.temperature, ctx.entropy_gradient = temperature, entropy_gradient
        if not entropy_gradient:
            ctx.mark_non_differentiable(entropies_N)
        return logprobs_NV.gather(1, labels_N[:, None]).squeeze(1), entropies_N

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        logprobs_NV, labels_N, entropies_N = ctx.saved_tensors
        of_logprobs_N1, of_entropies_N1 = (gradient[:, None] / ctx.temperature for gradient in gradients)
        gradient_NV = logprobs_NV.exp()
        if ctx.entropy_gradient:
            gradient_NV.mul_(-of_logprobs_N1 - of_entropies_N1 * (logprobs_NV + entropies_N[:, None]))
        else:
            gradient_NV.mul_(-of_logprobs_N1)
        return gradient_NV.scatter_add_(1, labels_N[:, None], of_logprobs_N1), None, None, None
