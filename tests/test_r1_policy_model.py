"""Each family's log-probabilities against its own full logits, its packed rows, and the names of its weights.

`make_family` builds tiny random models; `test_model_families.py` runs the same ones through real engines.
"""

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tiny import MODEL
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1.algorithm.logprobs import CHUNK_TOKENS
from r1.errors import UserError
from r1.policy_model import label_logprobs, load_model
from r1.sync_tensors import sync_tensors

COMMON = {
    "vocab_size": 54,  # the shipped tokenizer's
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,  # vLLM's CPU attention wants 32 or more
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
    "tie_word_embeddings": False,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True}
# Caps and windows small enough to matter: a family that ignored them would be off by whole units.
GEMMA = {"tie_word_embeddings": True, "final_logit_softcapping": 2.0, "sliding_window": 8, "query_pre_attn_scalar": 32}
FAMILIES = {
    "llama": ("LlamaConfig", {}),
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {}),
    "gemma2": ("Gemma2Config", {**GEMMA, "attn_logit_softcapping": 1.0}),
    "gemma3": ("Gemma3TextConfig", GEMMA),
    "gpt2": (
        "GPT2Config",
        {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 256, "n_inner": 96, "tie_word_embeddings": True},
    ),
    "mistral": ("MistralConfig", {"sliding_window": 8}),
    "glm4": ("Glm4Config", {}),
    "qwen2_moe": ("Qwen2MoeConfig", {**EXPERTS, "shared_expert_intermediate_size": 32}),
    "qwen3_moe": ("Qwen3MoeConfig", EXPERTS),
    "deepseek_v3": (
        "DeepseekV3Config",
        {
            **{name: EXPERTS[name] for name in ("num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob")},
            **{"n_routed_experts": 4, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "num_key_value_heads": 2},
            # Not options of transformers 5, but real files have them, and vLLM routes otherwise without them.
            **{"topk_method": "noaux_tc", "scoring_func": "sigmoid"},
            **{
                "q_lora_rank": 32,
                "kv_lora_rank": 512,
                "qk_nope_head_dim": 32,
                "qk_rope_head_dim": 64,
                "head_dim": 64,
                "v_head_dim": 32,
            },
        },
    ),
    "cohere": ("CohereConfig", {"logit_scale": 0.25, "tie_word_embeddings": True}),
    "granite": ("GraniteConfig", {"logits_scaling": 4.0}),
    "gptj": ("GPTJConfig", {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 256, "n_inner": 96, "rotary_dim": 16}),
}


def make_family(name, folder):
    """Write a random model of a family, with the shipped tokenizer, and return its path."""
    config_class, options = FAMILIES[name]
    common = {} if name.startswith("gpt") else COMMON
    kept = {key: COMMON[key] for key in ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id")}
    config = getattr(transformers, config_class)(**{**kept, **common, **options})
    generator = torch.Generator().manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    # Biases, norms and routing biases too: a fresh model has 0 or 1 there, and a lost one would not show.
    for tensor in {id(t): t for t in model.state_dict(keep_vars=True).values()}.values():
        tensor.data.add_(torch.randn(tensor.shape, generator=generator) * 0.15)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(MODEL).save_pretrained(folder)
    return str(folder)


# Four that differ most are checked each time: plain, soft-capped, transposed with biases, latent attention with experts.
OFTEN = ("llama", "gemma3", "gpt2", "deepseek_v3")
ALL = [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]


@pytest.fixture(scope="module", params=ALL)
def model(request, tmp_path_factory):
    """In training mode, as the learner holds it: dropout must be off all the same."""
    return load_model(make_family(request.param, tmp_path_factory.mktemp("family") / request.param)).train()


LENGTHS = (12, 7, 1, 20)


def sequences(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(2, 54, (length + 1,), generator=generator) for length in LENGTHS]


def expected(model, temperature):
    """(log-probabilities, entropies) from the model's own logits, a row at a time, in float64."""
    logprobs, entropies = [], []
    for tokens in sequences():
        distribution = torch.log_softmax(model(tokens[None, :-1]).logits[0].double() / temperature, -1)
        logprobs.append(distribution.gather(1, tokens[1:, None])[:, 0])
        entropies.append(-(distribution.exp() * distribution).sum(-1))
    return torch.cat(logprobs).float(), torch.cat(entropies).float()


def padded():
    width = max(LENGTHS)
    rows = [torch.nn.functional.pad(tokens, (0, width + 1 - len(tokens))) for tokens in sequences()]
    mask = torch.tensor([[column < length for column in range(width)] for length in LENGTHS])
    return torch.stack([row[:-1] for row in rows]), torch.stack([row[1:] for row in rows]), mask


def packed(num_padding=3):
    token_ids = torch.cat([tokens[:-1] for tokens in sequences()] + [torch.zeros(num_padding, dtype=torch.int64)])
    labels = torch.cat([tokens[1:] for tokens in sequences()] + [torch.zeros(num_padding, dtype=torch.int64)])
    positions = torch.cat([torch.arange(length) for length in LENGTHS] + [torch.zeros(num_padding, dtype=torch.int64)])
    mask = torch.arange(len(token_ids)) < sum(LENGTHS)
    return token_ids[None], labels[None], mask[None], positions[None]


@torch.no_grad()
def test_padded_and_packed_rows_have_the_models_own_log_probabilities(model):
    token_ids, labels, mask = padded()
    packed_ids, packed_labels, packed_mask, positions = packed()
    for temperature in (1.0, 0.7):
        wanted = expected(model, temperature)
        assert wanted[0].std() > 0.1  # far from uniform, or nothing would be compared
        for ours in (
            label_logprobs(model, token_ids, labels, mask, temperature, attention_mask_BT=mask),
            label_logprobs(model, token_ids, labels, mask, temperature),  # padding on the right needs no mask
            label_logprobs(model, packed_ids, packed_labels, packed_mask, temperature, position_ids_BT=positions),
        ):
            assert (ours[0] - wanted[0]).abs().max() < 2e-5
            assert (ours[1] - wanted[1]).abs().max() < 2e-5


def test_without_restarting_positions_packed_rows_are_mixed(model):
    # What the test above would not notice if attention never left a sequence.
    token_ids, labels, mask, _ = packed()
    logprobs, _ = label_logprobs(model, token_ids, labels, mask, 1.0)
    assert (logprobs - expected(model, 1.0)[0]).abs().mean() > 1e-2


def test_the_gradient_is_plain_autograds(model):
    token_ids, labels, mask, positions = packed()
    generator = torch.Generator().manual_seed(1)
    weights_N, entropy_weights_N = torch.randn(2, sum(LENGTHS), generator=generator)
    gradients = []
    for logprobs_N, entropies_N in (
        label_logprobs(model, token_ids, labels, mask, 0.7, position_ids_BT=positions, entropy_gradient=True),
        expected(model, 0.7),
    ):
        model.zero_grad()
        (weights_N @ logprobs_N + entropy_weights_N @ entropies_N).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    ours, wanted = gradients
    assert ours.keys() == wanted.keys()
    size = torch.stack([gradient.norm() for gradient in wanted.values()]).norm()
    for name, gradient in wanted.items():
        assert (ours[name] - gradient).norm() < 1e-4 * size, name


def test_published_names_are_those_of_the_saved_files(model, tmp_path):
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    published = dict(sync_tensors(model))
    assert published.keys() == saved.keys()
    assert all(torch.equal(published[name], tensor) for name, tensor in saved.items())
    assert not any(tensor.requires_grad for tensor in published.values())
    assert list(published) == list(dict(sync_tensors(model, whole=torch.clone)))


def test_bf16_compute_beside_float32_masters(model):
    token_ids, labels, mask, positions = packed()
    with torch.autocast("cpu", torch.bfloat16):
        logprobs, _ = label_logprobs(model, token_ids, labels, mask, 1.0, position_ids_BT=positions)
    assert logprobs.dtype == torch.float32
    logprobs.sum().backward()
    # Rounding, and a token that another expert gets: a mean, not a maximum.
    assert (logprobs - expected(model, 1.0)[0]).abs().mean() < 0.1
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    model.zero_grad()


def test_no_token_that_counts_still_has_a_gradient(model):
    model.zero_grad()  # the fixture is shared
    token_ids, labels, mask, positions = packed()
    logprobs, entropies = label_logprobs(model, token_ids, labels, mask & False, 1.0, position_ids_BT=positions)
    assert logprobs.shape == entropies.shape == (0,)
    logprobs.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_dropout_is_off_in_training_mode_but_stays_in_the_configuration(tmp_path):
    model = load_model(make_family("gpt2", tmp_path)).train()
    assert model.config.resid_pdrop == 0.1
    row = sequences()[0][None]
    assert torch.equal(model(row).logits, model(row).logits)
    noisy = AutoModelForCausalLM.from_pretrained(tmp_path).train()
    assert not torch.equal(noisy(row).logits, noisy(row).logits)


@torch.no_grad()
def test_more_tokens_than_a_chunk(tmp_path):
    model = load_model(make_family("gemma3", tmp_path)).eval()
    tokens = torch.randint(2, 54, (9, 251), generator=torch.Generator().manual_seed(0))
    assert tokens[:, 1:].numel() > 2 * CHUNK_TOKENS
    logprobs, _ = label_logprobs(model, tokens[:, :-1], tokens[:, 1:], torch.ones(9, 250, dtype=torch.bool), 1.0)
    wanted = torch.log_softmax(model(tokens[:, :-1]).logits, -1).gather(2, tokens[:, 1:, None]).flatten()
    assert (logprobs - wanted).abs().max() < 2e-5


@torch.no_grad()
def test_gemma_2s_attention_cap_is_lost_with_sdpa_and_never_chosen(tmp_path):
    path = make_family("gemma2", tmp_path)
    assert load_model(path).config._attn_implementation == "eager"
    with pytest.raises(UserError, match="'sdpa': it leaves out the soft-cap on attention scores that gemma2 has; choose one of"):
        load_model(path, attn_implementation="sdpa")
    row = sequences()[0][None]
    silent = AutoModelForCausalLM.from_pretrained(path, attn_implementation="sdpa")(row).logits
    # Why: transformers computes something else there, and says nothing.
    assert (silent - load_model(path)(row).logits).abs().max() > 0.01


def test_a_head_that_is_not_understood_is_refused(tmp_path, monkeypatch):
    path = make_family("gemma3", tmp_path)
    load_model(path)
    monkeypatch.setattr("r1.policy_model._SOFT_CAPS", ())
    with pytest.raises(UserError, match="'model.path': gemma3_text does something to its logits that r1 does not know"):
        load_model(path)


def test_a_path_without_a_causal_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="option 'model.path': cannot load a causal language model from"):
        load_model(str(tmp_path / "nothing"))


def test_shapes_and_masks_are_checked_at_the_door():
    model, ids = load_model(str(MODEL)), torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="one shape"):
        label_logprobs(model, ids, ids[:, :2], ids.bool(), 1.0)
    with pytest.raises(ValueError, match="give one of the two"):
        label_logprobs(model, ids, ids, ids.bool(), 1.0, attention_mask_BT=ids.bool(), position_ids_BT=ids)
