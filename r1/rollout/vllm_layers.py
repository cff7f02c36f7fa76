"""What vLLM's layers are made of, seen from the published weights."""

from functools import lru_cache
from typing import Any

import torch
from vllm.model_executor.layers.fused_moe.experts.cpu_moe import CPUUnquantizedExperts
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding


@lru_cache(maxsize=1)
def named_modules(model: torch.nn.Module) -> tuple[tuple[str, Any], ...]:
    """`model.named_modules()`, kept: a sync walks through them seven times, at 2 ms for 30 layers."""
    return tuple(model.named_modules())


@lru_cache(maxsize=1)
def parts_by_layer(model: torch.nn.Module) -> list[tuple[str, Any, list[str]]]:
    """(name, layer, the published weights it is made of): "...qkv_proj" of q, k and v; a tied head of the embedding."""
    tied = {name: embedding for name, _, embedding in tied_output_heads(model)}
    fused = getattr(model, "packed_modules_mapping", {})
    found = []
    for name, layer in named_modules(model):
        if getattr(layer, "weight", None) is None:
            continue
        parent, dot, own = name.rpartition(".")
        parts = [tied[name]] if name in tied else [f"{parent}{dot}{part}" for part in fused.get(own, [own])]
        found.append((name, layer, [f"{part}.weight" for part in parts]))
    return found


def tied_output_heads(model: torch.nn.Module) -> list[tuple[str, ParallelLMHead, str]]:
    """(name, module, embedding's name) of the output heads with a packed copy whose weight belongs to an embedding."""
    embeddings = [(name, module) for name, module in named_modules(model) if isinstance(module, VocabParallelEmbedding)]
    shared = {id(module.weight): name for name, module in embeddings if not isinstance(module, ParallelLMHead)}
    return [
        (name, module, shared[id(module.weight)])
        for name, module in embeddings
        if isinstance(module, ParallelLMHead) and hasattr(module, "cpu_linear") and id(module.weight) in shared
    ]


def is_only_packed(layer: Any) -> bool:
    """Whether nobody reads the layer's weight but its kernel, from a packed copy; embeddings are looked up in the weight."""
    is_looked_up = isinstance(layer, VocabParallelEmbedding) and not isinstance(layer, ParallelLMHead)
    return hasattr(layer, "cpu_linear") and not is_looked_up


def packed_experts(model: torch.nn.Module) -> list[tuple[str, Any, CPUUnquantizedExperts]]:
    """(name, layer, kernel) of the layers that hold experts in a CPU's packing."""
    kernels = [
        (name, layer, getattr(getattr(getattr(layer, "quant_method", None), "moe_kernel", None), "fused_experts", None))
        for name, layer in named_modules(model)
    ]
    return [(name, layer, kernel) for name, layer, kernel in kernels if isinstance(kernel, CPUUnquantizedExperts)]


def turned(model: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """GPT-2's files hold its matrices transposed, and vLLM turns them when it loads; from here to there and back alike."""
    for transpose in _transposers(model):
        tensors = dict(transpose(tensors.items()))
    return tensors


def is_turned(model: torch.nn.Module) -> bool:
    return bool(_transposers(model))


@lru_cache(maxsize=1)
def _transposers(model: torch.nn.Module) -> tuple[Any, ...]:
    return tuple(module._transpose_conv1d for _, module in named_modules(model) if hasattr(module, "_transpose_conv1d"))
