"""Estimators of KL(policy || reference) from log-probabilities of sampled tokens."""

import torch


def k3(policy_logprobs_BT: torch.Tensor, ref_logprobs_BT: torch.Tensor) -> torch.Tensor:
    """Schulman's k3 (joschu.net/blog/kl-approx.html; GRPO's equation 4): exp(d) - d - 1 with d = ref - policy.

    Unbiased for the KL's value when the tokens come from the policy, never negative, of low variance.
    Shapes: [B, T] in, [B, T] out.
    """
    if policy_logprobs_BT.shape != ref_logprobs_BT.shape:
        raise ValueError(f"shapes differ: policy {policy_logprobs_BT.shape}, reference {ref_logprobs_BT.shape}")
    difference = ref_logprobs_BT - policy_logprobs_BT
    return torch.exp(difference) - difference - 1
