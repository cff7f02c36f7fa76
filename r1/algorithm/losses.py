"""Policy losses: pure functions from log-probabilities and advantages to a loss per token.

All tensors are [B, T] (B rows, T token positions). What stands where `loss_mask_BT` is False is never read:
it is replaced before any exp, since exp of padding overflows and then poisons the gradient with NaN even
when it is multiplied by 0.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class LossInputs:
    """What a loss may look at."""

    policy_logprobs_BT: torch.Tensor
    """Learner now, with gradient."""
    old_logprobs_BT: torch.Tensor
    """Learner before the first update of this step."""
    advantages_BT: torch.Tensor
    """The completion's advantage, repeated over its tokens."""
    loss_mask_BT: torch.Tensor
    """bool: True for the tokens that count."""

    def __post_init__(self) -> None:
        shapes = {tuple(getattr(self, name).shape) for name in LossInputs.__slots__}
        if len(shapes) != 1:
            raise ValueError(f"all inputs of a loss must have one shape [B, T], got {sorted(shapes)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class LossOutput:
    """A loss before aggregation, and what to report of it."""

    loss_BT: torch.Tensor
    """0 where the mask is False."""
    metrics_BT: Mapping[str, torch.Tensor]
    """Name -> value per token without gradient; reported as the mean over the tokens that count."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LossOptions:
    clip_low: float
    clip_high: float


Loss = Callable[[LossInputs, LossOptions], LossOutput]


def clip(inputs: LossInputs, options: LossOptions) -> LossOutput:
    """PPO's clipped objective (arXiv:1707.06347 equation 7) as GRPO uses it (arXiv:2402.03300 equation 3).

    rho = exp(policy - old);  loss = -min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A)

    Unequal bounds are DAPO's clip-higher (arXiv:2503.14476 section 3.1). Leaves out: dual clip.
    With one update per step old equals policy, so rho is 1 and the loss's value is minus the mean advantage,
    about 0 by construction; its gradient is not 0.
    """
    mask, advantages = inputs.loss_mask_BT, inputs.advantages_BT
    log_ratio = torch.where(mask, inputs.policy_logprobs_BT - inputs.old_logprobs_BT, 0.0)
    ratio = torch.exp(log_ratio)
    clipped = torch.clamp(ratio, 1 - options.clip_low, 1 + options.clip_high)
    loss = -torch.minimum(ratio * advantages, clipped * advantages)
    with torch.no_grad():
        metrics = {
            "clip_low_share": ((ratio < 1 - options.clip_low) & (advantages < 0)).float(),
            "clip_high_share": ((ratio > 1 + options.clip_high) & (advantages > 0)).float(),
            "ratio": ratio.detach(),
        }
    return LossOutput(loss_BT=torch.where(mask, loss, 0.0), metrics_BT=metrics)
