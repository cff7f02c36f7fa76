"""What the key-value cache of an engine takes."""

from typing import Any

from r1.rollout.engine import EngineOptions

DTYPE_BYTES = {"float32": 4, "bfloat16": 2}
CPU_LIMIT_BYTES = 4 * 2**30
"""Of a CPU engine's cache: beyond it sequences wait. Pages that no sequence has used take no memory."""


def kv_bytes_per_token(config: Any, dtype: str) -> int:
    """Keys and values of one token in all layers, in bytes.

    config: Hugging Face's text configuration. With multi-head latent attention (DeepSeek) a layer keeps one compressed vector
    and the rotary part of the key.
    """
    rank = getattr(config, "kv_lora_rank", None)
    if rank:
        per_layer = rank + config.qk_rope_head_dim
    else:
        num_heads = config.num_attention_heads
        num_kv_heads = getattr(config, "num_key_value_heads", None) or num_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // num_heads
        per_layer = 2 * num_kv_heads * head_dim
    return int(config.num_hidden_layers * per_layer * DTYPE_BYTES[dtype])


def cpu_cache_bytes(config: Any, options: EngineOptions, block_size: int) -> int:
    """The cache that a CPU engine reserves: room for max_num_seqs whole sequences, in blocks, up to CPU_LIMIT_BYTES."""
    longest = options.max_prompt_tokens + options.max_completion_tokens
    blocks_per_sequence = -(-longest // block_size) + 1
    one_sequence = blocks_per_sequence * block_size * kv_bytes_per_token(config, options.dtype)
    return max(2 * one_sequence, min(options.max_num_seqs * one_sequence, CPU_LIMIT_BYTES))
