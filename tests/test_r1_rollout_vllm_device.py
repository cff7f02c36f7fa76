"""vLLM's own NCCL and IPC code, both ends, on a real engine, up to the last line before CUDA: see fake_cuda.py.

The weights that arrive are loaded into the tiny model by vLLM and must sample what the learner's would.
"""

from types import SimpleNamespace

import pytest
import torch
from test_r1_rollout_vllm_engine import nudged_model, sample
from tiny import engine_options, load_tiny_model, mean_difference

from r1.device_weights import device_manifest
from r1.errors import RunError, SyncError
from r1.runtime.learner_weights import SendsWeights

pytestmark = pytest.mark.slow

BUCKET = 400_000
"""Bytes; the tiny model's 2.4 MB in float32 travel in several buckets, the largest tensor (262 kB) fits."""


class FakeLearner:
    """What `SendsWeights` needs of a learner rank."""

    def __init__(self, rank, model):
        self.ranks, self.model, self.num_gathered = SimpleNamespace(rank=rank), model, 0

    def wire_tensors(self):
        for name, parameter in self.model.named_parameters():
            self.num_gathered += 1
            yield name, parameter.detach()


def learner_ranks(model, num_ranks=2):
    ranks = [SendsWeights() for _ in range(num_ranks)]
    for index, rank in enumerate(ranks):
        rank._learner = FakeLearner(index, model)
    return ranks


@pytest.fixture(scope="module")
def shared_engine():
    from r1.rollout.vllm_engine import VllmEngine

    engine = VllmEngine(engine_options())
    assert engine.devices == ()
    yield engine
    engine.close()


@pytest.fixture
def nccl(monkeypatch):
    import fake_cuda

    from r1.rollout import vllm_engine, vllm_sender

    monkeypatch.setattr(vllm_engine, "BUCKET_BYTES", BUCKET)
    monkeypatch.setattr(vllm_sender, "BUCKET_BYTES", BUCKET)
    monkeypatch.setattr(vllm_sender, "device_ids", lambda: (fake_cuda.GPU,))
    return fake_cuda.install(monkeypatch)


@pytest.fixture
def engine(shared_engine):
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

    yield shared_engine
    # What the pool does by replacing an engine whose sync failed.
    worker = worker_of(shared_engine)
    with set_current_vllm_config(worker.vllm_config):
        finalize_layerwise_reload(worker.model_runner.model, worker.model_config)
    worker._weight_update_active = shared_engine._is_updating = False


def load(engine):
    from r1.rollout.vllm_weights import repack_tied_output_heads

    engine.load_weights()
    engine.reset_prefix_cache()
    # On a CPU vLLM packs weights, which its GPU transfers know nothing of.
    repack_tied_output_heads(worker_of(engine).model_runner.model)


def worker_of(engine):
    return engine._llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker


def test_nccl_brings_the_learners_weights_in_buckets_to_ranks_of_their_own(engine, nccl):
    model = nudged_model(1)
    ranks = learner_ranks(model)
    for rank in ranks:
        rank.join_transfer("tcp://10.0.0.1:4000", 4)
    engine.join_transfer("tcp://10.0.0.1:4000", 4, 3)  # behind another engine of two workers
    assert nccl.joined == [("10.0.0.1", 4000, 0, 4), ("10.0.0.1", 4000, 3, 4)]  # rank 1 of the learner only gathers
    manifest = device_manifest(engine.policy_version + 1, model.named_parameters())
    for rank in ranks:
        rank.send_weights(manifest)
    assert [rank._learner.num_gathered for rank in ranks] == [len(manifest.tensors)] * 2
    assert ranks[0]._nccl._trainer.model_update_group.num_sent == 6  # 2.4 MB; each bucket is sent when it is over BUCKET
    engine.receive_weights(manifest, verify=True)
    load(engine)
    assert engine.policy_version == manifest.policy_version
    assert worker_of(engine).weight_transfer_engine.without_weights == []
    assert mean_difference(model, sample(engine)) < 1e-5
    assert mean_difference(load_tiny_model(), sample(engine)) > 1e-4


def test_a_new_group_closes_the_old_one(engine, nccl):
    [rank] = learner_ranks(load_tiny_model(), 1)
    for port in (4000, 4001):
        rank.join_transfer(f"tcp://10.0.0.1:{port}", 2)
        engine.join_transfer(f"tcp://10.0.0.1:{port}", 2, 1)
    assert nccl.num_destroyed == 2


def test_a_bit_that_flips_in_a_broadcast_is_noticed_and_the_rest_is_still_received(engine, nccl):
    def flip(number, tensor):
        tensor[7] ^= 4 if number == 1 else 0
        return tensor

    nccl.spoil = flip
    [rank] = learner_ranks(load_tiny_model(), 1)
    rank.join_transfer("tcp://10.0.0.1:4000", 2)
    engine.join_transfer("tcp://10.0.0.1:4000", 2, 1)
    manifest = device_manifest(9, rank._learner.wire_tensors())
    rank.send_weights(manifest)
    with pytest.raises(
        SyncError, match=r"^weight sync, phase transfer, version 9: 1 tensors are wrong: checksum differs for model\."
    ):
        engine.receive_weights(manifest, verify=True)
    assert not any(worker_of(engine).weight_transfer_engine.model_update_group.queues.values())


def test_a_learner_whose_tensors_are_not_the_announced_ones_does_not_send_them(engine, nccl):
    model = load_tiny_model()
    [rank] = learner_ranks(model, 1)
    rank.join_transfer("tcp://10.0.0.1:4000", 2)
    with pytest.raises(ValueError, match="disagrees with iteration at index 0"):
        rank.send_weights(device_manifest(9, reversed(list(model.named_parameters()))))


def send_by_ipc(engine, rank, manifest, max_buckets=99):
    index = 0
    while index < max_buckets and (bucket := rank.next_bucket(manifest, index)):
        engine.receive_bucket(manifest, index, bucket, verify=True)
        index += 1
    return index


def test_ipc_brings_the_learners_weights_bucket_by_bucket(engine, nccl):
    model = nudged_model(2)
    [rank] = learner_ranks(model, 1)
    manifest = device_manifest(engine.policy_version + 1, model.named_parameters())
    # kB: 28 + 4 x 66 | gate up | down q k v | o gate | up down | q k v o | gate up | down, of 3 layers with 66 and 180 a matrix
    assert send_by_ipc(engine, rank, manifest) == 8
    engine.receive_weights(manifest, verify=True)
    load(engine)
    rank.end_transfer()
    assert rank._ipc is None
    assert worker_of(engine).weight_transfer_engine.without_weights == []
    assert mean_difference(model, sample(engine)) < 1e-5
    assert mean_difference(load_tiny_model(), sample(engine)) > 1e-4


def test_ipc_buckets_that_are_damaged_or_missing_are_refused(engine, nccl):
    model = nudged_model(3)
    [rank] = learner_ranks(model, 1)
    manifest = device_manifest(8, model.named_parameters())
    send_by_ipc(engine, rank, manifest, max_buckets=2)
    with pytest.raises(SyncError, match=rf"version 8: \d+ of {len(manifest.tensors)} tensors have come"):
        engine.receive_weights(manifest, verify=True)
    send_by_ipc(engine, rank, manifest, max_buckets=1)
    with pytest.raises(RunError, match="an earlier weight sync ended half-way"):
        send_by_ipc(engine, rank, manifest)


def test_a_tensor_that_changed_after_it_was_published_is_refused_by_ipc(engine, nccl):
    model = nudged_model(4)
    [rank] = learner_ranks(model, 1)
    manifest = device_manifest(8, model.named_parameters())
    model.model.layers[1].mlp.up_proj.weight.data[3, 3] += 1
    with pytest.raises(SyncError, match="1 tensors are wrong: checksum differs for model.layers.1.mlp.up_proj.weight"):
        send_by_ipc(engine, rank, manifest)


def test_the_proof_after_the_load_compares_checksums_of_fused_layers_on_their_device():
    from r1.rollout.vllm_proof import layers_with_other_checksums

    published = load_tiny_model()
    manifest = device_manifest(1, published.named_parameters())
    weights = dict(published.named_parameters())
    names = [f"model.layers.0.self_attn.{part}_proj" for part in "qkv"]
    held = torch.nn.Module()
    held.packed_modules_mapping = {"qkv_proj": ["q_proj", "k_proj", "v_proj"]}
    held.model = torch.nn.Module()
    held.model.embed_tokens = torch.nn.Embedding(64, 128)  # padded: the vocabulary has 54
    held.model.embed_tokens.weight.data[:54] = weights["model.embed_tokens.weight"]
    held.model.layers = torch.nn.ModuleList([torch.nn.Module()])
    held.model.layers[0].self_attn = torch.nn.Module()
    qkv = torch.nn.Linear(128, 384, bias=False)
    qkv.weight.data = torch.cat([weights[f"{name}.weight"] for name in names]).clone()
    held.model.layers[0].self_attn.qkv_proj = qkv
    assert layers_with_other_checksums(held, manifest) == []
    qkv.weight.data[200, 5] = torch.nextafter(qkv.weight.data[200, 5], torch.tensor(9.0))
    assert layers_with_other_checksums(held, manifest) == ["model.layers.0.self_attn.qkv_proj"]
    qkv.weight.data = qkv.weight.data[:100]
    assert layers_with_other_checksums(held, manifest) == ["model.layers.0.self_attn.qkv_proj"]
    qkv.tp_size = 2  # one of two processes that share the layer: a checksum of the whole says nothing of its part
    assert layers_with_other_checksums(held, manifest) == []
