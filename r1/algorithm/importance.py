"""Rollout-learner correction: weights for tokens that the engine sampled with other probabilities than the learner has.

The engine's policy mu and the learner's pi_old hold the same weights, yet their probabilities differ (other kernels, lower
precision), so training is off-policy without saying so. With k_t = exp(old - rollout) = pi_old / mu, a correction gives each
token a weight without gradient, by which the policy loss is multiplied before aggregation; the KL and entropy terms are not.
Aggregation still divides by the counts of all tokens: a token of weight 0 adds nothing, and is not counted away.

Shapes: old_logprobs_BT, rollout_logprobs_BT float32 [B, T], loss_mask_BT bool [B, T], a row is one completion; weights
[B, T], 0 where the mask is False. cap >= 1 is the bound on a ratio.
All leave out the ratio of policy and old: it is the loss's.
"""

from collections.abc import Callable

import torch

from r1.algorithm.shapes import check_logprobs, check_mask, check_shapes

Correction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]
"""(old_logprobs_BT, rollout_logprobs_BT, loss_mask_BT, cap) -> weights_BT without gradient."""


@torch.no_grad()
def none(
    old_logprobs_BT: torch.Tensor, rollout_logprobs_BT: torch.Tensor, loss_mask_BT: torch.Tensor, cap: float
) -> torch.Tensor:
    """No correction: w = 1. cap is not read."""
    return torch.ones_like(_log_ratio(old_logprobs_BT, rollout_logprobs_BT, loss_mask_BT)) * loss_mask_BT


@torch.no_grad()
def token_truncate(
    old_logprobs_BT: torch.Tensor, rollout_logprobs_BT: torch.Tensor, loss_mask_BT: torch.Tensor, cap: float
) -> torch.Tensor:
    """Truncated importance sampling, TIS (Yao et al. 2025, fengyao.notion.site/off-policy-rl): w_t = min(k_t, cap).

    Biased, since a token's context was sampled by mu as well; of low variance. Leaves out: that context.
    """
    _check_cap(cap)
    log_ratio = _log_ratio(old_logprobs_BT, rollout_logprobs_BT, loss_mask_BT)
    return torch.exp(log_ratio).clamp(max=cap) * loss_mask_BT


@torch.no_grad()
def sequence_truncate(
    old_logprobs_BT: torch.Tensor, rollout_logprobs_BT: torch.Tensor, loss_mask_BT: torch.Tensor, cap: float
) -> torch.Tensor:
    """Seq-TIS (Liu, Li et al. 2025, "When Speed Kills Stability", richardli.xyz/rl-collapse): w_t = min(prod_t k_t, cap).

    prod_t k_t = exp(sum_t (old - rollout)) is the ratio of the whole completion: unbiased without the cap, but its spread
    grows with the length.
    """
    _check_cap(cap)
    log_ratio = _log_ratio(old_logprobs_BT, rollout_logprobs_BT, loss_mask_BT)
    return torch.exp(log_ratio.sum(-1, keepdim=True)).clamp(max=cap) * loss_mask_BT


@torch.no_grad()
def token_mask(
    old_logprobs_BT: torch.Tensor, rollout_logprobs_BT: torch.Tensor, loss_mask_BT: torch.Tensor, cap: float
) -> torch.Tensor:
    """IcePop (Zhao et al. 2025, ringtech.notion.site/icepop): w_t = k_t where 1/cap <= k_t <= cap, else 0.

    A token on which engine and learner disagree that much is left out instead of being kept at the cap. Inside the band the
    weight is the ratio, as in IcePop and in masked importance sampling elsewhere, not 1.
    Leaves out: bounds of their own on either side; IcePop names them alpha and beta.
    """
    _check_cap(cap)
    ratio = torch.exp(_log_ratio(old_logprobs_BT, rollout_logprobs_BT, loss_mask_BT))
    return torch.where((ratio >= 1 / cap) & (ratio <= cap) & loss_mask_BT, ratio, 0.0)


@torch.no_grad()
def sequence_mask(
    old_logprobs_BT: torch.Tensor, rollout_logprobs_BT: torch.Tensor, loss_mask_BT: torch.Tensor, cap: float
) -> torch.Tensor:
    """Geometric sequence masking (Li, Liu 2025, richardli.xyz/post/rl-collapse-part3): w_t = 1 where 1/cap <= g <= cap, else 0.

    g = (prod_t k_t)^(1/T) = exp(mean_t (old - rollout)) is the completion's mean ratio: unlike the product it does not
    reject long completions for their length. Inside the band the weight is 1, as this decides who is in and corrects nothing.
    The mean hardly leaves 1, so a useful cap is much nearer to 1 than for the others: 1.01 is a mean difference of 0.01.
    """
    _check_cap(cap)
    log_ratio = _log_ratio(old_logprobs_BT, rollout_logprobs_BT, loss_mask_BT)
    mean_ratio_B1 = torch.exp(log_ratio.sum(-1, keepdim=True) / loss_mask_BT.sum(-1, keepdim=True).clamp(min=1))
    inside = (mean_ratio_B1 >= 1 / cap) & (mean_ratio_B1 <= cap) & loss_mask_BT
    return inside.to(log_ratio.dtype)


@torch.no_grad()
def mismatch_metrics(
    old_logprobs_BT: torch.Tensor, rollout_logprobs_BT: torch.Tensor, loss_mask_BT: torch.Tensor
) -> dict[str, torch.Tensor]:
    """How far engine and learner are apart, per token, 0 where the mask is False; d = old - rollout.

    mismatch = |d|, mismatch_max the same to be reported as the maximum, mismatch_kl = exp(d) - d - 1: Schulman's k3 for
    KL(rollout || old), the tokens being sampled from the rollout's policy.
    """
    difference = _log_ratio(old_logprobs_BT, rollout_logprobs_BT, loss_mask_BT)
    size = difference.abs()
    return {"mismatch": size, "mismatch_max": size, "mismatch_kl": torch.exp(difference) - difference - 1}


@torch.no_grad()
def weight_metrics(weights_BT: torch.Tensor, loss_mask_BT: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a correction's weights look like, per token: the weight, its square, and whether it is 0; 0 where the mask is False.

    weights_BT: [B, T] as the correction returned them. The means of the first two over the batch's tokens give the
    effective samples, see `effective_share`.
    """
    check_shapes(weights_BT=weights_BT, loss_mask_BT=loss_mask_BT)
    check_mask(loss_mask_BT)
    return {
        "correction_weight": weights_BT,
        "correction_weight_square": weights_BT**2,
        "correction_zero_share": ((weights_BT == 0) & loss_mask_BT).to(weights_BT.dtype),
    }


def effective_share(mean_weight: float, mean_square_weight: float) -> float:
    """Kish's effective sample size as a share of the tokens: (sum w)^2 / (N sum w^2) = mean(w)^2 / mean(w^2).

    1 when all weights are equal, 1/N when a single token has all the weight, 0.0 when all weights are 0.

    >>> effective_share(mean_weight=0.5, mean_square_weight=0.5)  # half of the weights 1, half 0
    0.5
    """
    return mean_weight**2 / mean_square_weight if mean_square_weight > 0 else 0.0


def _check_cap(cap: float) -> None:
    # Not "cap < 1": a NaN must fail as well.
    if not cap >= 1:
        raise ValueError(f"the cap of an importance weight must be at least 1, got {cap}")


def _log_ratio(old_BT: torch.Tensor, rollout_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    check_shapes(old_logprobs_BT=old_BT, rollout_logprobs_BT=rollout_BT, loss_mask_BT=mask_BT)
    check_mask(mask_BT)
    check_logprobs(old_logprobs_BT=old_BT, rollout_logprobs_BT=rollout_BT)
    return torch.where(mask_BT, old_BT - rollout_BT, 0.0)
