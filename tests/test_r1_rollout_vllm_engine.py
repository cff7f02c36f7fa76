"""Real vLLM on the shipped model: what it samples, and each way in which a weight sync can go wrong.

Each fault is injected and must be noticed; beside it stands that the same without the fault is not.
"""

from dataclasses import replace

import pytest
import torch
from test_r1_shm_weights import flip_one_bit
from tiny import engine_options, load_tiny_model, mean_difference, prompt_batch, scored_group, tiny_config
from transformers import AutoModelForCausalLM

from r1.batching import make_train_batch
from r1.errors import SyncError
from r1.learner import Learner
from r1.rollout.engine import generate, requests_of
from r1.shm_weights import ShmPublisher
from r1.types import ScoredGroup

pytestmark = pytest.mark.slow

BOUND = 1e-4
"""sync.max_logprob_diff in float32; healthy is 1e-6."""
# Longer than a key-value block of 32 tokens, so that the prefix cache has something to keep.
LONG_QUESTION = "<think>5+8=13 c1 easy 5+8=13 c1 easy</think><answer>1+2="


@pytest.fixture(scope="module")
def engine():
    from r1.rollout.vllm_engine import VllmEngine

    engine = VllmEngine(engine_options())
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def publisher(tmp_path_factory):
    publisher = ShmPublisher(tmp_path_factory.mktemp("shm") / "weights", torch.float32)
    yield publisher
    publisher.close()


def nudged_model(seed, scale=0.02):
    model = load_tiny_model()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * scale)
    return model


def sync(engine, publisher, model, version):
    engine.receive_weights(publisher.publish(version, model.named_parameters()), verify=True)
    engine.load_weights()
    engine.reset_prefix_cache()
    engine.verify_weights()


def sample(engine, question="12+34=", group_size=8, step=1):
    return generate(engine, prompt_batch([question], group_size=group_size, policy_version=engine.policy_version, step=step))


def test_a_healthy_sync(engine, publisher):
    model = nudged_model(1)
    sync(engine, publisher, model, engine.policy_version + 1)
    groups = sample(engine)
    assert mean_difference(model, groups) < 1e-5
    assert mean_difference(load_tiny_model(), groups) > BOUND  # the weights did change
    assert all(completion.policy_version == engine.policy_version for completion in groups[0].completions)
    assert all(0 < completion.sample_s < 600 for completion in groups[0].completions)


def test_finish_reasons_and_text(engine, publisher):
    sync(engine, publisher, load_tiny_model(), engine.policy_version + 1)
    completions = sample(engine, "7+8=", group_size=32)[0].completions
    eos = engine._eos_token_ids[0]
    for completion in completions:
        if completion.finish_reason == "stop":
            assert completion.token_ids[-1] == eos
        else:
            assert completion.finish_reason == "length"
            assert len(completion.token_ids) == engine_options().max_completion_tokens
        assert completion.text == engine._tokenizer.decode([token for token in completion.token_ids if token != eos])
    assert {completion.finish_reason for completion in completions} == {"stop", "length"}


def test_the_same_seeds_give_the_same_samples(engine):
    assert sample(engine) == sample(engine)
    assert sample(engine) != sample(engine, step=2)


def plan_of(engine, forget=False):
    [transfer] = engine._llm.collective_rpc(lambda worker: worker.weight_transfer_engine)
    if forget:
        transfer.plan, transfer.is_first = None, True
    return transfer.plan


def test_before_there_is_a_plan_a_tensor_corrupted_in_flight_is_refused_and_nothing_is_loaded(engine, publisher):
    model, version = nudged_model(2), engine.policy_version
    before = sample(engine)
    manifest = publisher.publish(version + 1, model.named_parameters())
    flip_one_bit(manifest.path, manifest.tensors[5].offset + 1)
    plan_of(engine, forget=True)
    with pytest.raises(SyncError, match=f"checksum differs for 1 of .*: {manifest.tensors[5].name}"):
        engine.receive_weights(manifest, verify=True)
    assert engine.policy_version == version
    assert sample(engine) == before  # the old weights are whole
    sync(engine, publisher, model, version + 1)  # and the next sync works
    assert mean_difference(model, sample(engine)) < 1e-5


def test_a_plan_loads_what_vllm_loads(engine, publisher, monkeypatch):
    from r1.rollout import vllm_weights

    plan_of(engine, forget=True)
    sync(engine, publisher, nudged_model(7), engine.policy_version + 1)
    by_vllm = sample(engine)
    assert len(plan_of(engine).layout) == len(list(load_tiny_model().named_parameters()))
    sync(engine, publisher, nudged_model(8), engine.policy_version + 1)
    with monkeypatch.context() as patch:
        patch.setattr(vllm_weights, "initialize_layerwise_reload", None)  # not needed any more
        sync(engine, publisher, nudged_model(7), engine.policy_version + 1)
    for ours, theirs in zip(sample(engine)[0].completions, by_vllm[0].completions, strict=True):
        assert (ours.token_ids, ours.rollout_logprobs) == (theirs.token_ids, theirs.rollout_logprobs)


@pytest.mark.parametrize("name", ["model.layers.1.self_attn.v_proj.weight", "model.norm.weight", "model.embed_tokens.weight"])
def test_where_a_plan_is_followed_the_proof_finds_a_tensor_corrupted_in_flight(engine, publisher, name):
    model = nudged_model(2)
    sync(engine, publisher, load_tiny_model(), engine.policy_version + 1)
    manifest = publisher.publish(engine.policy_version + 1, model.named_parameters())
    flip_one_bit(manifest.path, next(spec.offset for spec in manifest.tensors if spec.name == name) + 1)
    engine.receive_weights(manifest, verify=True)
    engine.load_weights()
    layer = name.removesuffix(".weight").replace("v_proj", "qkv_proj")
    with pytest.raises(SyncError, match=f"layers compute with other weights than the published ones: .*{layer}"):
        engine.verify_weights()
    sync(engine, publisher, model, engine.policy_version + 1)
    assert mean_difference(model, sample(engine)) < 1e-5


def test_a_skipped_repack_of_the_output_head_is_caught_twice(engine, publisher, monkeypatch):
    from r1.rollout import vllm_weights

    model = nudged_model(3)
    manifest = publisher.publish(engine.policy_version + 1, model.named_parameters())
    with monkeypatch.context() as patch:
        patch.setattr(vllm_weights, "repack_tied_output_heads", lambda model: None)
        engine.receive_weights(manifest, verify=True)
        engine.load_weights()
        engine.reset_prefix_cache()
    with pytest.raises(SyncError, match="1 layers compute with other weights than the published ones: lm_head"):
        engine.verify_weights()
    # Also without that proof: the learner's bound on mean |old - rollout| refuses the samples.
    assert mean_difference(model, sample(engine)) > BOUND


def test_one_changed_weight_in_the_last_place_is_enough_to_notice(engine, publisher, monkeypatch):
    # An optimizer step at lr 1e-6 moves weights by about one unit in the last place; a tolerance would not see it.
    from r1.rollout import vllm_weights

    sync(engine, publisher, load_tiny_model(), engine.policy_version + 1)
    model = load_tiny_model()
    column = torch.linspace(0, model.config.hidden_size - 1, 16).long()[3]
    embedding = model.get_input_embeddings().weight.data
    embedding[7, column] = torch.nextafter(embedding[7, column], torch.tensor(10.0))
    with monkeypatch.context() as patch:
        patch.setattr(vllm_weights, "repack_tied_output_heads", lambda model: None)
        engine.receive_weights(publisher.publish(engine.policy_version + 1, model.named_parameters()), verify=True)
        engine.load_weights()
    with pytest.raises(SyncError, match="published ones: lm_head"):
        engine.verify_weights()


def test_a_layer_that_kept_its_old_weights_is_named(engine, publisher):
    sync(engine, publisher, load_tiny_model(), engine.policy_version + 1)
    model = load_tiny_model()
    manifest = publisher.publish(engine.policy_version + 1, model.named_parameters())
    engine.receive_weights(manifest, verify=True)
    engine.load_weights()
    # What was published changes behind the engine's back: fused (qkv), packed and plain layers must each be noticed.
    for parameter in ("model.layers.1.self_attn.k_proj.weight", "model.layers.2.mlp.down_proj.weight", "model.norm.weight"):
        changed = load_tiny_model()
        weight = dict(changed.named_parameters())[parameter].data.view(-1)
        weight[0] = torch.nextafter(weight[0], torch.tensor(10.0))
        engine._manifest = publisher.publish(engine.policy_version, changed.named_parameters())
        layer = parameter.removesuffix(".weight").replace("k_proj", "qkv_proj")
        with pytest.raises(SyncError, match=f"1 layers compute with other weights than the published ones: {layer}"):
            engine.verify_weights()
    engine._manifest = publisher.publish(engine.policy_version, model.named_parameters())
    engine.verify_weights()


def test_a_parameter_that_is_not_published_is_missed(engine, publisher):
    tensors = [(name, tensor) for name, tensor in load_tiny_model().named_parameters() if "layers.1.mlp" not in name]
    engine.receive_weights(publisher.publish(engine.policy_version + 1, tensors), verify=True)
    engine.load_weights()
    with pytest.raises(
        SyncError, match=r"2 layers compute with other weights than the published ones: model.layers.1.mlp.down_proj"
    ):
        engine.verify_weights()
    sync(engine, publisher, load_tiny_model(), engine.policy_version + 1)


@pytest.mark.parametrize("part", ["self_attn.v_proj", "mlp.up_proj", "self_attn.q_proj"])
def test_a_missing_part_of_a_fused_layer_is_missed(engine, publisher, part):
    # vLLM takes the layer for loaded, with whatever lay in the memory of its last rows.
    sync(engine, publisher, load_tiny_model(), engine.policy_version + 1)
    tensors = [item for item in load_tiny_model().named_parameters() if item[0] != f"model.layers.1.{part}.weight"]
    engine.receive_weights(publisher.publish(engine.policy_version + 1, tensors), verify=True)
    engine.load_weights()
    with pytest.raises(SyncError, match="1 layers compute with other weights than the published ones: model.layers.1"):
        engine.verify_weights()
    sync(engine, publisher, load_tiny_model(), engine.policy_version + 1)


def test_a_worker_one_version_behind_is_refused_by_number_and_by_weights(engine, publisher, monkeypatch):
    old = nudged_model(4)
    sync(engine, publisher, old, engine.policy_version + 1)
    with pytest.raises(SyncError, match=f"wants samples of policy version {engine.policy_version + 1}, the engine holds"):
        generate(engine, prompt_batch(["12+34="], policy_version=engine.policy_version + 1))
    # A worker that only says that it is up to date samples with the old weights: the learner's bound notices.
    new = load_tiny_model()
    for ours, theirs in zip(new.parameters(), old.parameters(), strict=True):
        ours.data.copy_(theirs + 2e-4 * torch.randn(theirs.shape, generator=torch.Generator().manual_seed(0)))
    monkeypatch.setattr(engine, "policy_version", engine.policy_version + 1)
    assert mean_difference(new, sample(engine)) > BOUND
    assert mean_difference(old, sample(engine)) < 1e-5


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_stale_prefix_cache_is_caught(engine, publisher, is_reset):
    """New weights come while one group is in hand; a second one with the same prompt begins after them."""
    sync(engine, publisher, load_tiny_model(), engine.policy_version + 1)
    model, version = nudged_model(5), engine.policy_version
    batch = prompt_batch([LONG_QUESTION, LONG_QUESTION], group_size=8, policy_version=version + 1)
    first, second = requests_of(replace(batch, max_staleness=1), first_ticket=0)
    engine.add(first)
    engine.step()  # its prompt's keys and values are in the cache now
    engine.receive_weights(publisher.publish(version + 1, model.named_parameters()), verify=True)
    engine.load_weights()
    if is_reset:
        engine.reset_prefix_cache()
    engine.add(second)
    finished = {}
    while engine.num_unfinished:
        finished |= {one.ticket: one.group for one in engine.step()}
    difference = mean_difference(model, [finished[1]])
    assert difference < 1e-5 if is_reset else difference > BOUND
    # The first group says which weights sampled what.
    assert {completion.policy_version for completion in finished[0].completions} == {version}
    assert {completion.later_versions for completion in finished[0].completions} == {((version + 1, 1),)}
    assert {completion.later_versions for completion in finished[1].completions} == {()}


def test_an_idle_engine_forgets_by_itself(engine, publisher):
    sync(engine, publisher, load_tiny_model(), engine.policy_version + 1)
    sample(engine, LONG_QUESTION)
    model = nudged_model(5)
    engine.receive_weights(publisher.publish(engine.policy_version + 1, model.named_parameters()), verify=True)
    engine.load_weights()
    assert mean_difference(model, sample(engine, LONG_QUESTION)) < 1e-5


def test_the_exported_policy_is_what_the_engine_serves(engine, publisher, tmp_path):
    learner = Learner(tiny_config(), str(tmp_path / "weights"))
    for parameter in learner.model.parameters():
        parameter.data.mul_(1.02)
    learner.export(tmp_path / "hf")
    learner.close()
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    sync(engine, publisher, exported, engine.policy_version + 1)
    assert mean_difference(exported, sample(engine)) < 1e-5


def test_an_adapters_merged_weights_are_what_the_engine_samples_with(engine, tmp_path):
    options = ("learner.lora_rank=4", "learner.learning_rate=1e-3", "learner.warmup_steps=0", "num_threads=1")
    learner = Learner(tiny_config(*options), str(tmp_path / "weights"))
    good, bad = "<answer>46</answer>", "<answer>7"
    mismatches, groups = [], [scored_group("12+34=", [good, bad], [1.0, -1.0])]
    for version in range(3):
        # sync.verify is on: from the second update on the samples are the engine's, with the weights synced below.
        batch = make_train_batch(
            groups,
            step=version + 1,
            policy_version=version,
            num_minibatches=1,
            max_tokens_per_microbatch=4096,
            max_completion_tokens=32,
        )
        mismatches.append(learner.update(batch)["mismatch"])
        engine.receive_weights(learner.publish_weights(), verify=True)
        engine.load_weights()
        engine.reset_prefix_cache()
        engine.verify_weights()
        [group] = sample(engine, group_size=8, step=version + 1)
        groups = [ScoredGroup(prompt=group.prompt, completions=group.completions, scores=(), advantages=(1.0, -1.0) * 4)]
    assert max(mismatches) < 1e-5
    assert mean_difference(learner.model.eval(), [group]) < 1e-5
    assert mean_difference(load_tiny_model(), [group]) > BOUND  # the adapter did something
    learner.close()
