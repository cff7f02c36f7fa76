"""Expected values are worked out by hand in the comments."""

import math

import pytest
import torch

from r1.algorithm import KL_ESTIMATORS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # log r = ref - policy = log 2, -log 2, 0.
        ("k1", [-0.693147, 0.693147, 0.0]),
        ("k2", [0.240227, 0.240227, 0.0]),  # 0.693147^2 / 2
        ("k3", [0.306853, 0.193147, 0.0]),  # 2 - 1 - 0.693147, 0.5 - 1 + 0.693147
    ],
)
def test_kl_by_hand(name, expected):
    policy, ref = torch.tensor([[-1.0, -1.0, -1.0]]), torch.tensor([[-1 + math.log(2), -1 - math.log(2), -1.0]])
    assert KL_ESTIMATORS[name](policy, ref).tolist()[0] == pytest.approx(expected, abs=1e-6)


def exact_kl(p_logits, q_logits):
    p, q = torch.log_softmax(p_logits, -1), torch.log_softmax(q_logits, -1)
    return (p.exp() * (p - q)).sum()


@pytest.mark.parametrize(
    ("name", "unbiased", "gradient"),
    [
        ("k1", True, "none"),
        ("k2", False, "KL(policy || reference)"),
        ("k3", True, "KL(reference || policy)"),
    ],
)
def test_expectation_of_value_and_gradient(name, unbiased, gradient):
    # A vocabulary of 5, summed over instead of sampled: the expectations are exact.
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, generator=generator, dtype=torch.float64).requires_grad_()
    ref_logits = torch.randn(5, generator=generator, dtype=torch.float64)
    logprobs = torch.log_softmax(logits, -1)
    values = KL_ESTIMATORS[name](logprobs[None], torch.log_softmax(ref_logits, -1)[None])[0]
    expectation = (logprobs.exp().detach() * values).sum()
    assert (abs(expectation.item() - exact_kl(logits, ref_logits).item()) < 1e-12) == unbiased
    [ours] = torch.autograd.grad(expectation, logits)
    kl = {
        "none": 0 * logits.sum(),
        "KL(policy || reference)": exact_kl(logits, ref_logits),
        "KL(reference || policy)": exact_kl(ref_logits, logits),
    }
    [theirs] = torch.autograd.grad(kl[gradient], logits)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    assert (theirs.norm() > 0.1) == (gradient != "none")


@pytest.mark.parametrize("name", KL_ESTIMATORS)
def test_equal_policies_have_no_kl(name):
    policy = torch.tensor([[-1.0, -2.5]], requires_grad=True)
    kl = KL_ESTIMATORS[name](policy, policy.detach())
    assert kl.tolist() == [[0.0, 0.0]]
    kl.sum().backward()
    assert policy.grad.tolist() == ([[1.0, 1.0]] if name == "k1" else [[0.0, 0.0]])


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 300.0])
@pytest.mark.parametrize("name", KL_ESTIMATORS)
def test_garbage_under_the_mask_gives_no_nan(name, garbage):
    for policy_value, ref_value in ((garbage, -1.0), (-1.0, garbage)):
        policy = torch.tensor([[-1.0, policy_value]], requires_grad=True)
        kl = KL_ESTIMATORS[name](policy, torch.tensor([[-1.5, ref_value]]), torch.tensor([[True, False]]))
        kl.sum().backward()
        assert kl[0, 1] == 0
        assert kl[0, 0] != 0
        assert policy.grad[0, 1] == 0
        assert policy.grad.isfinite().all()


@pytest.mark.parametrize("name", KL_ESTIMATORS)
def test_shapes_and_types_are_refused(name):
    estimator, good = KL_ESTIMATORS[name], torch.zeros(2, 3)
    with pytest.raises(ValueError, match="one shape"):
        estimator(good, torch.zeros(2, 1))
    with pytest.raises(ValueError, match="one shape"):
        estimator(good, good, torch.ones(2, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match="bool"):
        estimator(good, good, torch.ones(2, 3))
    with pytest.raises(ValueError, match="float32"):
        estimator(good.bfloat16(), good)
