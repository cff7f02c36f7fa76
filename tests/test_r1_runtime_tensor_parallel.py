"""An engine of two processes in a rollout worker: the same log-probabilities, verified syncs, and nothing left behind."""

import signal
import time
from pathlib import Path

import psutil
import pytest
import ray
import torch
from tiny import load_tiny_model, mean_difference, prompt_batch, tiny_config

from r1.errors import SyncError
from r1.faults import FaultLog
from r1.runtime.cluster import connected
from r1.runtime.placement import placed
from r1.runtime.rollout_pool import RolloutPool
from r1.shm_weights import ShmPublisher
from r1.sync_tensors import sync_tensors

pytestmark = [pytest.mark.slow, pytest.mark.ray]


def processes_of(pool):
    return psutil.Process(pool.workers["rollout worker 0"].at.pid).children(recursive=True)


def computing(children):
    return [child for child in children if "VLLM" in " ".join(child.cmdline())]


def shared_files():
    """Through which vLLM's processes talk."""
    return {path.name for pattern in ("psm_*", "sem.mp-*") for path in Path("/dev/shm").glob(pattern)}


def wait_until_gone(children):
    end = time.monotonic() + 20
    while alive := [c.pid for c in children if c.is_running() and c.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < end, alive
        time.sleep(0.1)


def test_two_processes_are_one_rollout_worker(tmp_path):
    config = tiny_config("rollout.tensor_parallel_size=2", "num_threads=1")
    shared_before, faults = shared_files(), FaultLog()
    publisher = ShmPublisher(tmp_path / "weights", torch.float32)
    model = load_tiny_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.02)
    with connected(3), placed(config, lambda text: None) as placement:
        pool = RolloutPool(config, placement.rollout, faults)
        pool.wait_until_ready()
        pool.load_weights(publisher.publish(0, sync_tensors(load_tiny_model())))

        def sample(version):
            batch = prompt_batch(["12+34=", "5+6="], policy_version=version, step=version + 1)
            pool.submit(batch)
            return list(pool.collect(batch))

        assert mean_difference(load_tiny_model(), sample(0)) < 1e-5
        pool.pause()
        pool.load_weights(publisher.publish(1, sync_tensors(model)))  # each process proves its share
        assert mean_difference(model, sample(1)) < 1e-5

        # Other bytes in the file: each process must see that its share is not them.
        publisher.publish(1, sync_tensors(load_tiny_model()))
        with pytest.raises(SyncError, match="layers compute with other weights than the published ones: model.embed_tokens, "):
            ray.get(pool.workers["rollout worker 0"].handle.verify_weights.remote(), timeout=60)
        publisher.publish(1, sync_tensors(model))

        # One of the two dies: the worker is of no use any more, and replaced.
        children = processes_of(pool)
        next(iter(computing(children))).kill()
        assert mean_difference(model, sample(1)) < 1e-5
        assert "it is replaced" in faults.faults[0].text
        wait_until_gone(children)
        # At the end one is stopped: it never hears that its parent is gone.
        children = processes_of(pool)
        assert len(computing(children)) == 2
        computing(children)[0].send_signal(signal.SIGSTOP)
    wait_until_gone(children)
    assert shared_files() <= shared_before
