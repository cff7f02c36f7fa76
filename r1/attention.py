"""Which attention the learner computes with, and whether its rows are packed: decided once, when the learner is built.

Packed: the real tokens of a micro-batch stand in one row, positions restart at each sequence, and no arithmetic is spent on
padding. That pays only where a kernel skips what lies between two sequences. SDPA has none: it would materialise a mask
over the square of all tokens, so without the two kernels below rows stay padded (on the right, at most a tenth of the cells).
"""

import logging

import torch
from transformers.utils import is_flash_attn_2_available, is_torch_flex_attn_available

from r1.batching import MicroBatch
from r1.errors import UserError
from r1.policy import Policy


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


def switch_to_packed_rows(policy: Policy, device: str, dtype: torch.dtype) -> None:
    """Give the policy, on its device, the attention for packed rows where there is one, and have it pack its rows.

    All ranks that share the policy call it together. A model that refuses keeps its attention and padded rows, and the log
    says why: its family may not know the kernel (ValueError), mix the sequences of a row (`check_packing`), or have a head
    size that the kernel cannot be built for (RuntimeError).
    """
    name = packed_attention(device, dtype, has_flash=is_flash_attn_2_available(), has_flex=is_torch_flex_attn_available())
    if name is None:
        return
    model = policy.model
    before = model.config._attn_implementation
    try:
        model.set_attn_implementation(name)
        # Some families only warn, and keep what they have.
        if model.config._attn_implementation != name:
            raise UserError(f"{model.config.model_type} cannot change its attention")
        check_packing(policy, dtype)
        policy.is_packed = True
    except (UserError, ValueError, ImportError, RuntimeError) as error:
        policy.is_packed = False
        model.set_attn_implementation(before)
        reason = str(error).strip().splitlines()[0]
        logging.getLogger(__name__).warning("learner: padded rows with %s, not %s: %s", before, name, reason)


@torch.no_grad()
def check_packing(policy: Policy, dtype: torch.dtype) -> None:
    """Raise `UserError` unless packed rows give the log-probabilities that padded ones give: 5 tokens and 7, in `dtype`."""
    config, device = policy.model.config.get_text_config(), policy.model.device
    token_ids_BT = ((torch.arange(16).view(2, 8) * 7919 + 3) % config.vocab_size).to(device)
    real_BT = torch.arange(7, device=device) < torch.tensor([[5], [7]], device=device)
    zeros_BT = torch.zeros(real_BT.shape, device=device)
    micro = MicroBatch(
        token_ids_BT=token_ids_BT[:, :-1],
        labels_BT=token_ids_BT[:, 1:],
        attention_mask_BT=real_BT,
        loss_mask_BT=real_BT,
        rollout_logprobs_BT=zeros_BT,
        advantages_BT=zeros_BT,
        fresh_BT=real_BT,
    )
    rows = {}
    for policy.is_packed in (False, True):
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            rows[policy.is_packed], _ = policy(micro, 1.0, False)
    difference = (rows[True] - rows[False]).abs().max().item()
    # Rounding stays below; another sequence's tokens do not. Not "difference > ...": a NaN must fail as well.
    if not difference <= (1e-3 if dtype == torch.float32 else 0.1):
        raise UserError(
            f"packed rows: {config.model_type} with {policy.model.config._attn_implementation} attention mixes the sequences of "
            f"a row (log-probabilities differ by {difference:.1e}); train it on padded rows"
        )
