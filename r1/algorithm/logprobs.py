"""Token log-probabilities from hidden states, without ever holding the logits of a whole micro-batch."""

import torch
from torch.utils.checkpoint import checkpoint

CHUNK_TOKENS = 1024
"""Rows of logits alive at a time: 1024 x 49,152 x 4 bytes = 200 MB for SmolLM2, 600 MB for a 150k vocabulary."""


def token_logprobs(
    hidden_ND: torch.Tensor, head_weight_VD: torch.Tensor, labels_N: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """log softmax(h W^T / temperature)[label] for N tokens; also the entropy of each distribution.

    hidden_ND: last hidden states of the positions that predict the labels, [N, D].
    head_weight_VD: output embedding, [V, D].
    labels_N: token ids, [N] int64.
    temperature: the sampling temperature; the engine samples from softmax(logits / T), so its log-probabilities
        and ours agree only if the same T divides here.
    Returns (logprobs_N, entropies_N), float32; entropies carry no gradient.

    Each chunk's logits are recomputed in the backward pass instead of being kept.
    """
    if hidden_ND.ndim != 2 or labels_N.shape != hidden_ND.shape[:1] or head_weight_VD.shape[1] != hidden_ND.shape[1]:
        raise ValueError(f"want [N, D], [V, D], [N]; got {hidden_ND.shape}, {head_weight_VD.shape}, {labels_N.shape}")
    logprobs, entropies = [], []
    for start in range(0, len(labels_N), CHUNK_TOKENS):
        rows = slice(start, start + CHUNK_TOKENS)
        logprob, entropy = checkpoint(
            _chunk_logprobs, hidden_ND[rows], head_weight_VD, labels_N[rows], temperature, use_reentrant=False
        )
        logprobs.append(logprob)
        entropies.append(entropy)
    return torch.cat(logprobs), torch.cat(entropies)


def _chunk_logprobs(
    hidden_ND: torch.Tensor, head_weight_VD: torch.Tensor, labels_N: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    logits_NV = (hidden_ND @ head_weight_VD.T).float() / temperature
    logprobs_NV = torch.log_softmax(logits_NV, dim=-1)
    with torch.no_grad():
        entropies_N = -(logprobs_NV.exp() * logprobs_NV).sum(-1)
    return logprobs_NV.gather(1, labels_N[:, None]).squeeze(1), entropies_N
