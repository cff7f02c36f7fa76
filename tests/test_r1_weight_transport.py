"""Which way weights travel, and what is refused on the way through buckets."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_r1_shm_weights import flip_one_bit

from r1 import weight_buckets
from r1.errors import SyncError
from r1.shm_weights import ShmPublisher, read_tensors
from r1.weight_buckets import WeightCopy, num_buckets, read_bucket
from r1.weight_transport import Place, choose_transport, rank_offsets

TENSORS = [("a", torch.arange(30.0)), ("b", torch.tensor([1, 2, 3])), ("c", torch.tensor([0.5]))]


@pytest.mark.parametrize(
    ("engine", "learner", "transport"),
    [
        (Place(node_id="n1"), [Place(node_id="n1")], "shm"),
        (Place(node_id="n2"), [Place(node_id="n1")], "object_store"),
        # The first rank writes the file; where the second one is does not matter.
        (Place(node_id="n2"), [Place(node_id="n1"), Place(node_id="n2")], "object_store"),
        (Place(node_id="n1", devices=("g0",)), [Place(node_id="n1", devices=("g0",))], "ipc"),
        (Place(node_id="n1", devices=("g1",)), [Place(node_id="n1", devices=("g0",)), Place(node_id="n1", devices=("g1",))], "ipc"),
        (Place(node_id="n1", devices=("g1",)), [Place(node_id="n1", devices=("g0",))], "nccl"),
        (Place(node_id="n2", devices=("g9",)), [Place(node_id="n1", devices=("g0",))], "nccl"),
        # Tensor-parallel over the learner's GPU and another: NCCL would meet itself on g0.
        (Place(node_id="n1", devices=("g0", "g1")), [Place(node_id="n1", devices=("g0",))], "shm"),
        (Place(node_id="n1", devices=("g1", "g2")), [Place(node_id="n1", devices=("g0",)), Place(node_id="n1", devices=("g1",))], "nccl"),
        # One of the two on a CPU, or an engine that cannot take weights on its GPU.
        (Place(node_id="n1"), [Place(node_id="n1", devices=("g0",))], "shm"),
        (Place(node_id="n2", devices=("g1",)), [Place(node_id="n1")], "object_store"),
    ],
)
def test_places_decide_the_transport(engine, learner, transport):
    assert choose_transport(engine, learner) == transport


def test_no_two_members_of_a_group_share_a_rank():
    # The learner is rank 0; engines of 1, 4 and 2 workers: 1 | 2 3 4 5 | 6 7.
    assert rank_offsets([1, 4, 2]) == ([1, 2, 6], 8)
    assert rank_offsets([1, 1, 1]) == ([1, 2, 3], 4)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """256 bytes (a: 120, b: 24, c: 4, each up to a multiple of 64), in buckets of 100: 100 + 100 + 56."""
    monkeypatch.setattr(weight_buckets, "BUCKET_BYTES", 100)
    publisher = ShmPublisher(tmp_path / "weights", torch.float32)
    yield publisher
    publisher.close()


def copied(manifest, copy, buckets=None):
    for index in range(num_buckets(manifest)) if buckets is None else buckets:
        copy.write(manifest, index, read_bucket(manifest, index))
    return replace(manifest, path=copy.path(manifest))


def test_a_copy_made_of_buckets_is_the_published_file_again_and_again(published):
    copy = WeightCopy()
    for version in (1, 2):
        manifest = published.publish(version, [(name, tensor + version) for name, tensor in TENSORS])
        assert num_buckets(manifest) == 3
        for (name, tensor), (read_name, read) in zip(TENSORS, read_tensors(copied(manifest, copy)), strict=True):
            assert read_name == name
            assert torch.equal(read, tensor + version)


def test_buckets_that_are_cut_off_late_or_missing_are_refused(published):
    manifest, copy = published.publish(4, TENSORS), WeightCopy()
    where = "weight sync, phase transfer, version 4: "
    copy.write(manifest, 0, read_bucket(manifest, 0))
    with pytest.raises(SyncError, match=f"^{where}bucket 1 of 3 has 99 bytes instead of 100$"):
        copy.write(manifest, 1, read_bucket(manifest, 1)[:-1])
    with pytest.raises(SyncError, match=f"^{where}bucket 2 of 3 came when bucket 1 of version 4 was due$"):
        copy.write(manifest, 2, read_bucket(manifest, 2))
    with pytest.raises(SyncError, match=f"^{where}1 buckets of version 4 have come, 3 of version 4 were published$"):
        copy.path(manifest)
    with pytest.raises(SyncError, match="bucket 1 of 3 came when bucket 1 of version 4 was due"):
        copy.write(replace(manifest, policy_version=5), 1, read_bucket(manifest, 1))


def test_a_bit_that_flips_on_the_way_names_its_tensor(published):
    manifest, copy = published.publish(4, TENSORS), WeightCopy()
    local = copied(manifest, copy)
    flip_one_bit(local.path, manifest.tensors[1].offset)
    with pytest.raises(SyncError, match="version 4: checksum differs for 1 of 3 tensors: b$"):
        read_tensors(local)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux only")
def test_the_copy_has_no_name_that_could_outlive_its_process(published, tmp_path):
    local = copied(published.publish(1, TENSORS), WeightCopy())
    assert np.fromfile(local.path, np.uint8).nbytes == local.num_bytes == 256
    assert local.path.startswith("/proc/")
