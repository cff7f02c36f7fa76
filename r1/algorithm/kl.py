"""Estimators of KL(policy || reference) from log-probabilities of sampled tokens, to be added to the loss.

[B, T] in, [B, T] out, 0 where the mask is False (no mask: every token counts; then padding must hold finite numbers).
Values and names are Schulman's (joschu.net/blog/kl-approx.html, with r = p / q, q the policy and p the reference):
expectations are over tokens sampled from the policy. In a loss the gradient counts, not the value, and an unbiased value
does not have the gradient of the KL: arXiv:2510.01555 compares them. d log pi is the gradient of `policy`, and a token's
distribution is meant, given the tokens before it: none of them credits a token for the KL of later ones.
All leave out the importance ratio that tokens sampled from an older policy would need.
"""

from typing import Protocol

import torch

from r1.algorithm.shapes import check_logprobs, check_mask, check_shapes


class KlEstimator(Protocol):
    """(policy, reference, mask) -> KL per token, with the gradient of `policy`."""

    def __call__(
        self, policy_logprobs_BT: torch.Tensor, ref_logprobs_BT: torch.Tensor, loss_mask_BT: torch.Tensor | None = None, /
    ) -> torch.Tensor: ...


def k1(policy_logprobs_BT: torch.Tensor, ref_logprobs_BT: torch.Tensor, loss_mask_BT: torch.Tensor | None = None) -> torch.Tensor:
    """Schulman's k1 = -log r = policy - ref.

    Value: unbiased, of either sign, of high variance.
    Gradient in the loss: d log pi, whatever the reference is; its expectation is 0. It holds the policy nowhere and adds
    noise, so as a loss it is here for comparison; PPO puts k1 into the reward.
    """
    return -_log_ratio(policy_logprobs_BT, ref_logprobs_BT, loss_mask_BT)


def k2(policy_logprobs_BT: torch.Tensor, ref_logprobs_BT: torch.Tensor, loss_mask_BT: torch.Tensor | None = None) -> torch.Tensor:
    """Schulman's k2 = (log r)^2 / 2 = (policy - ref)^2 / 2.

    Value: biased, never negative, of low variance.
    Gradient in the loss: (policy - ref) d log pi; on policy its expectation is the gradient of KL(policy || reference), the
    same as that of k1 in the reward (arXiv:2510.01555).
    """
    return _log_ratio(policy_logprobs_BT, ref_logprobs_BT, loss_mask_BT) ** 2 / 2


def k3(policy_logprobs_BT: torch.Tensor, ref_logprobs_BT: torch.Tensor, loss_mask_BT: torch.Tensor | None = None) -> torch.Tensor:
    """Schulman's k3 = r - 1 - log r = exp(ref - policy) - (ref - policy) - 1; GRPO's (arXiv:2402.03300 equation 4).

    Value: unbiased, never negative, of low variance.
    Gradient in the loss: (1 - exp(ref - policy)) d log pi, to first order that of k2 (arXiv:2510.01555); on policy its
    expectation is the gradient of KL(reference || policy), the other direction.
    """
    log_ratio_BT = _log_ratio(policy_logprobs_BT, ref_logprobs_BT, loss_mask_BT)
    return torch.exp(log_ratio_BT) - log_ratio_BT - 1


def _log_ratio(policy_BT: torch.Tensor, ref_BT: torch.Tensor, mask_BT: torch.Tensor | None) -> torch.Tensor:
    """log r = ref - policy, checked, and 0 where the mask is False, where each estimator is 0 as well."""
    check_shapes(policy_logprobs_BT=policy_BT, ref_logprobs_BT=ref_BT)
    check_logprobs(policy_logprobs_BT=policy_BT, ref_logprobs_BT=ref_BT)
    log_ratio_BT = ref_BT - policy_BT
    if mask_BT is None:
        return log_ratio_BT
    check_shapes(policy_logprobs_BT=policy_BT, loss_mask_BT=mask_BT)
    check_mask(mask_BT)
    return torch.where(mask_BT, log_ratio_BT, 0.0)
