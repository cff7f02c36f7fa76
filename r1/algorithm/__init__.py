"""The algorithm's parts by name. A new one is one function and one line here."""

from collections.abc import Mapping

from r1.algorithm import advantages, aggregation, importance, kl, losses

ADVANTAGES: Mapping[str, advantages.Advantage] = {
    "grpo": advantages.grpo,
    "dr_grpo": advantages.dr_grpo,
    "rloo": advantages.rloo,
    "reinforce_pp_baseline": advantages.reinforce_pp_baseline,
    "none": advantages.none,
}
LOSSES: Mapping[str, losses.Loss] = {
    "clip": losses.clip,
    "dual_clip": losses.dual_clip,
    "gspo": losses.gspo,
    "cispo": losses.cispo,
    "reinforce": losses.reinforce,
}
AGGREGATIONS: Mapping[str, aggregation.TokenWeights] = {
    "sequence_mean": aggregation.sequence_mean,
    "token_mean": aggregation.token_mean,
    "constant": aggregation.constant,
}
KL_ESTIMATORS: Mapping[str, kl.KlEstimator] = {
    "k1": kl.k1,
    "k2": kl.k2,
    "k3": kl.k3,
}
CORRECTIONS: Mapping[str, importance.Correction] = {
    "none": importance.none,
    "token_truncate": importance.token_truncate,
    "sequence_truncate": importance.sequence_truncate,
    "token_mask": importance.token_mask,
    "sequence_mask": importance.sequence_mask,
}
