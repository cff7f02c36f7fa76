"""Expected values are worked out by hand in the comments."""

import math

import pytest
import torch

from r1.algorithm.advantages import grpo
from r1.algorithm.aggregation import BatchCounts, constant, sequence_mean, token_mean
from r1.algorithm.kl import k3
from r1.algorithm.logprobs import token_logprobs
from r1.algorithm.losses import LossInputs, LossOptions, clip


def inputs(policy, old, advantages, mask):
    return LossInputs(
        policy_logprobs_BT=torch.tensor(policy, requires_grad=True),
        old_logprobs_BT=torch.tensor(old),
        advantages_BT=torch.tensor(advantages),
        loss_mask_BT=torch.tensor(mask),
    )


OPTIONS = LossOptions(clip_low=0.2, clip_high=0.3)


def test_grpo_divides_by_the_sample_standard_deviation():
    # mean 0.25; squared deviations 0.5625 + 3 x 0.0625 = 0.75; / 3 = 0.25; std 0.5.
    # (1 - 0.25) / 0.500001 = 1.499997, (0 - 0.25) / 0.500001 = -0.499999
    assert grpo([[1.0, 0.0, 0.0, 0.0]])[0] == pytest.approx([1.499997, -0.499999, -0.499999, -0.499999], abs=1e-6)


def test_grpo_is_zero_where_all_rewards_are_equal():
    # 0.1 + 0.1 + 0.1 is not exactly 0.3 in binary: comparing with a mean would leave rubbish that 1 / 1e-6 blows up.
    assert grpo([[0.1, 0.1, 0.1]]) == [[0.0, 0.0, 0.0]]


def test_grpo_leaves_samples_without_reward_out_of_the_baseline():
    # Known rewards 1 and 0: mean 0.5, std sqrt(0.5) = 0.70711; +-0.5 / 0.70711 = +-0.70711. With None as 0 the mean were 1/3.
    assert grpo([[1.0, None, 0.0]])[0] == pytest.approx([0.70711, 0.0, -0.70711], abs=1e-5)


def test_grpo_needs_two_known_rewards():
    assert grpo([[1.0, None, None]]) == [[0.0, 0.0, 0.0]]


def test_clip_takes_the_smaller_objective():
    # ratio: exp(log 1.5) = 1.5, twice; exp(log 0.5) = 0.5, twice. Bounds 0.8 and 1.3.
    # A = +1, ratio 1.5: min(1.5, 1.3) = 1.3     A = -1, ratio 1.5: min(-1.5, -1.3) = -1.5
    # A = +1, ratio 0.5: min(0.5, 0.8) = 0.5     A = -1, ratio 0.5: min(-0.5, -0.8) = -0.8
    up, down = math.log(1.5), math.log(0.5)
    output = clip(inputs([[up, up, down, down]], [[0.0] * 4], [[1.0, -1.0, 1.0, -1.0]], [[True] * 4]), OPTIONS)
    assert output.loss_BT.tolist()[0] == pytest.approx([-1.3, 1.5, -0.5, 0.8])
    assert output.metrics_BT["clip_high_share"].tolist() == [[1.0, 0.0, 0.0, 0.0]]
    assert output.metrics_BT["clip_low_share"].tolist() == [[0.0, 0.0, 0.0, 1.0]]


def test_clip_on_policy_has_the_policy_gradient():
    # ratio 1: the gradient of -ratio A with respect to the log-probability is -A.
    batch = inputs([[-1.0, -2.0]], [[-1.0, -2.0]], [[2.0, -3.0]], [[True, True]])
    clip(batch, OPTIONS).loss_BT.sum().backward()
    assert batch.policy_logprobs_BT.grad.tolist() == [[-2.0, 3.0]]


def test_clip_stops_the_gradient_beyond_the_bound():
    # A = +1 at ratio 1.5 > 1.3: the clipped branch is constant.
    batch = inputs([[math.log(1.5)]], [[0.0]], [[1.0]], [[True]])
    clip(batch, OPTIONS).loss_BT.sum().backward()
    assert batch.policy_logprobs_BT.grad.tolist() == [[0.0]]


def test_garbage_under_the_mask_gives_no_nan():
    # exp(200) overflows; multiplied by 0 afterwards it would be NaN in the gradient.
    batch = inputs([[200.0, -1.0]], [[-300.0, -1.0]], [[1.0, 1.0]], [[False, True]])
    loss = clip(batch, OPTIONS).loss_BT
    loss.sum().backward()
    assert loss.tolist() == [[0.0, -1.0]]
    assert batch.policy_logprobs_BT.grad.tolist() == [[0.0, -1.0]]


def test_inputs_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        inputs([[0.0]], [[0.0, 0.0]], [[1.0]], [[True]])


MASK = torch.tensor([[True, True, True, False], [True, False, False, False]])
COUNTS = BatchCounts(num_sequences=2, num_loss_tokens=4, max_completion_tokens=8)


@pytest.mark.parametrize(
    ("aggregation", "long_row", "short_row"),
    [
        (sequence_mean, 1 / 6, 1 / 2),  # 1 / (2 sequences x 3 tokens), 1 / (2 x 1)
        (token_mean, 1 / 4, 1 / 4),  # 1 / 4 tokens
        (constant, 1 / 16, 1 / 16),  # 1 / (2 sequences x 8)
    ],
)
def test_aggregation_weights(aggregation, long_row, short_row):
    weights = aggregation(MASK, COUNTS)
    assert weights[0].tolist() == pytest.approx([long_row] * 3 + [0.0])
    assert weights[1].tolist() == pytest.approx([short_row, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("aggregation", [sequence_mean, token_mean, constant])
def test_aggregation_weights_do_not_depend_on_the_split(aggregation):
    whole = aggregation(MASK, COUNTS)
    # The second row alone is also cut to its own width, as another micro-batch would be.
    assert torch.equal(aggregation(MASK[:1], COUNTS), whole[:1])
    assert torch.equal(aggregation(MASK[1:, :1], COUNTS), whole[1:, :1])


def test_k3_by_hand():
    # d = ref - policy = log 2: exp(d) - d - 1 = 2 - 0.6931 - 1 = 0.3069; d = 0 gives 0.
    assert k3(torch.tensor([[0.0, -1.0]]), torch.tensor([[math.log(2), -1.0]])).tolist()[0] == pytest.approx([0.306853, 0.0])


def test_token_logprobs_by_hand_at_a_temperature():
    # One hidden number h = 1, output weights (0, log 3): logits (0, log 3), divided by T = 0.5: (0, log 9).
    # softmax = (1/10, 9/10); entropy = 0.1 log 10 + 0.9 log(10/9) = 0.32508
    hidden, head = torch.tensor([[1.0], [1.0]]), torch.tensor([[0.0], [math.log(3)]])
    logprobs, entropies = token_logprobs(hidden, head, torch.tensor([0, 1]), temperature=0.5)
    assert logprobs.tolist() == pytest.approx([math.log(0.1), math.log(0.9)], abs=1e-6)
    assert entropies.tolist() == pytest.approx([0.32508, 0.32508], abs=1e-5)


def test_token_logprobs_are_the_same_in_chunks(monkeypatch):
    hidden = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    head = torch.randn(7, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    labels = torch.arange(10) % 7
    whole = token_logprobs(hidden, head, labels, 1.0)[0]
    [gradient] = torch.autograd.grad(whole.sum(), head)
    monkeypatch.setattr("r1.algorithm.logprobs.CHUNK_TOKENS", 3)
    parts = token_logprobs(hidden, head, labels, 1.0)[0]
    assert torch.allclose(parts, whole, atol=1e-6)
    assert torch.allclose(torch.autograd.grad(parts.sum(), head)[0], gradient, atol=1e-5)
