"""Several learner ranks (FSDP2 over gloo, a process each) against one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import load_tiny_model

from r1.policy import Policy
from r1.ranks import Ranks, _blocks, whole

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).resolve().parents[1]


def run_ranks(num_ranks, folder, what, *overrides):
    """Run rank_program.py on all ranks and return what the first one saved."""
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, str(ROOT / "tests/rank_program.py")]
    arguments = [str(num_ranks), str(port), str(folder), what, *overrides]
    logs = [folder / f"rank_{rank}.log" for rank in range(num_ranks)]
    processes = [
        subprocess.Popen(
            [*program, str(rank), *arguments], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.open("w")
        )
        for rank, log in enumerate(logs)
    ]
    for process in processes:  # each says when it is done, and waits for the others; one that dies says nothing
        any(line == b"done\n" for line in process.stdout)
    for process in processes:
        process.communicate(timeout=60)
    codes = [process.returncode for process in processes]
    if codes != [0] * num_ranks:
        pytest.fail("\n".join(f"rank {rank} ended with {codes[rank]}:\n{log.read_text()}" for rank, log in enumerate(logs)))
    return torch.load(folder / "result.pt", weights_only=True)


@pytest.mark.slow
def test_ranks_and_microbatches_give_one_gradient(tmp_path):
    one, two, four = (run_ranks(num_ranks, tmp_path / str(num_ranks), "gradient") for num_ranks in (1, 2, 4))
    assert [result["num_parts"] for result in (one, two, four)] == [4, 2, 1]
    size = one["gradient"].norm()
    assert size > 0
    for result in (two, four):
        assert (result["gradient"] - one["gradient"]).norm() < 1e-5 * size
        for name, value in one["metrics"].items():
            assert result["metrics"][name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


@pytest.mark.slow
def test_two_ranks_go_on_exactly_from_their_checkpoint_and_one_rank_nearly(tmp_path):
    straight = run_ranks(2, tmp_path / "straight", "train")
    checkpoint = str(tmp_path / "straight/checkpoint")
    resumed = run_ranks(2, tmp_path / "resumed", checkpoint)
    assert resumed["metrics"] == straight["metrics"]
    assert all(torch.equal(resumed["weights"][name], tensor) for name, tensor in straight["weights"].items())
    # Another number of ranks adds up in another order: the same up to rounding.
    alone = run_ranks(1, tmp_path / "alone", checkpoint)
    for name, tensor in straight["weights"].items():
        assert torch.allclose(alone["weights"][name], tensor, atol=1e-6), name


@pytest.mark.slow
def test_two_ranks_with_an_adapter_give_the_gradient_of_one_and_publish_the_same_merged_weights(tmp_path):
    one, two = (run_ranks(num_ranks, tmp_path / str(num_ranks), "gradient", "learner.lora_rank=4") for num_ranks in (1, 2))
    assert one["gradient"].numel() == 29568  # the adapter's weights alone: counted in test_r1_lora.py
    assert one["metrics"]["kl"] > 1e-6  # to the model without its adapter
    assert (two["gradient"] - one["gradient"]).norm() < 1e-5 * one["gradient"].norm()
    for name, value in one["metrics"].items():
        assert two["metrics"][name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    # Sharded weights are gathered before they are merged.
    assert two["weights"].keys() == dict(load_tiny_model().named_parameters()).keys()
    assert all(torch.equal(two["weights"][name], tensor) for name, tensor in one["weights"].items())


def test_the_layers_are_shared_out_one_by_one():
    # Each is gathered when it computes; the whole model at once would need its full memory on every rank.
    layers = load_tiny_model().model.layers
    assert [type(block).__name__ for block in _blocks(Policy(load_tiny_model()))] == ["LlamaDecoderLayer"] * len(layers)


def test_one_rank_needs_no_group():
    ranks, model = Ranks(), torch.nn.Linear(2, 2)
    assert ranks.sum({"a": 1.5}) == ranks.max({"a": 1.5}) == {"a": 1.5}
    assert ranks.shard(model, torch.device("cpu")) is model
    assert whole(model.weight) is model.weight
    assert not torch.distributed.is_initialized()
