"""Policy losses: pure functions from log-probabilities and advantages to a loss per token.

All tensors are [B, T] (B rows, T token positions), each row holds one completion. What stands where `loss_mask_BT` is
False is never read: it is replaced before any exp, since exp of padding overflows and then poisons the gradient with NaN
even when it is multiplied by 0.

In the formulas rho = exp(policy - old) is the token's importance ratio, A its advantage, sg stops the gradient. The
aggregation (r1/algorithm/aggregation.py) turns the loss per token into the objective; the KL to the reference policy, the
entropy bonus and the correction of the rollout's mismatch are further terms and factors, and no part of these functions.

Metrics of all losses, per token and without gradient: `ratio` and `ratio_max` (reported as the maximum), and `approx_kl` =
exp(policy - old) - (policy - old) - 1, which is Schulman's k3 for KL(old || policy), the tokens being sampled from old.
Where a loss clips, `clip_low_share` and `clip_high_share` count the tokens whose gradient or weight the bound changed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from r1.algorithm.shapes import check_logprobs, check_mask, check_shapes


@dataclass(frozen=True, kw_only=True, slots=True)
class LossInputs:
    """What a loss may look at."""

    policy_logprobs_BT: torch.Tensor
    """float32: learner now, with gradient."""
    old_logprobs_BT: torch.Tensor
    """float32: learner before the first update of this step."""
    advantages_BT: torch.Tensor
    """The completion's advantage, repeated over its tokens."""
    loss_mask_BT: torch.Tensor
    """bool: True for the tokens that count."""

    def __post_init__(self) -> None:
        check_shapes(**{name: getattr(self, name) for name in LossInputs.__slots__})
        check_mask(self.loss_mask_BT)
        check_logprobs(policy_logprobs_BT=self.policy_logprobs_BT, old_logprobs_BT=self.old_logprobs_BT)


@dataclass(frozen=True, kw_only=True, slots=True)
class LossOutput:
    """A loss before aggregation, and what to report of it."""

    loss_BT: torch.Tensor
    """0 where the mask is False."""
    metrics_BT: Mapping[str, torch.Tensor]
    """Name -> value per token without gradient, 0 where the mask is False; reported as the mean over the tokens that
    count, or as their maximum when the name ends in _max."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LossOptions:
    """How far the ratio may move before a loss clips it."""

    clip_low: float
    """The lower bound of the ratio is 1 - clip_low."""
    clip_high: float
    """The upper bound of the ratio is 1 + clip_high."""

    def __post_init__(self) -> None:
        if self.clip_low < 0 or self.clip_high < 0:
            raise ValueError(f"clip_low and clip_high must not be negative, got {self.clip_low} and {self.clip_high}")


Loss = Callable[[LossInputs, LossOptions], LossOutput]

DUAL_CLIP = 3.0
"""c of `dual_clip`: the paper's."""


def clip(inputs: LossInputs, options: LossOptions) -> LossOutput:
    """PPO's clipped objective (arXiv:1707.06347 equation 7) as GRPO uses it (arXiv:2402.03300 equation 3).

    J    = min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A)
    loss = -J

    Unequal bounds are DAPO's clip-higher (arXiv:2503.14476 equation 10). The loss of a token with A < 0 is unbounded as rho
    grows: see `dual_clip`.
    [B, T] in, [B, T] out. Leaves out: PPO's value function and GAE.
    With one update per step old equals policy, so rho is 1 and the loss's value is minus the mean advantage,
    about 0 by construction; its gradient is not 0.
    """
    mask, log_ratio, advantages = inputs.loss_mask_BT, _log_ratio(inputs), _advantages(inputs)
    ratio = torch.exp(log_ratio)
    objective = _clipped_objective(ratio, advantages, options)
    return _output(mask, -objective, log_ratio, _clip_shares(ratio, advantages, options))


def dual_clip(inputs: LossInputs, options: LossOptions) -> LossOutput:
    """Dual-clip PPO (Ye et al. 2020, arXiv:1912.09729 equation 5): `clip` with a bound where A < 0, c = DUAL_CLIP.

    J    = min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A)
    loss = -max(J, c A) for A < 0, else -J

    So the loss of a token with A < 0 is at most c |A|, and its gradient is 0 beyond rho = c.
    [B, T] in, [B, T] out; the metric dual_clip_share counts those tokens. Leaves out: what `clip` does.
    """
    mask, log_ratio, advantages = inputs.loss_mask_BT, _log_ratio(inputs), _advantages(inputs)
    ratio = torch.exp(log_ratio)
    objective = _clipped_objective(ratio, advantages, options)
    objective = torch.where(advantages < 0, torch.maximum(objective, DUAL_CLIP * advantages), objective)
    is_bound = (ratio > DUAL_CLIP) & (advantages < 0)
    return _output(mask, -objective, log_ratio, {**_clip_shares(ratio, advantages, options), "dual_clip_share": is_bound})


def gspo(inputs: LossInputs, options: LossOptions) -> LossOutput:
    """GSPO (arXiv:2507.18071) equations 5 and 7: one ratio per completion, clipped as one.

    s_i  = exp(1/|y_i| sum_t (policy - old))   = (pi(y_i) / pi_old(y_i))^(1 / |y_i|)
    loss = -min(s_i A_i, clip(s_i, 1 - clip_low, 1 + clip_high) A_i), the same for all tokens of completion i

    With the aggregation `sequence_mean` this is the paper's objective, 1/G sum_i of the loss of completion i. The gradient
    flows through s_i, as in equation 10: ds_i = s_i 1/|y_i| sum_t d policy, so each token of a completion gets the same.
    [B, T] in, [B, T] out; a row is a completion, |y_i| its tokens that count, and A must be constant along it.
    Metrics: the ratio is s_i, and clipping takes or leaves a whole completion; the mean over tokens weighs long ones more.
    approx_kl stays per token. The bounds are of another size than for `clip`: the paper's are 3e-4 and 4e-4.
    Leaves out: GSPO-token (equation 13), which is for advantages that differ between tokens.
    """
    mask, log_ratio, advantages = inputs.loss_mask_BT, _log_ratio(inputs), _advantages(inputs)
    lengths_B1 = mask.sum(-1, keepdim=True).clamp(min=1)
    ratio = torch.exp(log_ratio.sum(-1, keepdim=True) / lengths_B1).expand_as(log_ratio)
    objective = _clipped_objective(ratio, advantages, options)
    return _output(mask, -objective, log_ratio, _clip_shares(ratio, advantages, options), ratio)


def cispo(inputs: LossInputs, options: LossOptions) -> LossOutput:
    """CISPO, MiniMax-M1 (arXiv:2506.13585) equations 4 and 5, without a lower bound.

    loss = -sg(min(rho, 1 + clip_high)) A policy

    The weight is clipped, not the update: every token keeps a gradient, sg(...) A times that of its log-probability.
    clip_low is not read: the formula has a lower bound 1 - eps_low, but the paper's runs set it so low that it never acts,
    and tune eps_high alone.
    [B, T] in, [B, T] out. The loss's value holds the log-probability itself, so it says little; watch the metrics.
    Metrics: no clip_low_share; clip_high_share counts all tokens above the bound, of either sign of A.
    Leaves out: the token mask of the paper's unified formulation (equations 6 and 7).
    """
    mask, log_ratio, advantages = inputs.loss_mask_BT, _log_ratio(inputs), _advantages(inputs)
    ratio = torch.exp(log_ratio.detach())
    weight = torch.clamp(ratio, max=1 + options.clip_high)
    loss = -weight * advantages * inputs.policy_logprobs_BT
    return _output(mask, loss, log_ratio, {"clip_high_share": ratio > 1 + options.clip_high})


def reinforce(inputs: LossInputs, options: LossOptions) -> LossOutput:
    """REINFORCE (Williams 1992, Machine Learning 8, 229-256): loss = -A policy, whose gradient is -A d log pi.

    [B, T] in, [B, T] out. clip_low and clip_high are not read, and there are no clip shares.
    Leaves out: any importance ratio, so only the first update of a step is unbiased.
    """
    loss = -_advantages(inputs) * inputs.policy_logprobs_BT
    return _output(inputs.loss_mask_BT, loss, _log_ratio(inputs), {})


def _log_ratio(inputs: LossInputs) -> torch.Tensor:
    return torch.where(inputs.loss_mask_BT, inputs.policy_logprobs_BT - inputs.old_logprobs_BT, 0.0)


def _advantages(inputs: LossInputs) -> torch.Tensor:
    # Masked as well: a NaN here would reach the gradient of a whole row through the ratio that gspo shares along it.
    return torch.where(inputs.loss_mask_BT, inputs.advantages_BT, 0.0)


def _clipped_objective(ratio_BT: torch.Tensor, advantages_BT: torch.Tensor, options: LossOptions) -> torch.Tensor:
    clipped_BT = torch.clamp(ratio_BT, 1 - options.clip_low, 1 + options.clip_high)
    return torch.minimum(ratio_BT * advantages_BT, clipped_BT * advantages_BT)


def _clip_shares(ratio_BT: torch.Tensor, advantages_BT: torch.Tensor, options: LossOptions) -> dict[str, torch.Tensor]:
    """Where the clipped branch is the smaller one: only there does the bound stop the gradient."""
    return {
        "clip_low_share": (ratio_BT < 1 - options.clip_low) & (advantages_BT < 0),
        "clip_high_share": (ratio_BT > 1 + options.clip_high) & (advantages_BT > 0),
    }


def _output(
    mask_BT: torch.Tensor,
    loss_BT: torch.Tensor,
    log_ratio_BT: torch.Tensor,
    shares_BT: Mapping[str, torch.Tensor],
    ratio_BT: torch.Tensor | None = None,
) -> LossOutput:
    with torch.no_grad():
        token_ratio = torch.exp(log_ratio_BT)
        ratio = token_ratio if ratio_BT is None else ratio_BT
        metrics = {**shares_BT, "ratio": ratio, "ratio_max": ratio, "approx_kl": token_ratio - log_ratio_BT - 1}
        metrics = {name: torch.where(mask_BT, value.to(log_ratio_BT.dtype), 0.0) for name, value in metrics.items()}
    return LossOutput(loss_BT=torch.where(mask_BT, loss_BT, 0.0), metrics_BT=metrics)
