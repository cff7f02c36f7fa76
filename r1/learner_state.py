"""What a learner keeps on disk: everything to go on exactly, and the policy as Hugging Face files."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import AutoTokenizer

from r1.lora import merged
from r1.ranks import Ranks, whole


def full_state(module: nn.Module, ranks: Ranks) -> dict[str, torch.Tensor]:
    """Return every weight in full on the CPU, on the first rank; {} on the others, which must call it as well."""
    state = {}
    for name, tensor in module.state_dict().items():
        complete = whole(tensor)
        if ranks.is_first:
            state[name] = complete.detach().cpu()
    return state


def full_optimizer_state(optimizer: torch.optim.Optimizer, ranks: Ranks) -> dict[str, Any]:
    """Return the optimizer's state with its tensors in full, as `full_state` does."""
    state = optimizer.state_dict()
    tensors = {
        index: {name: whole(value).cpu() if isinstance(value, torch.Tensor) else value for name, value in of_one.items()}
        for index, of_one in state["state"].items()
    }
    return {"state": tensors, "param_groups": state["param_groups"]} if ranks.is_first else {}


def load_full_state(module: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Put full weights into a module, each rank its own part of them."""
    own = module.state_dict()
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(_like(state[name], tensor))


def load_full_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Put a full optimizer state back, each rank its own part of it."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    tensors = {
        index: {
            # Moments have their parameter's shape and are sharded like it; the step count is a number.
            name: _like(value, parameters[index]) if isinstance(value, torch.Tensor) and value.dim() else value
            for name, value in of_one.items()
        }
        for index, of_one in state["state"].items()
    }
    optimizer.load_state_dict({"state": tensors, "param_groups": state["param_groups"]})


def export(model: Any, weights: dict[str, torch.Tensor], dtype: torch.dtype, tokenizer_path: str, folder: Path) -> None:
    """Write weights in `dtype` with the model's configuration and tokenizer, as transformers and vLLM load them.

    weights: the model's state in full; an adapter goes out merged, so that no reader needs peft.
    """
    plain = merged(model, weights)
    in_dtype = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in plain}
    model.config.dtype = dtype
    model.save_pretrained(folder, state_dict=in_dtype)
    AutoTokenizer.from_pretrained(tokenizer_path).save_pretrained(folder)


def _like(full: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """A full tensor cut as `own` is."""
    if not isinstance(own, DTensor):
        return full.to(own.device)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(full.to(own.device), own.device_mesh, own.placements)
