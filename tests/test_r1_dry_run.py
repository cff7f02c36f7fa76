"""The parts of the dry run's report, and the memory estimates, against figures worked out by hand."""

from dataclasses import replace

import pytest
import torch
import transformers
from test_r1_policy_model import FAMILIES, make_family
from tiny import MODEL, tiny_config
from transformers import AutoModelForCausalLM

import tasks.arithmetic
from r1.dry_run import device_lines, first_prompts, memory_lines, prompt_lines, smallest_gpu, warnings
from r1.errors import UserError
from r1.learner import Learner
from r1.memory_estimate import GIB, EngineMemory, LearnerMemory, engine_memory, learner_memory, microbatch_tokens, model_shape
from r1.preflight import prepare

# The figures of Qwen2.5-7B (its config.json).
QWEN_7B = {
    "vocab_size": 152_064,
    "hidden_size": 3_584,
    "intermediate_size": 18_944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
}


@pytest.fixture(autouse=True)
def few_additions(monkeypatch):
    """20,000 take a second to draw and to encode."""
    monkeypatch.setattr(tasks.arithmetic, "NUM_PROBLEMS", {"train": 2_000, "heldout": 300})


@pytest.fixture(scope="module")
def qwen_7b(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen_7b")
    transformers.Qwen2Config(**QWEN_7B).save_pretrained(folder)
    return str(folder)


def big_config(path, *overrides):
    half = ["dtype=bfloat16", "learner.gradient_checkpointing=true"]
    return tiny_config(f"model.path={path}", *half, *overrides)


def test_the_parameters_of_a_7b_model_are_counted_without_its_weights(qwen_7b):
    shape = model_shape(qwen_7b, 0)
    # Embeddings and head: 2 x 152,064 x 3,584. A layer: q and o 3,584 x 3,584 each, k and v 512 x 3,584 each, biases of q, k and v
    # 3,584 + 512 + 512; MLP 3 x 3,584 x 18,944; two norms 2 x 3,584. And the last norm.
    outer = 2 * 152_064 * 3_584
    layer = 2 * 3_584**2 + 2 * 512 * 3_584 + 4_608 + 3 * 3_584 * 18_944 + 7_168
    assert shape.outer_parameters == outer == 1_089_994_752
    assert shape.num_parameters == outer + 28 * layer + 3_584 == 7_615_616_512  # what the model's page says: 7.61 B
    assert shape.block_parameters == layer + 3_584 // 28
    assert shape.trained_parameters == shape.num_parameters


def test_the_learner_of_a_7b_model_on_8_gpus(qwen_7b):
    shape = model_shape(qwen_7b, 0)
    config = big_config(
        qwen_7b, "learner.num_ranks=8", "rollout.max_prompt_tokens=1024", "rollout.max_completion_tokens=3000",
        "learner.max_tokens_per_microbatch=4096",
    )
    memory = learner_memory(shape, config)
    eighth = 7_615_616_512 / 8
    assert (memory.weights, memory.moments, memory.gradients, memory.reference) == (4 * eighth, 8 * eighth, 4 * eighth, 0)
    # The outer weights and their gradients, and three times a block (two gathered, one gradient), float32.
    assert memory.gathered == 4 * (2 * 1_089_994_752 + 3 * shape.block_parameters)
    assert memory.casts == 2 * (1_089_994_752 + shape.block_parameters)
    # 28 inputs of layers in float32, and one layer in full: (16 + 10) x 3,584 and 2 x (3 x 3,584 + 2 x 512 + 4 x 18,944) bytes.
    layer = 26 * 3_584 + 2 * (3 * 3_584 + 2 * 512 + 4 * 18_944)
    assert memory.activations == 4_096 * (28 * 4 * 3_584 + layer)
    assert memory.logits == 4 * 4 * 512 * 152_064
    assert memory.kept == 12 * eighth
    assert 30 * GIB < memory.peak < 32 * GIB


def test_a_reference_policy_costs_its_weights(qwen_7b):
    shape = model_shape(qwen_7b, 0)
    plain, with_kl = (learner_memory(shape, big_config(qwen_7b, *o)) for o in ([], ["algorithm.kl_coef=0.1"]))
    assert with_kl.reference == 4 * shape.num_parameters
    assert with_kl.kept - plain.kept == with_kl.reference
    # On several ranks each keeps the whole of what FSDP2 does not give back.
    ranks = learner_memory(shape, big_config(qwen_7b, "algorithm.kl_coef=0.1", "learner.num_ranks=2"))
    assert ranks.reference == 4 * (shape.num_parameters / 2 + shape.outer_parameters)


@pytest.mark.slow
def test_an_adapter_has_the_only_gradients_and_moments(qwen_7b):
    shape = model_shape(qwen_7b, 16)
    # Rank 16 beside q, k, v, o, gate, up and down: 16 x (in + out) of each.
    adapter = 28 * 16 * (2 * (3_584 + 3_584) + 2 * (3_584 + 512) + 3 * (3_584 + 18_944))
    assert shape.trained_parameters == adapter
    lora = ["learner.lora_rank=16", "algorithm.kl_coef=0.1"]
    memory = learner_memory(shape, big_config(qwen_7b, *lora))
    assert (memory.moments, memory.gradients, memory.reference) == (8 * adapter, 4 * adapter, 0)
    assert memory.weights == 4 * (shape.num_parameters + adapter)
    moving = learner_memory(shape, big_config(qwen_7b, *lora, "algorithm.reference_every=5"))
    assert moving.reference == memory.weights


def test_gradient_checkpointing_and_the_longest_row(qwen_7b):
    shape = model_shape(qwen_7b, 0)
    short = ["learner.max_tokens_per_microbatch=1000", "rollout.max_prompt_tokens=100"]
    config = big_config(qwen_7b, *short, "rollout.max_completion_tokens=2000")
    assert microbatch_tokens(config) == 2_099  # a row of its own, whatever the budget
    without = big_config(qwen_7b, *short, "rollout.max_completion_tokens=2000", "learner.gradient_checkpointing=false")
    assert learner_memory(shape, without).activations > 10 * learner_memory(shape, config).activations


def test_the_engine_of_a_7b_model(qwen_7b):
    shape = model_shape(qwen_7b, 0)
    config = big_config(
        qwen_7b, "rollout.max_prompt_tokens=1024", "rollout.max_completion_tokens=3072", "rollout.num_prompts=2",
        "rollout.group_size=8",
    )
    memory = engine_memory(shape, config)
    assert memory.weights == 2 * 7_615_616_512
    assert memory.cache_per_token == 2 * 28 * 4 * 128 * 2 == 57_344
    assert memory.cache_per_completion == 57_344 * 4_096
    assert memory.cache_wanted == 57_344 * 4_096 * 16  # the 16 of a step, not the 256 of max_num_seqs
    parts = engine_memory(shape, big_config(qwen_7b, "rollout.tensor_parallel_size=7"))
    assert parts.weights == 2 * 7_615_616_512 / 7
    assert parts.cache_per_token == 2 * 28 * 1 * 128 * 2  # four heads for seven devices: one each


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_shape(family, tmp_path):
    path = make_family(family, tmp_path / family)
    shape, model = model_shape(path, 0), AutoModelForCausalLM.from_pretrained(path)
    assert shape.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert engine_memory(shape, tiny_config()).cache_per_token > 0
    assert learner_memory(shape, tiny_config()).peak > 0
    assert shape.latent_size == (512 + 64 if family == "deepseek_v3" else 0)


@pytest.mark.slow
def test_the_weights_and_moments_of_a_real_learner(tmp_path):
    config = tiny_config("num_threads=1")
    learner = Learner(config, str(tmp_path / "weights"))
    try:
        for parameter in learner.policy.parameters():
            parameter.grad = torch.zeros_like(parameter)
        learner.optimizer.step()
        held = [t for state in learner.optimizer.state.values() for t in state.values() if t.numel() > 1]
        memory = learner_memory(model_shape(str(MODEL), 0), config)
        assert memory.weights == sum(p.numel() * p.itemsize for p in learner.policy.parameters())
        assert memory.moments == sum(t.numel() * t.itemsize for t in held)
    finally:
        learner.close()


LEARNER = LearnerMemory(
    weights=1.0, moments=2.0, gradients=1.0, reference=1.0, gathered=0.0, casts=0.0, activations=5.0, logits=0.5
)
ENGINE = EngineMemory(weights=3.0, working=0.0, cache_per_token=0.1, cache_per_completion=1.5, cache_wanted=9.0)


def test_the_smallest_gpu_holds_the_learner_and_one_completion():
    # Apart: the update takes 10.5, the engine 4.5 of its 0.9, which is 5.
    assert smallest_gpu(LEARNER, ENGINE, colocated=False) == pytest.approx(10.5)
    assert smallest_gpu(replace(LEARNER, activations=0.0, weights=0.1), ENGINE, colocated=False) == pytest.approx(5.0)
    # By turns: the engine's 4.5 in its half need 9, what the learner keeps (1 + 2 + 1) in the other 8.
    small = replace(LEARNER, activations=0.0)
    assert smallest_gpu(small, ENGINE, colocated=True) == pytest.approx(9.0)
    assert smallest_gpu(replace(small, moments=4.0), ENGINE, colocated=True) == pytest.approx(12.0)
    assert smallest_gpu(LEARNER, ENGINE, colocated=True) == pytest.approx(10.5)


def test_devices_are_what_ray_will_be_asked_for():
    shared = ["rollout.placement=colocated", "rollout.num_workers=2", "rollout.tensor_parallel_size=2", "learner.num_ranks=4"]
    assert device_lines(tiny_config(*shared)) == [
        "on GPUs: 2 x 2 GPU and 3 CPU (rollout workers with their learner ranks)",
        "without a GPU: 2 x 2 CPU (rollout workers), 4 x 1 CPU (learner ranks)",
    ]
    apart = device_lines(tiny_config("rollout.num_workers=3", "learner.num_ranks=2"))
    assert apart[0] == "on GPUs: 3 x 1 GPU and 1 CPU (rollout workers), 2 x 1 GPU and 1 CPU (learner ranks)"
    # On a CPU it would work, so it is said and not refused.
    refused = device_lines(tiny_config("rollout.placement=colocated", "learner.num_ranks=2"))
    assert refused[0].startswith("on GPUs: refused: rollout.placement=colocated needs one learner rank on each GPU")
    with pytest.raises(UserError, match="rollout.max_staleness must be 0"):
        device_lines(tiny_config("rollout.placement=colocated", "rollout.max_staleness=1"))


def test_memory_lines_name_every_part_that_is_there():
    config = tiny_config()
    shape = model_shape(str(MODEL), 0)
    lines = "\n".join(memory_lines(config, shape, learner_memory(shape, config), engine_memory(shape, config)))
    assert "model: 609,920 parameters, all trained" in lines
    assert "weights 2.3 MiB, moments 4.7 MiB, gradients 2.3 MiB, activations" in lines
    assert "reference" not in lines
    # 2 x 3 layers x 4 heads x 32 x 4 bytes: 3 KiB a token.
    assert "cache 3.0 KiB a token, 336.0 KiB a completion of 112 tokens" in lines


def test_the_prompts_are_those_of_step_1_and_cannot_repaint_a_terminal():
    config = tiny_config()
    prepared = prepare(config)
    prompts = first_prompts(config, prepared)
    assert len(prompts) == 3
    lines = prompt_lines(prompts)
    assert lines[1] == f"  | {prompts[0].text}"
    hostile = replace(prompts[0], text="two\nlines\x1b[2J" + "x" * 3_000)
    shown = prompt_lines([hostile])
    assert shown[1:3] == ["  | two", f"  | lines\\x1b[2J{'x' * (2_000 - 13)} ... 1,013 characters more"]


def test_warnings_say_what_is_hardly_meant():
    config = tiny_config(
        "learner.warmup_steps=60", "dtype=bfloat16", "learner.max_tokens_per_microbatch=100", "evaluate.every=51"
    )
    prepared = prepare(config)
    from r1.batch_arithmetic import batch_arithmetic

    counts = batch_arithmetic(config, tasks=prepared.problems.train.tasks, num_evaluated=256)
    found = warnings(config, prepared, counts)
    wanted = ["learner.warmup_steps = 60", "sync.max_logprob_diff", "max_tokens_per_microbatch = 100", "evaluate.every", "arithmetic: without its format"]
    assert len(found) == len(wanted)
    assert all(part in line for part, line in zip(wanted, found, strict=True)), found
    fine = tiny_config("scoring.format_gates_accuracy=false")
    assert warnings(fine, prepared, batch_arithmetic(fine, tasks=prepared.problems.train.tasks, num_evaluated=256)) == []
