"""Peak memory of forward and backward over 4,096 tokens: our log-probabilities against logits for all of them."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from r1.policy_model import label_logprobs
from r1.runtime.cluster import environment

ROWS, COLUMNS = 16, 256  # 4,096 tokens
NUM_LAYERS = 6
"""Of SmolLM2's 30: the other 24 take a minute to compute, and the same memory with and without chunks."""
LEFT_OUT = 24 * 4 * (3_540_096 + ROWS * COLUMNS * 576) / 2**30
"""GiB of those 24: the gradient of each one's weights, and its input, which checkpointing keeps. (Measured: 0.55 and 0.41.)"""


def smollm2():
    """Random weights in the shape of SmolLM2-135M, whose files are not part of the repository, with fewer layers."""
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).train()
    # Or the activations of the layers would be most of both peaks.
    model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def unchunked_logprobs(model, token_ids, labels):
    logits = model(input_ids=token_ids, use_cache=False).logits.float()
    return torch.log_softmax(logits, -1).gather(2, labels[..., None])[..., 0]


def chunked_logprobs(model, token_ids, labels):
    return label_logprobs(model, token_ids, labels, torch.ones_like(labels, dtype=torch.bool), 1.0)[0]


def print_peak(which):
    """Run in a child process: ru_maxrss never falls again. Prints KiB above the model's own."""
    torch.manual_seed(0)
    model = smollm2()
    token_ids, labels = torch.randint(0, 49152, (2, ROWS, COLUMNS))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    logprobs = (chunked_logprobs if which == "chunked" else unchunked_logprobs)(model, token_ids, labels)
    logprobs.sum().backward()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_less_than_half_the_memory_of_unchunked_logits():
    peaks = {}
    for which in ("chunked", "unchunked"):
        path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)])
        child = subprocess.run(
            [sys.executable, "-c", f"import test_r1_memory; test_r1_memory.print_peak({which!r})"],
            # The learner's own: without large pages the peak is 2.6 GiB, of which most is freed memory that glibc kept.
            env={**os.environ, "PYTHONPATH": path, **environment(num_threads=2)["env_vars"]},
            capture_output=True,
            text=True,
            check=True,
        )
        peaks[which] = int(child.stdout) / 2**20
    # The logits alone are 4,096 x 49,152 x 4 bytes = 0.75 GiB, their log-softmax and both gradients as much again.
    assert peaks["chunked"] > 0.2, peaks
    assert peaks["chunked"] + LEFT_OUT < 0.5 * (peaks["unchunked"] + LEFT_OUT), peaks
