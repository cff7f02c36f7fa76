"""What depends on the model family: attention and output head. (The names of its weights: `r1.sync_tensors`.)

The learner and the engines ask here, so that they know no family by name. Whatever a family does after its last hidden
state (soft-cap, scale, bias) is read from its configuration and compared with the model's own logits when it is loaded:
a family that does something else is refused there, not trained wrongly.

Shapes: B rows, T columns, D hidden size, V vocabulary, N tokens that count in the loss.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from r1.algorithm.logprobs import token_logprobs
from r1.errors import UserError

_SOFT_CAPS = ("final_logit_softcapping", "logits_soft_cap")
"""Configuration fields c of logits -> c tanh(logits / c): Gemma 2 to 4, VaultGemma, NanoChat; RecurrentGemma."""
_SCALES = ("logit_scale", "lm_head_multiplier")
"""Fields that multiply the logits: Cohere 1 and 2; Falcon-H1."""
_DIVISORS = ("logits_scaling",)
"""Fields that divide them: Granite, MiniCPM3."""
_CAPPED_ATTENTION = ("eager", "flex_attention", "flash_attention")
"""The implementations in transformers that apply a soft-cap to attention scores."""


def load_model(path: str, *, dtype: torch.dtype = torch.float32, attn_implementation: str | None = None) -> Any:
    """A causal language model on the CPU, without dropout, its output head compared with its own logits.

    dtype: of the weights; float32 for the learner's master weights, the engine's for an engine.
    attn_implementation: transformers' name ("sdpa", "eager", "flash_attention_2", "flex_attention"); None chooses sdpa, or
        eager for a family that caps its attention scores (Gemma 2): transformers' sdpa leaves the cap out, silently.
    Raises `UserError` for a path without a causal language model, a family whose code is not part of transformers, an
    implementation that would leave something out, and an output head that is not understood.
    """
    try:
        attention = _attention(AutoConfig.from_pretrained(path, trust_remote_code=False), attn_implementation)
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, attn_implementation=attention, trust_remote_code=False, use_safetensors=True
        )
    except UserError:
        raise
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"option 'model.path': cannot load a causal language model from {path}: {reason}") from error
    _silence(model)
    _check_head(model)
    return model


def _silence(model: Any) -> None:
    """Switch off dropout and router jitter, in training mode too: the ratio to the sampling policy must be 1 at first.

    On the modules and not in the configuration, which an export writes down. GPT-2 comes with a dropout of 0.1.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if isinstance(value, float) and ("dropout" in name or "jitter" in name):
                setattr(module, name, 0.0)


def _attention(config: Any, wanted: str | None) -> str | None:
    """The attention implementation to load with; None leaves the choice to transformers."""
    if getattr(config.get_text_config(), "attn_logit_softcapping", None) is None:
        return wanted
    if wanted is not None and not wanted.startswith(_CAPPED_ATTENTION):
        raise UserError(
            f"attention implementation {wanted!r}: it leaves out the soft-cap on attention scores that {config.model_type} "
            f"has; choose one of {', '.join(_CAPPED_ATTENTION)}"
        )
    return wanted or "eager"


def label_logprobs(
    model: Any,
    token_ids_BT: torch.Tensor,
    labels_BT: torch.Tensor,
    loss_mask_BT: torch.Tensor,
    temperature: float,
    *,
    attention_mask_BT: torch.Tensor | None = None,
    position_ids_BT: torch.Tensor | None = None,
    entropy_gradient: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """log softmax(logits / temperature)[label] where the loss mask is True, and the entropy of each distribution.

    model: a causal language model, or one that peft has wrapped.
    token_ids_BT, labels_BT: int64; column t predicts labels_BT[:, t].
    loss_mask_BT: bool; N = loss_mask_BT.sum(), in row-major order.
    attention_mask_BT: bool, True for real tokens. Rows padded on the right need none: attention looks to the left only.
    position_ids_BT: int64, [B, T] for packed rows: it restarts at 0 with each sequence, and there attention is cut. Padding
        at the end of a packed row is sequences of its own (0 in each column will do). transformers reads the borders
        from the positions when it gets no attention mask and no cache; seen (tests) for Llama, Qwen2, Qwen3, Gemma 2 and 3,
        GPT-2, Mistral, GLM-4, Qwen2-MoE, Qwen3-MoE, DeepSeek-V3, Cohere, Granite and GPT-J, with sdpa and eager. Recurrent
        families (Mamba, Qwen3-Next, ...) read on across borders: `r1.attention.check_packing` tells.
    temperature, entropy_gradient, and what is recomputed in the backward pass: see `r1.algorithm.logprobs.token_logprobs`.
    Returns (logprobs_N, entropies_N), float32. Raises ValueError for shapes that do not fit.
    """
    inputs = (token_ids_BT, labels_BT, loss_mask_BT, attention_mask_BT, position_ids_BT)
    shapes = {tuple(tensor.shape) for tensor in inputs if tensor is not None}
    if len(shapes) != 1 or token_ids_BT.ndim != 2:
        raise ValueError(f"want one shape [B, T] for all inputs; got {shapes}")
    if attention_mask_BT is not None and position_ids_BT is not None:
        raise ValueError("an attention mask hides the borders of packed rows from transformers: give one of the two")
    model = _causal_lm(model)
    hidden_BTD = _hidden_states(model, token_ids_BT, attention_mask_BT, position_ids_BT)
    return token_logprobs(
        hidden_BTD[loss_mask_BT], logits_function(model), labels_BT[loss_mask_BT], temperature, entropy_gradient=entropy_gradient
    )


def logits_function(model: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """The family's own way from last hidden states [..., D] to logits [..., V], float32, at temperature 1.

    The head's matrix product runs in the compute type; scale and soft-cap follow in float32.
    """
    config = model.config.get_text_config()
    head = model.get_output_embeddings()
    soft_cap = next((cap for cap in (getattr(config, name, None) for name in _SOFT_CAPS) if cap), None)
    scale = 1.0
    for name in _SCALES:
        scale *= getattr(config, name, None) or 1.0
    for name in _DIVISORS:
        scale /= getattr(config, name, None) or 1.0

    def logits_of(hidden: torch.Tensor) -> torch.Tensor:
        # Through the module, not its weight: it may have a bias, an adapter, or hooks that gather a sharded weight.
        logits: torch.Tensor = head(hidden).float()
        if scale != 1.0:
            logits = logits * scale
        return logits if soft_cap is None else soft_cap * torch.tanh(logits / soft_cap)

    return logits_of


def _causal_lm(model: Any) -> Any:
    """The model inside peft's wrapper, whose own `base_model` is something else; the adapters stay in place."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _hidden_states(
    model: Any,
    token_ids_BT: torch.Tensor,
    attention_mask_BT: torch.Tensor | None = None,
    position_ids_BT: torch.Tensor | None = None,
) -> torch.Tensor:
    """Last hidden states [B, T, D]: without the head, which would hold logits for every position."""
    given: dict[str, torch.Tensor] = {}
    if attention_mask_BT is not None:
        given["attention_mask"] = attention_mask_BT.long()
    if position_ids_BT is not None:
        given["position_ids"] = position_ids_BT
    hidden: torch.Tensor = model.base_model(input_ids=token_ids_BT, use_cache=False, **given).last_hidden_state
    return hidden


def _check_head(model: Any) -> None:
    """Raise `UserError` unless `logits_function` gives the model's own logits."""
    name = model.config.model_type
    if model.get_output_embeddings() is None or model.base_model is model:
        raise UserError(f"option 'model.path': {name} has no output head or no base model that r1 can read; use another family")
    token_ids = _probe_tokens(model)
    with _probing(model):
        wanted = model(input_ids=token_ids, use_cache=False).logits
        logits = logits_function(model)(_hidden_states(model, token_ids))
    if logits.shape != wanted.shape or not _close(logits, wanted, 1e-3 if wanted.dtype == torch.float32 else 0.02):
        raise UserError(
            f"option 'model.path': {name} does something to its logits that r1 does not know, its log-probabilities would be "
            "wrong; use another family, or teach r1.policy_model.logits_function"
        )


def _probe_tokens(model: Any) -> torch.Tensor:
    """12 token ids, [1, 12], spread over the vocabulary."""
    token_ids = (torch.arange(12) * 7919 + 3) % int(model.config.get_text_config().vocab_size)
    return token_ids[None].to(next(model.parameters()).device)


@contextmanager
def _probing(model: Any) -> Iterator[None]:
    """No gradient, no dropout, and bf16 where the attention knows nothing wider; the mode is restored at the end."""
    was_training = model.training
    half = "flash" in (model.config._attn_implementation or "")
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(next(model.parameters()).device.type, torch.bfloat16, enabled=half):
            yield
    finally:
        model.train(was_training)


def _close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> bool:
    """Within `tolerance` of the largest value; not for NaN."""
    return bool((ours - theirs).abs().max() <= tolerance * theirs.abs().max())
