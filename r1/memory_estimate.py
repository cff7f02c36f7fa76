"""How much memory a run takes on each device: estimates from the model's config.json, no weight is loaded or made.

What is counted is what `r1/learner.py`, `r1/ranks.py`, `r1/algorithm/logprobs.py` and `r1/rollout/vllm_engine.py` hold, by
formulas for dense decoders (Llama, Qwen). Left out: the frameworks themselves (about 1 GiB of a GPU for CUDA and NCCL, 1 to
2 GiB of a process), what allocators keep of freed memory, and copies for checkpoints and exports, which are in CPU memory,
where each rank also reads the whole model at its start. A mixture's activations count the experts that a token visits, without
the router's bookkeeping.

Measured once, SmolLM2-135M, float32, one micro-batch of 16 x 256 tokens, the second update of a learner on a CPU, peak of the
process above what it held before the learner was made:

    gradient checkpointing    estimated 2.82 GiB, measured 3.04 (the estimate is 7 % too low)
    without                   estimated 7.74 GiB, measured 7.50 (3 % too high)
"""

from dataclasses import dataclass
from typing import Any

from r1.algorithm.logprobs import CHUNK_TOKENS
from r1.config import RunConfig
from r1.errors import UserError
from r1.rollout.engine import MIN_BATCHED_TOKENS

GIB = 2**30
FLOAT32 = 4
BYTES = {"float32": 4, "bfloat16": 2}
LOGITS_COPIES = 4
"""Of a chunk's logits alive at once: themselves, their log-softmax, its exponential, and the product for the entropy."""
GATHERED_BLOCKS = 2
"""FSDP2 gathers the next block while one computes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelShape:
    """What the estimates need to know of a model.

    >>> ModelShape(
    ...     num_parameters=1_000, trained_parameters=1_000, outer_parameters=400, num_layers=3, hidden_size=8,
    ...     intermediate_size=16, num_heads=2, num_kv_heads=1, head_dim=4, vocab_size=50,
    ... ).block_parameters
    200
    """

    num_parameters: int
    trained_parameters: int
    """Those of the adapter with LoRA, else all."""
    outer_parameters: int
    """Of embeddings and output head, counted once where they are tied."""
    num_layers: int
    hidden_size: int
    intermediate_size: int
    """Of the experts that one token visits, in a mixture."""
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    latent_size: int = 0
    """Numbers a token and layer keep in a cache of latents (DeepSeek's attention) in place of keys and values; else 0."""

    @property
    def block_parameters(self) -> int:
        """Of one layer."""
        return (self.num_parameters - self.outer_parameters) // self.num_layers


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerMemory:
    """Bytes of one learner rank."""

    weights: float
    """float32 master weights, a rank's share; those of the adapter included."""
    moments: float
    """AdamW's two, float32."""
    gradients: float
    reference: float
    """Of a KL term that needs a model of its own; with several ranks its embeddings and head stay gathered."""
    gathered: float
    """With several ranks: the whole embeddings and head with their gradients, and the blocks that FSDP2 has gathered."""
    casts: float
    """bfloat16 copies of weights: autocast makes and keeps them."""
    activations: float
    """Of one micro-batch of its full size."""
    logits: float
    """Of one chunk of tokens."""

    @property
    def kept(self) -> float:
        """What stays while engines sample."""
        return self.weights + self.moments + self.reference

    @property
    def peak(self) -> float:
        """In an update. Casts are gone when the backward pass makes its gradients of the gathered blocks; the sum is safe."""
        return self.kept + self.gradients + self.gathered + self.casts + self.activations + self.logits


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineMemory:
    """Bytes of one engine on one of its devices."""

    weights: float
    working: float
    """Activations and logits of the largest forward pass, which vLLM takes off its share before it makes the cache."""
    cache_per_token: float
    cache_per_completion: float
    """Of the longest prompt with the longest completion."""
    cache_wanted: float
    """For max_num_seqs of these at once, or a step's share of them where that is less; with less, some wait."""


def model_shape(path: str, lora_rank: int) -> ModelShape:
    """Count a model's parameters on torch's meta device, where tensors have shapes and no memory."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from r1.lora import with_adapter

    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
            num_parameters = sum(parameter.numel() for parameter in model.parameters())
            outer = {id(part.weight): part.weight for part in (model.get_input_embeddings(), model.get_output_embeddings())}
            with_adapter(model, lora_rank)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"option 'model.path': {path!r} is no causal language model that transformers knows ({reason}); choose another"
        ) from error
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return _shape(config.get_text_config(), num_parameters, trained, sum(weight.numel() for weight in outer.values()))


def _shape(config: Any, num_parameters: int, trained: int, outer: int) -> ModelShape:
    heads = config.num_attention_heads
    experts = getattr(config, "num_experts_per_tok", None)
    width = getattr(config, "moe_intermediate_size", None) if experts else None
    return ModelShape(
        num_parameters=num_parameters,
        trained_parameters=trained,
        outer_parameters=outer,
        num_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        intermediate_size=experts * width if experts and width else _intermediate_size(config),
        num_heads=heads,
        num_kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        vocab_size=config.vocab_size,
        latent_size=config.kv_lora_rank + config.qk_rope_head_dim if getattr(config, "kv_lora_rank", None) else 0,
    )


def _intermediate_size(config: Any) -> int:
    # GPT-2 and GPT-J: `n_inner`, unset for the usual four times the hidden size.
    size = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    return int(size or 4 * config.hidden_size)


def learner_memory(shape: ModelShape, config: RunConfig) -> LearnerMemory:
    """Estimate one rank's memory: 16 bytes a parameter over the ranks, and what an update needs beside them."""
    learner, algorithm, num_ranks = config.learner, config.algorithm, config.learner.num_ranks
    trained = shape.trained_parameters
    adapter = trained if learner.lora_rank else 0
    has_reference = algorithm.kl_coef > 0 and (algorithm.reference_every > 0 or not learner.lora_rank)
    num_all = shape.num_parameters + adapter
    reference = FLOAT32 * num_all / num_ranks if has_reference else 0.0
    gathered = 0.0
    if num_ranks > 1:
        # FSDP2 gathers the outermost group for the forward pass and gives it back in the backward one, which a reference has not.
        reference += FLOAT32 * shape.outer_parameters if has_reference else 0.0
        # The outermost group stays gathered from forward to backward; embeddings that are trained have a gradient there.
        outer_copies = 1 if learner.lora_rank else 2
        gathered = FLOAT32 * (outer_copies * shape.outer_parameters + (GATHERED_BLOCKS + 1) * shape.block_parameters)
    return LearnerMemory(
        weights=FLOAT32 * num_all / num_ranks,
        moments=2 * FLOAT32 * trained / num_ranks,
        gradients=FLOAT32 * trained / num_ranks,
        reference=reference,
        gathered=gathered,
        casts=_casts(shape, config),
        activations=_activations(shape, config),
        logits=LOGITS_COPIES * FLOAT32 * min(CHUNK_TOKENS, microbatch_tokens(config)) * shape.vocab_size,
    )


def _casts(shape: ModelShape, config: RunConfig) -> float:
    learner = config.learner
    if config.dtype == "float32":
        return 0.0
    if not learner.gradient_checkpointing:  # the backward pass needs them all, those of frozen weights too
        return BYTES[config.dtype] * (shape.num_parameters + shape.trained_parameters * (learner.lora_rank > 0))
    if learner.num_ranks == 1:  # autocast's cache keeps those of trained weights until the forward pass has ended
        return BYTES[config.dtype] * shape.trained_parameters
    return BYTES[config.dtype] * (shape.outer_parameters + shape.block_parameters)


def microbatch_tokens(config: RunConfig) -> int:
    """The most cells of one forward pass: the budget, or the longest row where that is longer, for it stands alone.

    The last token of a row is only ever predicted.
    """
    rollout = config.rollout
    return max(config.learner.max_tokens_per_microbatch, rollout.max_prompt_tokens + rollout.max_completion_tokens - 1)


def _activations(shape: ModelShape, config: RunConfig) -> float:
    """What a forward pass keeps for the backward one; attention's kernels keep no square of the tokens.

    Per token and layer, from transformers' Llama: two norms keep their input, its normed and its weighed form (6 D); attention
    its queries, keys, values, output and what goes into the output projection; the MLP four tensors of its width (gate, its
    activation, up, their product). Autocast leaves norms and the residual stream in float32, and casts the input of each of
    five projections on its own. With gradient checkpointing a layer keeps its input alone, and one at a time has all.
    """
    tokens, size = microbatch_tokens(config), BYTES[config.dtype]
    heads, shared = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    inner = size * (3 * heads + 2 * shared + 4 * shape.intermediate_size)
    if size == FLOAT32:
        layer = FLOAT32 * 6 * shape.hidden_size + inner
    else:
        layer = (FLOAT32 * 4 + size * 5) * shape.hidden_size + inner
    if config.learner.gradient_checkpointing:
        return tokens * (shape.num_layers * FLOAT32 * shape.hidden_size + layer)
    return tokens * shape.num_layers * layer


def engine_memory(shape: ModelShape, config: RunConfig) -> EngineMemory:
    """Estimate what an engine keeps on each of its devices; on a GPU it takes its whole share and fills it with cache."""
    rollout = config.rollout
    size, devices = BYTES[config.dtype], rollout.tensor_parallel_size
    if shape.latent_size:  # each device has all of it
        numbers = shape.latent_size
    else:  # keys and values; fewer heads than devices are copied
        numbers = 2 * max(1, shape.num_kv_heads // devices) * shape.head_dim
    per_token = float(shape.num_layers * numbers * size)
    per_completion = per_token * (rollout.max_prompt_tokens + rollout.max_completion_tokens)
    share = -(-rollout.num_prompts * rollout.group_size // rollout.num_workers)
    # Chunked prefill is off: a pass has up to max(longest sequence, MIN_BATCHED_TOKENS) tokens. Of the MLP the fused gate and up
    # and their product are alive at once, beside the residual stream and what goes into the layer; logits are float32, twice.
    batched = max(rollout.max_prompt_tokens + rollout.max_completion_tokens, MIN_BATCHED_TOKENS)
    working = size * batched * (3 * shape.intermediate_size / devices + 4 * shape.hidden_size)
    working += 2 * FLOAT32 * min(rollout.max_num_seqs, batched) * shape.vocab_size
    return EngineMemory(
        working=working,
        weights=size * shape.num_parameters / devices,
        cache_per_token=per_token,
        cache_per_completion=per_completion,
        cache_wanted=per_completion * min(rollout.max_num_seqs, share),
    )
