"""LoRA: what is trained, what stays as it was, and that everybody else sees a plain model of the same function."""

import copy
import math

import pytest
import torch
from test_r1_learner import GROUPS, batch_of
from test_r1_policy_model import FAMILIES, make_family, sequences
from tiny import load_tiny_model, tiny_config
from torch.distributed.checkpoint.filesystem import FileSystemReader
from transformers import AutoModelForCausalLM

from r1.errors import UserError
from r1.hf_export import export
from r1.learner import Learner
from r1.lora import SCALE, adapter_off, merged, with_adapter
from r1.policy_model import load_model
from r1.shm_weights import read_tensors
from r1.sync_tensors import load_sync_tensors, sync_tensors

# `make check` has tests/test_r1_learner.py and tests/test_r1_ranks.py for the code that LoRA passes through.
pytestmark = pytest.mark.slow
RANK = 4
ROUNDING = 5e-6
"""Share of the largest logit, with float32 weights and float64 activations; the merged weights are rounded once: 2e-7 to 1.4e-6.
In float32 throughout one and the same model is off by 3e-6 from itself in float64."""


@pytest.fixture
def make_learner(tmp_path):
    learners = []

    def make(*overrides):
        options = ("num_threads=1", "learner.warmup_steps=0", "learner.learning_rate=1e-3", f"learner.lora_rank={RANK}")
        learners.append(Learner(tiny_config(*options, "sync.verify=off", *overrides), str(tmp_path / f"weights-{len(learners)}")))
        return learners[-1]

    yield make
    for learner in learners:
        learner.close()


def trained_adapter(model, seed=0):
    """As after some training: A and B anything but zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def base_weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if ".lora_" not in name}


def difference(ours, theirs):
    """Largest difference of two models' logits, computed in float64, as a share of the largest logit."""
    rows = [tokens[None] for tokens in sequences()]
    ours, theirs = (copy.deepcopy(model).double().eval() for model in (ours, theirs))
    for model in (ours, theirs):
        model.set_experts_implementation("eager")  # the fast kernels know no float64
    with torch.no_grad():
        pairs = [(ours(row).logits, theirs(row).logits) for row in rows]
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sync_and_an_export_give_a_plain_model_of_the_same_function(family, tmp_path):
    # Tied embeddings, biases, fused experts, latent attention, and GPT-2's transposed layers among them.
    path = make_family(family, tmp_path / "base")
    plain, model = load_model(path), trained_adapter(with_adapter(load_model(path), RANK))
    before = base_weights(model)
    published = dict(sync_tensors(model))
    assert [(name, tensor.shape) for name, tensor in published.items()] == [(n, t.shape) for n, t in sync_tensors(plain)]
    assert difference(model, plain) > 1e-2  # the adapter does something
    load_sync_tensors(plain, published.items())
    assert difference(model, plain) < ROUNDING
    export(model, model.state_dict(), torch.float32, path, tmp_path / "hf")
    assert difference(model, load_model(str(tmp_path / "hf"))) < ROUNDING
    assert not list((tmp_path / "hf").glob("adapter*"))
    after = base_weights(model)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_linear_layer_but_the_head_has_an_adapter_and_nothing_else_is_trained(family, tmp_path):
    path = make_family(family, tmp_path)
    plain, model = load_model(path), with_adapter(load_model(path), RANK)
    head = plain.get_output_embeddings()
    linear = [m for m in plain.modules() if type(m).__name__ in ("Linear", "Conv1D") and m is not head]
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == sum(RANK * sum(m.weight.shape) for m in linear)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(trained) == 2 * len(linear) > 0
    assert all(name.endswith(("lora_A.default.weight", "lora_B.default.weight")) for name in trained)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters() if parameter.requires_grad)
    # B is zero: the start is the base model, to the last bit.
    assert difference(model, plain) == 0.0


def test_the_merged_weight_by_hand():
    model = with_adapter(load_tiny_model(), 1)
    name = "model.layers.0.self_attn.k_proj"
    layer = model.get_submodule(name)
    for weight in (layer.base_layer.weight, layer.lora_A.default.weight, layer.lora_B.default.weight):
        weight.data.zero_()
    layer.base_layer.weight.data[3, 5] = 0.25
    layer.lora_A.default.weight.data[0, 5] = 2.0
    layer.lora_B.default.weight.data[3, 0] = 0.5
    layer.lora_B.default.weight.data[1, 0] = -1.0
    weight = dict(merged(model, model.state_dict()))[f"{name}.weight"]
    # W + 2 B A: row 3 has 0.25 + 2 x 0.5 x 2, row 1 has 2 x -1 x 2, in column 5.
    assert SCALE == 2.0
    assert (weight[3, 5].item(), weight[1, 5].item(), weight.count_nonzero().item()) == (2.25, -4.0, 2)


def test_the_optimizer_holds_the_adapter_alone_and_as_many_numbers_as_counted_by_hand(make_learner):
    learner = make_learner()
    # rank x (in + out), in each of 3 blocks: q, k, v, o 128 -> 128; gate, up 128 -> 352; down 352 -> 128.
    by_hand = 3 * 4 * (4 * (128 + 128) + 2 * (128 + 352) + (352 + 128))
    assert (by_hand, RANK) == (29568, 4)
    held = [parameter for group in learner.optimizer.param_groups for parameter in group["params"]]
    assert sum(parameter.numel() for parameter in held) == by_hand
    assert {id(p) for p in held} == {id(p) for n, p in learner.model.named_parameters() if ".lora_" in n}
    learner.update(batch_of(GROUPS))
    assert len(learner.optimizer.state) == len(held)
    assert all(parameter.grad is None for parameter in learner.model.parameters())


def test_updates_move_the_adapter_and_leave_every_base_weight_as_it_was(make_learner):
    learner = make_learner()
    shipped, before = load_tiny_model().state_dict(), dict(sync_tensors(learner.model))
    for version in range(3):
        metrics = learner.update(batch_of(GROUPS, policy_version=version))
        assert all(math.isfinite(value) for value in metrics.values()), metrics
        assert metrics["grad_norm"] > 0
        published = dict(read_tensors(learner.publish_weights()))
    for name, tensor in base_weights(learner.model).items():
        assert torch.equal(tensor, shipped[name.replace(".base_layer.", ".")]), name
    assert published.keys() == before.keys()
    changed = {name for name, tensor in published.items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in published if "_proj." in name}


def test_the_reference_is_the_policy_without_its_adapter(make_learner):
    learner, full = make_learner("algorithm.kl_coef=0.1"), make_learner("algorithm.kl_coef=0.1", "algorithm.reference_every=100")
    assert learner.reference is None
    assert full.reference is not None
    for version in range(3):
        ours, theirs = (each.update(batch_of(GROUPS, policy_version=version)) for each in (learner, full))
        # The first update's reference is the policy itself, to the last bit.
        assert ours["kl"] == 0.0 if version == 0 else ours["kl"] > 1e-6
        # A second model would have given the same, adapters that pull back included.
        assert ours["kl"] == pytest.approx(theirs["kl"], rel=1e-3)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)


def test_the_policy_with_its_adapter_becomes_the_reference_every_n_steps(make_learner):
    learner = make_learner("algorithm.kl_coef=0.1", "algorithm.reference_every=2")
    kls = [learner.update(batch_of(GROUPS, policy_version=version))["kl"] for version in range(3)]
    assert kls[0] == kls[2] == 0.0
    assert kls[1] > 1e-6


def test_with_the_adapter_off_the_model_is_the_base_model():
    model, plain = trained_adapter(with_adapter(load_tiny_model(), RANK)), load_tiny_model()
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    with adapter_off(model):
        assert difference(model, plain) == 0.0
    assert difference(model, plain) > 1e-3
    assert trained == [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def test_gradient_checkpointing_gives_the_same_gradient_below_a_frozen_embedding(make_learner):
    gradients = []
    for overrides in ((), ("learner.gradient_checkpointing=true",)):
        learner = make_learner("algorithm.kl_coef=0.1", *overrides)
        trained_adapter(learner.model)
        assert learner.model.is_gradient_checkpointing == bool(overrides)
        gradients.append(adapter_gradient(learner))
    assert gradients[0].norm() > 0
    assert (gradients[1] - gradients[0]).norm() < 1e-6 * gradients[0].norm()


def adapter_gradient(learner):
    learner._forward_backward(batch_of(GROUPS).minibatches[0], None)
    gradients = {name: p.grad for name, p in learner.model.named_parameters() if p.grad is not None}
    assert len(gradients) == len(learner.optimizer.param_groups[0]["params"])
    return torch.cat([gradient.flatten() for gradient in gradients.values()])


def test_saved_and_loaded_goes_on_bitwise_the_same(make_learner, tmp_path):
    learner = make_learner()
    learner.update(batch_of(GROUPS))
    learner.start_save(tmp_path)
    learner.finish_save()
    resumed = make_learner()
    trained_adapter(resumed.model)
    resumed.load(tmp_path)
    for each in (learner, resumed):
        each.update(batch_of(GROUPS, policy_version=1))
    theirs = resumed.model.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in learner.model.state_dict().items())


def test_a_checkpoint_holds_the_adapter_alone_and_fits_no_other_rank(make_learner, tmp_path):
    learner = make_learner()
    learner.start_save(tmp_path)
    learner.finish_save()
    names = FileSystemReader(tmp_path / "learner").read_metadata().state_dict_metadata
    assert {".lora_" in name for name in names if name.startswith("policy.")} == {True}
    for other in (f"learner.lora_rank={RANK // 2}", "learner.lora_rank=0"):
        with pytest.raises(UserError, match="go on with the model options of the run that wrote it"):
            make_learner(other).load(tmp_path)


def test_the_export_of_a_trained_policy(make_learner, tmp_path):
    learner = make_learner()
    for version in range(3):
        learner.update(batch_of(GROUPS, policy_version=version))
    learner.export(tmp_path / "hf")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32)
    assert exported.state_dict().keys() == load_tiny_model().state_dict().keys()
    assert difference(learner.model, exported) < ROUNDING
    assert difference(load_tiny_model(), exported) > 1e-3
