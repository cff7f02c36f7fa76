"""The policy as Hugging Face files, which transformers and vLLM load."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer

from r1.lora import merged
from r1.ranks import Ranks, whole


def full_state(module: nn.Module, ranks: Ranks) -> dict[str, torch.Tensor]:
    """Return a copy of every weight in full on the CPU, on the first rank; {} on the others, which must call it as well."""
    copies: dict[int, torch.Tensor] = {}
    names: dict[str, int] = {}  # a tied weight stays one under its two names
    for name, tensor in module.state_dict(keep_vars=True).items():
        names[name] = id(tensor)
        if id(tensor) not in copies:
            complete = whole(tensor.detach())
            copies[id(tensor)] = complete.to("cpu", copy=True) if ranks.is_first else torch.empty(0)
    return {name: copies[key] for name, key in names.items()} if ranks.is_first else {}


def export(model: Any, weights: Mapping[str, torch.Tensor], dtype: torch.dtype, tokenizer_path: str, folder: Path) -> None:
    """Write weights in `dtype` with the model's configuration and tokenizer.

    weights: the model's state in full; an adapter goes out merged, so that no reader needs peft.
    """
    plain = merged(model, weights)
    in_dtype = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in plain}
    _make_valid(model.generation_config)
    model.save_pretrained(folder, state_dict=in_dtype)
    # transformers has noted the live model's type, not that of the weights in the file.
    config = deepcopy(model.config)
    config.dtype = dtype
    config.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_path, trust_remote_code=False).save_pretrained(folder)


def _make_valid(generation_config: Any) -> None:
    """Some published models say "do not sample" and a temperature: they load, but transformers refuses to save them."""
    try:
        generation_config.validate(strict=True)
    except ValueError:
        generation_config.do_sample = True  # as the policy was trained
