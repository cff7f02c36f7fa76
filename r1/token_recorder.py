"""What the learner keeps of a step for the traces: old log-probabilities and entropies, token by token."""

from array import array
from collections.abc import Collection, Sequence

import torch

from r1.batching import MicroBatch, SampleKey
from r1.types import TokenValues


class TokenRecorder:
    """Holds the values of the last step's completions, those of this rank's rows."""

    def __init__(self, *, is_on: bool) -> None:
        """is_on: False keeps nothing, for traces without tokens."""
        self._is_on = is_on
        self._values: dict[SampleKey, TokenValues] = {}

    def clear(self) -> None:
        """Begin a step."""
        self._values.clear()

    def add(self, keys: Sequence[SampleKey], micro: MicroBatch, logprobs_BT: torch.Tensor, entropies_BT: torch.Tensor) -> None:
        """Keep the rows of a micro-batch: [B, T] each, read where the loss mask is True."""
        if not self._is_on:
            return
        # One copy from the device for all rows.
        mask_BT, logprobs_BT, entropies_BT = micro.loss_mask_BT.cpu(), logprobs_BT.detach().cpu(), entropies_BT.detach().cpu()
        for row, key in enumerate(keys):
            mask_T = mask_BT[row]
            self._values[key] = TokenValues(
                old_logprobs=_floats(logprobs_BT[row][mask_T]), entropies=_floats(entropies_BT[row][mask_T])
            )

    def values(self, group_ids: Collection[int]) -> dict[SampleKey, TokenValues]:
        """What is kept of the completions of some groups."""
        return {key: values for key, values in self._values.items() if key[0] in group_ids}


def _floats(values_L: torch.Tensor) -> "array[float]":
    return array("f", values_L.float().numpy().tobytes())
