"""LoRA: the learner trains a small adapter beside each linear layer, and everybody else gets plain, merged weights.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685, section 4.1:

    y = W x + s B A x        W [out, in] frozen, A [rank, in] random at first, B [out, rank] zero: a start at the base model

What is fixed here, and why:
- s = alpha / rank with alpha = 2 x rank, so s = 2 whatever the rank: the paper scales by alpha / rank so that another rank
  needs no other learning rate, and with Adam another alpha is much the same as another learning rate. 2 is custom, no more.
- no dropout: the importance ratio to the policy that sampled must be 1 at first (`r1.policy_model` says so of all dropout).
- all linear layers but the output head: the paper adapted attention alone; Dettmers et al. 2023 (QLoRA, 2305.14314, section
  4) found that full training is only matched with adapters on every linear layer of the blocks. The head is often tied to
  the embedding, and the engine takes one weight for both.
- A and B are float32, like all master weights.

Linear layers are `nn.Linear` and GPT-2's `Conv1D`, whose weight is transposed. Experts that transformers keeps as one fused
parameter (Qwen3-MoE, DeepSeek-V3, ...) and routers are neither: they stay frozen.

peft is imported where it is used: 1.2 s on top of the 12.5 s that torch and transformers take.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

SCALE = 2.0
"""alpha / rank."""


def with_adapter(model: Any, rank: int) -> Any:
    """Put an adapter of this rank into each linear layer, in place, freeze all else, and return the model; nothing for rank 0.

    model: a causal language model, as `r1.policy_model.load_model` gives it and not sharded yet; its class, its configuration
        and its output head stay what they were. A is drawn from torch's global generator: seed all ranks alike.
    """
    if rank == 0:
        return model
    from peft import LoraConfig, inject_adapter_in_model

    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | Conv1D)}
    names = [name for name, module in linear.items() if module is not model.get_output_embeddings()]
    config = LoraConfig(
        r=rank,
        lora_alpha=int(SCALE * rank),
        lora_dropout=0.0,
        target_modules=[f"model.{name}" for name in names],
        fan_in_fan_out=any(isinstance(linear[name], Conv1D) for name in names),
    )
    # Inside a module without a `config`: peft takes names in a mixture of experts for those of transformers 4, and would
    # adapt DeepSeek-V3's fused experts in place of its dense and shared layers (seen in 0.21.2).
    inject_adapter_in_model(config, torch.nn.ModuleDict({"model": model}))
    return model


@contextmanager
def adapter_off(model: Any) -> Iterator[None]:
    """Within the block the model is the base model: exactly, and in the same memory."""
    layers = [module for module in model.modules() if hasattr(module, "lora_A")]
    # Not peft's `enable_adapters`: that flips requires_grad too, of whichever parameters FSDP has in place at the moment,
    # the sharded or the gathered ones.
    try:
        for layer in layers:
            layer._disable_adapters = True
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


@torch.no_grad()
def merged(model: Any, tensors: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """The (name, tensor)s of the model without adapter that computes the same: W + s B A in place of W, A and B.

    tensors: some of the model's state, gathered in full, a layer's weights together. They are never written to: merging in
        place and back would leave the base model off by its roundings, a little more with each sync.
    One merged weight is made at a time. A model without adapter goes through as it is.
    """
    for name, tensor in tensors.items():
        layer, _, rest = name.rpartition(".base_layer.")
        lora_a, lora_b = f"{layer}.lora_A.default.weight", f"{layer}.lora_B.default.weight"
        if lora_a not in tensors:
            if ".lora_A." not in name and ".lora_B." not in name:
                yield name, tensor
        elif rest != "weight":
            yield f"{layer}.{rest}", tensor
        elif model.get_submodule(layer).fan_in_fan_out:
            yield f"{layer}.weight", torch.addmm(tensor, tensors[lora_a].T, tensors[lora_b].T, alpha=SCALE)
        else:
            yield f"{layer}.weight", torch.addmm(tensor, tensors[lora_b], tensors[lora_a], alpha=SCALE)
