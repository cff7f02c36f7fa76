import os
import resource
import signal
import subprocess
import sys
import uuid
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import ROOT

from r1.errors import PublisherLost, SyncError
from r1.shm_weights import ShmPublisher, read_tensors
from r1.types import TensorSpec, WeightManifest

TENSORS = [("a", torch.arange(6.0).view(2, 3)), ("b", torch.tensor([1, 2, 3])), ("c", torch.tensor([0.5]))]


@pytest.fixture
def publisher(tmp_path):
    publisher = ShmPublisher(tmp_path / f"weights-{uuid.uuid4().hex}", torch.float32)
    yield publisher
    publisher.close()


def flip_one_bit(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def test_nobody_else_may_read_the_weights(publisher):
    manifest = publisher.publish(1, TENSORS)
    assert os.stat(manifest.path).st_mode & 0o777 == 0o600


def test_what_is_read_is_what_was_published(publisher):
    manifest = publisher.publish(7, TENSORS)
    assert manifest.policy_version == 7
    for (name, tensor), (read_name, read) in zip(TENSORS, read_tensors(manifest), strict=True):
        assert read_name == name
        assert torch.equal(read, tensor)


def test_each_tensor_is_written_before_the_next_one_is_made(publisher):
    alive = weakref.WeakSet()

    def one_at_a_time():
        for name, tensor in TENSORS:
            made = tensor.clone()
            alive.add(made)
            yield name, made
            del made
            assert len(alive) <= 1  # the publisher's own loop variable holds the last one

    first = publisher.publish(1, one_at_a_time())
    publisher.publish(2, TENSORS[:1])
    assert read_tensors(publisher.publish(3, one_at_a_time()))[2][1].tolist() == [0.5]
    assert os.stat(first.path).st_size == first.num_bytes == 192


def test_floats_are_cast_to_the_engines_dtype_and_integers_are_not(tmp_path):
    publisher = ShmPublisher(tmp_path / "w", torch.bfloat16)
    read = dict(read_tensors(publisher.publish(1, TENSORS)))
    assert read["a"].dtype == torch.bfloat16
    assert read["b"].dtype == torch.int64


def test_a_flipped_bit_names_its_tensor(publisher):
    manifest = publisher.publish(3, TENSORS)
    flip_one_bit(manifest.path, manifest.tensors[1].offset + 2)
    with pytest.raises(SyncError, match=r"version 3: checksum differs for 1 of 3 tensors: b$"):
        read_tensors(manifest)
    read_tensors(manifest, verify=False)  # the check and nothing else refused it


def test_a_manifest_of_an_older_publish_is_refused(publisher):
    old = publisher.publish(1, TENSORS)
    publisher.publish(2, [(name, tensor + 1) for name, tensor in TENSORS])
    with pytest.raises(SyncError, match="checksum differs for 3 of 3"):
        read_tensors(old)


def test_a_cut_off_file_is_refused(publisher):
    manifest = publisher.publish(1, TENSORS)
    with pytest.raises(SyncError, match="has 192 bytes, the manifest says 256"):
        read_tensors(replace(manifest, num_bytes=256))


def test_a_full_memory_is_an_error_and_no_signal(publisher):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**24, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            publisher.publish(1, [("a", torch.zeros(2**22)), ("b", torch.zeros(2**22))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert torch.equal(read_tensors(publisher.publish(1, [("a", torch.ones(2**22))]))[0][1], torch.ones(2**22))


def test_a_file_that_somebody_cut_off_is_whole_again_with_the_next_version(publisher):
    manifest = publisher.publish(1, TENSORS)
    os.truncate(manifest.path, 8)
    assert read_tensors(publisher.publish(2, TENSORS))[0][1].tolist() == TENSORS[0][1].tolist()


def test_a_missing_file_is_refused_and_close_removes_it(publisher):
    manifest = publisher.publish(1, TENSORS)
    publisher.close()
    with pytest.raises(PublisherLost, match="does not exist"):
        read_tensors(manifest)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="elsewhere the file has a name, and stays")
def test_nothing_is_left_of_a_publisher_that_is_killed(tmp_path):
    program = f"""
import time, torch
from r1.shm_weights import ShmPublisher
publisher = ShmPublisher({str(tmp_path / "weights")!r}, torch.float32)
print(publisher.publish(3, [("a", torch.ones(2))]), flush=True)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    manifest = eval(process.stdout.readline(), {"WeightManifest": WeightManifest, "TensorSpec": TensorSpec})
    [(_, read)] = read_tensors(manifest)
    assert list(tmp_path.iterdir()) == []
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert read.tolist() == [1.0, 1.0]  # who has mapped it keeps it
    with pytest.raises(PublisherLost, match="the learner has ended"):
        read_tensors(manifest)
