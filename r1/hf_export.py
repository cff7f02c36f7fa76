"""The policy as Hugging Face files, which transformers and vLLM load."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer

from r1.ranks import Ranks, whole


def full_state(module: nn.Module, ranks: Ranks, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return a copy of every weight in full on the CPU, floating-point ones in `dtype`, on the first rank.

    {} on the others, which must call it as well.
    """
    copies: dict[int, torch.Tensor] = {}
    names: dict[str, int] = {}  # a tied weight stays one under its two names
    for name, tensor in module.state_dict(keep_vars=True).items():
        names[name] = id(tensor)
        if id(tensor) in copies:
            continue
        complete = whole(tensor.detach())
        wanted = dtype if complete.is_floating_point() else complete.dtype
        copies[id(tensor)] = complete.to("cpu", wanted, copy=True) if ranks.is_first else torch.empty(0)
    return {name: copies[key] for name, key in names.items()} if ranks.is_first else {}


def export(model: Any, weights: Mapping[str, torch.Tensor], tokenizer_path: str, folder: Path) -> None:
    """Write weights with the model's configuration and tokenizer."""
    model.config.dtype = next(tensor.dtype for tensor in weights.values() if tensor.is_floating_point())
    model.save_pretrained(folder, state_dict=dict(weights))
    AutoTokenizer.from_pretrained(tokenizer_path).save_pretrained(folder)
