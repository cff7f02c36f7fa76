from dataclasses import replace
from types import SimpleNamespace

from tiny import engine_options

from r1.rollout.kv_cache import CPU_LIMIT_BYTES, cpu_cache_bytes, kv_bytes_per_token

SMALL = SimpleNamespace(num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=32, hidden_size=128)


def test_a_token_takes_keys_and_values_in_each_layer():
    assert kv_bytes_per_token(SMALL, "float32") == 3 * 2 * 2 * 32 * 4
    assert kv_bytes_per_token(SMALL, "bfloat16") == 3 * 2 * 2 * 32 * 2
    # GPT-2's way of saying it: as many key heads as heads, their size from the hidden size.
    assert kv_bytes_per_token(SimpleNamespace(num_hidden_layers=1, num_attention_heads=4, hidden_size=128), "float32") == 2 * 128 * 4
    # DeepSeek: one compressed vector of 512 and 64 rotary dimensions.
    latent = SimpleNamespace(num_hidden_layers=2, num_attention_heads=16, kv_lora_rank=512, qk_rope_head_dim=64)
    assert kv_bytes_per_token(latent, "bfloat16") == 2 * (512 + 64) * 2


def test_a_cpu_engine_reserves_room_for_all_its_sequences_up_to_a_limit():
    options = replace(engine_options(), max_num_seqs=8)  # 64 + 32 tokens: 3 blocks of 32, and one more
    assert cpu_cache_bytes(SMALL, options, 32) == 8 * 4 * 32 * kv_bytes_per_token(SMALL, "float32")
    long = replace(options, max_completion_tokens=100_000)
    assert cpu_cache_bytes(SMALL, long, 32) <= CPU_LIMIT_BYTES
    # One sequence must always fit, and another beside it.
    longest = replace(options, max_completion_tokens=2_000_000)
    assert cpu_cache_bytes(SMALL, longest, 32) > CPU_LIMIT_BYTES
