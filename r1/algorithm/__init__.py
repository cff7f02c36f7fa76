"""The algorithm's parts by name. A new one is one function and one line here."""

from collections.abc import Callable, Mapping, Sequence

import torch

from r1.algorithm import advantages, aggregation, kl, losses

ADVANTAGES: Mapping[str, Callable[[Sequence[Sequence[float | None]]], list[list[float]]]] = {
    "grpo": advantages.grpo,
}
LOSSES: Mapping[str, losses.Loss] = {
    "clip": losses.clip,
}
AGGREGATIONS: Mapping[str, aggregation.TokenWeights] = {
    "sequence_mean": aggregation.sequence_mean,
    "token_mean": aggregation.token_mean,
    "constant": aggregation.constant,
}
KL_ESTIMATORS: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "k3": kl.k3,
}
