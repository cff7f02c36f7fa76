"""The loss of one micro-batch: the policy loss with its correction, the KL to the reference policy, the entropy bonus."""

from dataclasses import dataclass

import torch

from r1.algorithm import AGGREGATIONS, CORRECTIONS, KL_ESTIMATORS, LOSSES
from r1.algorithm.aggregation import BatchCounts
from r1.algorithm.importance import mismatch_metrics, weight_metrics
from r1.algorithm.losses import LossInputs, LossOptions
from r1.batching import MicroBatch
from r1.config import AlgorithmConfig

DEFAULT_CAP = 2.0
"""Of a correction that names none: the one of Yao et al. 2025."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatchLoss:
    """A part of the loss, and what to report of it."""

    loss: torch.Tensor
    """Scalar: the parts of all micro-batches and ranks add up to the loss of the optimizer batch."""
    sums: dict[str, float]
    """Name -> sum over the tokens that count."""
    maxima: dict[str, float]


def named_correction(option: str) -> tuple[str, float]:
    """Return the name and the cap of NAME:CAP.

    >>> named_correction("token_mask:1.5"), named_correction("token_truncate")
    (('token_mask', 1.5), ('token_truncate', 2.0))
    """
    name, _, cap = option.partition(":")
    return name, float(cap) if cap else DEFAULT_CAP


def microbatch_loss(
    algorithm: AlgorithmConfig,
    micro: MicroBatch,
    counts: BatchCounts,
    *,
    policy_BT: torch.Tensor,
    own_BT: torch.Tensor,
    entropy_BT: torch.Tensor,
    ref_BT: torch.Tensor | None,
    is_ratio_to_rollout: bool = False,
) -> MicroBatchLoss:
    """Combine the parts as `algorithm` says. All tensors [B, T], log-probabilities and entropies float32.

        loss = sum_BT aggregation_BT * (correction_BT * policy_loss_BT + kl_coef * kl_BT - entropy_coef * entropy_BT)

    own_BT: the learner's log-probabilities before the step. The ratio is taken to them, or to the engine's where
        `is_ratio_to_rollout`; the mismatch is always that of these two.
    ref_BT: log-probabilities of the reference policy; None without a KL term.
    """
    mask = micro.loss_mask_BT
    old_BT = micro.rollout_logprobs_BT if is_ratio_to_rollout else own_BT
    inputs = LossInputs(
        policy_logprobs_BT=policy_BT, old_logprobs_BT=old_BT, advantages_BT=micro.advantages_BT, loss_mask_BT=mask
    )
    options = LossOptions(clip_low=algorithm.clip_low, clip_high=algorithm.clip_high)
    output = LOSSES[algorithm.loss](inputs, options)
    correction, cap = named_correction(algorithm.correction)
    correction_BT = CORRECTIONS[correction](old_BT, micro.rollout_logprobs_BT, mask, cap)
    loss_BT = correction_BT * output.loss_BT
    mismatch = mismatch_metrics(own_BT, micro.rollout_logprobs_BT, mask)
    metrics_BT = {
        **output.metrics_BT,
        **mismatch,
        "fresh_mismatch": mismatch["mismatch"] * micro.fresh_BT,
        "fresh_share": micro.fresh_BT.to(mismatch["mismatch"].dtype),
        "entropy": entropy_BT.detach(),
    }
    if correction != "none":
        metrics_BT |= weight_metrics(correction_BT, mask)
    if ref_BT is not None:
        kl_BT = KL_ESTIMATORS[algorithm.kl_estimator](policy_BT, ref_BT, mask)
        loss_BT = loss_BT + algorithm.kl_coef * kl_BT
        metrics_BT["kl"] = kl_BT.detach()
    if algorithm.entropy_coef > 0:
        loss_BT = loss_BT - algorithm.entropy_coef * entropy_BT
    weights_BT = AGGREGATIONS[algorithm.aggregation](mask, counts)
    return MicroBatchLoss(
        loss=(weights_BT * loss_BT).sum(),
        sums={name: value[mask].sum().item() for name, value in metrics_BT.items() if not name.endswith("_max")},
        maxima={name: value.max().item() for name, value in metrics_BT.items() if name.endswith("_max")},
    )
