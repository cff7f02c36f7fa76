"""The checks at the door of the tensor functions: one shape [B, T], a bool mask, log-probabilities of full precision."""

import torch


def check_shapes(**tensors_BT: torch.Tensor) -> None:
    """Raise ValueError unless all tensors, given by name, are [B, T] of one shape."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors_BT.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 2 for shape in shapes.values()):
        raise ValueError(f"the tensors must have one shape [B, T], got {shapes}")


def check_mask(loss_mask_BT: torch.Tensor) -> None:
    """Raise ValueError unless the mask is a bool tensor [B, T]."""
    if loss_mask_BT.ndim != 2 or loss_mask_BT.dtype != torch.bool:
        raise ValueError(f"the mask must be bool [B, T], got {loss_mask_BT.dtype} {tuple(loss_mask_BT.shape)}")


def check_logprobs(**logprobs_BT: torch.Tensor) -> None:
    """Raise ValueError unless the log-probabilities are float32 (or float64).

    bfloat16 has 8 bits: at a log-probability of -10 its steps are 0.0625, and the ratio of two is off by 6 %.
    """
    for name, tensor in logprobs_BT.items():
        if tensor.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"{name} must be float32, got {tensor.dtype}; cast before the softmax, not after it")
