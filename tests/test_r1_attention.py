import logging

import pytest
import torch
import transformers
from test_r1_policy_model import ALL, make_family
from tiny import MODEL

from r1 import attention
from r1.attention import check_packing, packed_attention, switch_to_packed_rows
from r1.batching import _EMPTY, MicroBatch
from r1.errors import UserError
from r1.policy import Policy
from r1.policy_model import load_model

pytestmark = pytest.mark.slow  # real models

LENGTHS = (40, 0, 1, 7, 23)
"""Real tokens of each row; the second row is all padding."""


def micro_batch():
    generator = torch.Generator().manual_seed(0)
    shape = (len(LENGTHS), max(LENGTHS))
    columns, lengths = torch.arange(shape[1]), torch.tensor(LENGTHS)[:, None]
    real = columns < lengths
    # The first half of each row is its prompt, rounded down: one token of one counts.
    counts = real & (columns >= lengths // 2)
    token_ids, labels = (torch.randint(2, 54, shape, generator=generator) * real for _ in range(2))
    zeros = torch.zeros(shape)
    return MicroBatch(
        token_ids_BT=token_ids,
        labels_BT=labels,
        attention_mask_BT=real,
        loss_mask_BT=counts,
        rollout_logprobs_BT=zeros,
        advantages_BT=zeros,
        fresh_BT=counts,
    )


def test_the_choice_depends_on_device_dtype_and_what_is_installed():
    # (device, dtype, flash, flex) -> attention for packed rows
    for device, dtype, has_flash, has_flex, expected in (
        ("cuda", torch.bfloat16, True, True, "flash_attention_2"),
        ("cuda", torch.bfloat16, True, False, "flash_attention_2"),
        ("cuda", torch.bfloat16, False, True, "flex_attention"),
        ("cuda", torch.float32, True, True, "flex_attention"),  # flash attention knows half precision only
        ("cuda", torch.float32, True, False, None),
        ("cuda", torch.bfloat16, False, False, None),
        ("cpu", torch.bfloat16, True, True, None),
        ("cpu", torch.float32, False, True, None),
    ):
        assert packed_attention(device, dtype, has_flash=has_flash, has_flex=has_flex) == expected


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen2_moe"])
def test_packed_and_padded_rows_give_one_result_and_one_gradient(family, tmp_path):
    model, micro = load_model(make_family(family, tmp_path)), micro_batch()
    generator = torch.Generator().manual_seed(1)
    weights_BT, entropy_weights_BT = torch.randn(2, *micro.token_ids_BT.shape, generator=generator)
    results = []
    for is_packed in (False, True):
        model.zero_grad()
        logprobs_BT, entropies_BT = Policy(model, is_packed=is_packed)(micro, 0.7, True)
        (weights_BT * logprobs_BT + entropy_weights_BT * entropies_BT).sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        results.append((logprobs_BT.detach(), entropies_BT.detach(), gradient))
    padded, packed = results
    # 20 + 0 + 1 + 4 + 12 labels count, and nothing stands anywhere else.
    assert torch.equal(packed[0] != 0, micro.loss_mask_BT)
    assert micro.loss_mask_BT.sum() == 37
    for ours, theirs in zip(packed[:2], padded[:2], strict=True):
        assert (ours - theirs).abs().max() < 2e-5
    assert (packed[2] - padded[2]).norm() < 1e-4 * padded[2].norm()
    assert padded[2].norm() > 0


def test_a_packed_row_holds_no_padding():
    model, seen = load_model(str(MODEL)), []
    model.base_model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    Policy(model, is_packed=True)(micro_batch(), 1.0, False)
    assert seen[0]["input_ids"].shape == (1, 40 + 1 + 7 + 23)
    assert seen[0]["position_ids"].tolist() == [[*range(40), 0, *range(7), *range(23)]]
    assert "attention_mask" not in seen[0]


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_rank_with_nothing_to_do_takes_part(is_packed):
    model = load_model(str(MODEL))
    logprobs_BT, entropies_BT = Policy(model, is_packed=is_packed)(_EMPTY, 1.0, False)
    assert logprobs_BT.tolist() == entropies_BT.tolist() == [[0.0]]
    logprobs_BT.sum().backward()
    gradients = [p.grad for p in model.parameters()]
    assert not any(gradient is None or gradient.any() for gradient in gradients)


def test_on_a_cpu_rows_stay_padded():
    policy = Policy(load_model(str(MODEL)))
    switch_to_packed_rows(policy, "cpu", torch.bfloat16)
    assert not policy.is_packed
    assert policy.model.config._attn_implementation == "sdpa"


def test_a_model_that_takes_the_kernel_is_packed(monkeypatch):
    monkeypatch.setattr(attention, "packed_attention", lambda *_, **__: "eager")  # stands for one of the kernels
    policy = Policy(load_model(str(MODEL)))
    switch_to_packed_rows(policy, "cuda", torch.float32)
    assert policy.is_packed
    assert policy.model.config._attn_implementation == "eager"


def test_a_model_that_refuses_keeps_padded_rows_and_says_why(monkeypatch, caplog):
    monkeypatch.setattr(attention, "packed_attention", lambda *_, **__: "flash_attention_2")  # not installed here
    policy = Policy(load_model(str(MODEL)))
    with caplog.at_level(logging.WARNING, logger="r1.attention"):
        switch_to_packed_rows(policy, "cuda", torch.bfloat16)
    assert not policy.is_packed
    assert policy.model.config._attn_implementation == "sdpa"
    [record] = caplog.records
    assert record.message.startswith("learner: padded rows with sdpa, not flash_attention_2: ")


def test_a_family_that_mixes_sequences_keeps_padded_rows(monkeypatch, caplog):
    # An attention that is not told where a sequence begins: what `check_packing` is there for.
    monkeypatch.setattr(attention, "packed_attention", lambda *_, **__: "eager")
    policy = Policy(load_model(str(MODEL)))
    forward = policy.model.base_model.forward
    policy.model.base_model.forward = lambda position_ids=None, **inputs: forward(**inputs)
    switch_to_packed_rows(policy, "cuda", torch.float32)
    assert not policy.is_packed
    assert policy.model.config._attn_implementation == "sdpa"
    [message] = caplog.messages
    assert message.startswith("learner: padded rows with sdpa, not eager: packed rows: llama with eager attention mixes the seq")


@pytest.mark.parametrize("family", ALL)
def test_every_family_here_can_be_packed(family, tmp_path):
    check_packing(Policy(load_model(make_family(family, tmp_path))), torch.float32)


def test_a_recurrent_family_is_refused_for_packed_rows(tmp_path):
    config = transformers.MambaConfig(vocab_size=54, hidden_size=64, num_hidden_layers=2, state_size=8, tie_word_embeddings=True)
    model = transformers.AutoModelForCausalLM.from_config(config)
    torch.nn.init.normal_(model.get_input_embeddings().weight)  # far from uniform, or nothing would be compared
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="packed rows: mamba .* mixes the sequences of a row"):
        check_packing(Policy(load_model(str(tmp_path))), torch.float32)
