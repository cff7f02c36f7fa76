"""Expected values are worked out by hand in the comments."""

import math
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from r1.algorithm.logprobs import token_logprobs


def random_case(num_tokens, vocabulary=7, width=4, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(num_tokens, width, generator=generator, dtype=dtype).requires_grad_()
    head = torch.randn(vocabulary, width, generator=generator, dtype=dtype).requires_grad_()
    return hidden, head, torch.arange(num_tokens) % vocabulary


def logits_with(head):
    return lambda hidden: (hidden @ head.T).float()


def test_by_hand_at_a_temperature():
    # One hidden number h = 1, output weights (0, log 3): logits (0, log 3), divided by T = 0.5: (0, log 9).
    # softmax = (1/10, 9/10); entropy = 0.1 log 10 + 0.9 log(10/9) = 0.32508
    hidden, head = torch.tensor([[1.0], [1.0]]), torch.tensor([[0.0], [math.log(3)]])
    for entropy_gradient in (False, True):
        logprobs, entropies = token_logprobs(
            hidden, logits_with(head), torch.tensor([0, 1]), 0.5, entropy_gradient=entropy_gradient
        )
        assert logprobs.tolist() == pytest.approx([math.log(0.1), math.log(0.9)], abs=1e-6)
        assert entropies.tolist() == pytest.approx([0.32508, 0.32508], abs=1e-5)


@pytest.mark.parametrize("entropy_gradient", [False, True])
def test_chunks_give_the_values_and_gradients_of_the_whole(monkeypatch, entropy_gradient):
    hidden, head, labels = random_case(10)

    def run():
        logprobs, entropies = token_logprobs(hidden, logits_with(head), labels, 0.7, entropy_gradient=entropy_gradient)
        loss = (logprobs * torch.arange(10)).sum() - (2.0 * entropies).sum()
        return logprobs, entropies, *torch.autograd.grad(loss, [hidden, head])

    whole = run()
    monkeypatch.setattr("r1.algorithm.logprobs.CHUNK_TOKENS", 3)
    for ours, expected in zip(run(), whole, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_the_entropy_gradient_is_that_of_the_formula():
    # H = -sum p log p with p = softmax(z): dH/dz_v = -p_v (log p_v + H), and z = h W^T / T.
    hidden, head, labels = random_case(3)
    _, entropies = token_logprobs(hidden, logits_with(head), labels, 0.5, entropy_gradient=True)
    [ours] = torch.autograd.grad(entropies.sum(), hidden)
    with torch.no_grad():
        logp = torch.log_softmax(hidden @ head.T / 0.5, -1)
        entropy = -(logp.exp() * logp).sum(-1, keepdim=True)
        expected = (-logp.exp() * (logp + entropy)) @ head / 0.5
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    assert expected.norm() > 0.1


def test_entropies_carry_no_gradient_unless_asked():
    hidden, head, labels = random_case(3)
    assert not token_logprobs(hidden, logits_with(head), labels, 1.0)[1].requires_grad
    assert token_logprobs(hidden, logits_with(head), labels, 1.0, entropy_gradient=True)[1].requires_grad
    with torch.no_grad():
        assert not token_logprobs(hidden, logits_with(head), labels, 1.0, entropy_gradient=True)[1].requires_grad


@pytest.mark.parametrize("entropy_gradient", [False, True])
def test_no_tokens_give_empty_results_and_a_zero_gradient(entropy_gradient):
    hidden, head, labels = random_case(0)
    logprobs, entropies = token_logprobs(hidden, logits_with(head), labels, 1.0, entropy_gradient=entropy_gradient)
    assert logprobs.shape == entropies.shape == (0,)
    (logprobs.sum() + entropies.sum()).backward()
    assert head.grad.tolist() == torch.zeros_like(head).tolist()


class LogitsAlive(TorchDispatchMode):
    """Counts the rows of float32 [n, V] tensors that are alive at the same time, forward and backward."""

    def __init__(self, vocabulary):
        super().__init__()
        self.vocabulary, self.alive, self.peak, self.longest = vocabulary, 0, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.ndim == 2 and tensor.shape[1] == self.vocabulary:
                self.longest = max(self.longest, tensor.shape[0])
                self.alive += tensor.shape[0]
                self.peak = max(self.peak, self.alive)
                weakref.finalize(tensor, self.forget, tensor.shape[0])
        return result

    def forget(self, rows):
        self.alive -= rows


@pytest.mark.parametrize("entropy_gradient", [False, True])
def test_logits_of_one_chunk_are_alive_at_a_time(monkeypatch, entropy_gradient):
    monkeypatch.setattr("r1.algorithm.logprobs.CHUNK_TOKENS", 8)
    peaks = []
    for num_tokens in (16, 80):  # two chunks and ten
        hidden, head, labels = random_case(num_tokens, vocabulary=53)
        with LogitsAlive(53) as watch:
            logprobs, entropies = token_logprobs(hidden, logits_with(head), labels, 1.0, entropy_gradient=entropy_gradient)
            (logprobs.sum() - entropies.sum()).backward()
        assert watch.longest == 8
        peaks.append(watch.peak)
    assert 8 < peaks[0] == peaks[1] < 80


def test_shapes_are_refused():
    hidden, head, labels = random_case(3)
    for wrong_hidden, wrong_labels in ((hidden[0], labels), (hidden, labels[:2])):
        with pytest.raises(ValueError, match=r"want \[N, D\]"):
            token_logprobs(wrong_hidden, logits_with(head), wrong_labels, 1.0)
