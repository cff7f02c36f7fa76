"""Which attention the learner computes with, and whether its rows are packed: decided once, when the learner is built.

Packed: the real tokens of a micro-batch stand in one row, positions restart at each sequence, and no arithmetic is spent on
padding. That pays only where a kernel skips what lies between two sequences. SDPA has none: it would materialise a mask
over the square of all tokens, so without the two kernels below rows stay padded (on the right, at most a tenth of the cells).
"""

import logging
from typing import Any

import torch
from transformers.utils import is_flash_attn_2_available, is_torch_flex_attn_available

from r1.errors import UserError
from r1.policy_model import check_packing


def packed_attention(device: str, dtype: torch.dtype, *, has_flash: bool, has_flex: bool) -> str | None:
    """Return transformers' name of the attention for packed rows; None: padded rows and the model's own attention.

    device: "cuda" or "cpu". dtype: what the learner computes with; flash attention knows no float32.

    >>> packed_attention("cuda", torch.float32, has_flash=True, has_flex=True)
    'flex_attention'
    """
    if device != "cuda":
        return None
    if has_flash and dtype == torch.bfloat16:
        return "flash_attention_2"
    return "flex_attention" if has_flex else None


def switch_to_packed_rows(model: Any, dtype: torch.dtype) -> bool:
    """Give the model, on its device, the attention for packed rows where there is one; return whether rows are to be packed.

    A model that refuses keeps its attention and padded rows, and the log says why: its family may not know the kernel
    (ValueError), mix the sequences of a row (`check_packing`), or have a head size that the kernel cannot be built for
    (RuntimeError).
    """
    name = packed_attention(
        model.device.type, dtype, has_flash=is_flash_attn_2_available(), has_flex=is_torch_flex_attn_available()
    )
    if name is None:
        return False
    before = model.config._attn_implementation
    try:
        model.set_attn_implementation(name)
        # Some families only warn, and keep what they have.
        if model.config._attn_implementation != name:
            raise UserError(f"{model.config.model_type} cannot change its attention")
        check_packing(model)
    except (UserError, ValueError, ImportError, RuntimeError) as error:
        model.set_attn_implementation(before)
        reason = str(error).strip().splitlines()[0]
        logging.getLogger(__name__).warning("learner: padded rows with %s, not %s: %s", before, name, reason)
        return False
    return True
