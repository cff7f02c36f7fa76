"""Expected values are worked out by hand in the comments."""

import math

import pytest
import torch

from r1.algorithm import CORRECTIONS
from r1.algorithm.importance import effective_share, mismatch_metrics, weight_metrics

# Ratios exp(old - rollout): row 0: 4, 0.5 and 1; row 1: 1.5 and 1.5, then padding; row 2 is fully masked.
OLD = torch.tensor([[math.log(4), math.log(0.5), 0.0], [math.log(1.5), math.log(1.5), 0.0], [0.0, 0.0, 0.0]])
ROLLOUT = torch.zeros(3, 3)
MASK = torch.tensor([[True, True, True], [True, True, False], [False, False, False]])


@pytest.mark.parametrize(
    ("name", "cap", "expected"),
    [
        ("none", 2.0, [[1, 1, 1], [1, 1, 0]]),
        ("token_truncate", 2.0, [[2, 0.5, 1], [1.5, 1.5, 0]]),  # min(k, 2)
        ("token_truncate", 1.2, [[1.2, 0.5, 1], [1.2, 1.2, 0]]),
        ("sequence_truncate", 5.0, [[2, 2, 2], [2.25, 2.25, 0]]),  # 4 x 0.5 x 1 = 2, 1.5 x 1.5 = 2.25
        ("sequence_truncate", 2.1, [[2, 2, 2], [2.1, 2.1, 0]]),
        ("token_mask", 3.0, [[0, 0.5, 1], [1.5, 1.5, 0]]),  # 4 > 3 goes; 0.5 > 1/3 stays, as it is
        ("token_mask", 1.9, [[0, 0, 1], [1.5, 1.5, 0]]),  # 0.5 < 1/1.9 = 0.526 goes as well
        ("sequence_mask", 1.6, [[1, 1, 1], [1, 1, 0]]),  # geometric means 2^(1/3) = 1.26 and 1.5; weight 1, not the ratio
        ("sequence_mask", 1.4, [[1, 1, 1], [0, 0, 0]]),
        ("sequence_mask", 1.2, [[0, 0, 0], [0, 0, 0]]),
    ],
)
def test_weights_by_hand(name, cap, expected):
    weights = CORRECTIONS[name](OLD, ROLLOUT, MASK, cap)
    torch.testing.assert_close(weights, torch.tensor([*expected, [0, 0, 0]], dtype=torch.float32))


def test_sequence_mask_is_two_sided():
    # Geometric mean 0.5 < 1 / 1.5
    old, rollout, mask = torch.full((1, 4), math.log(0.5)), torch.zeros(1, 4), torch.ones(1, 4, dtype=torch.bool)
    assert CORRECTIONS["sequence_mask"](old, rollout, mask, 1.5).tolist() == [[0.0] * 4]
    assert CORRECTIONS["sequence_mask"](old, rollout, mask, 2.5).tolist() == [[1.0] * 4]


@pytest.mark.parametrize("name", CORRECTIONS)
def test_weights_are_one_where_engine_and_learner_agree(name):
    assert torch.equal(CORRECTIONS[name](OLD, OLD, MASK, 1.0), MASK.float())


@pytest.mark.parametrize("name", CORRECTIONS)
def test_weights_carry_no_gradient(name):
    old = OLD.clone().requires_grad_()
    assert not CORRECTIONS[name](old, ROLLOUT, MASK, 2.0).requires_grad


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 300.0])
@pytest.mark.parametrize("name", CORRECTIONS)
def test_garbage_under_the_mask_changes_nothing(name, garbage):
    dirty = torch.where(MASK, OLD, garbage)
    clean = CORRECTIONS[name](OLD, ROLLOUT, MASK, 2.0)
    assert torch.equal(CORRECTIONS[name](dirty, ROLLOUT, MASK, 2.0), clean)
    assert torch.equal(CORRECTIONS[name](OLD, torch.where(MASK, ROLLOUT, garbage), MASK, 2.0), clean)
    dirty_metrics = mismatch_metrics(dirty, ROLLOUT, MASK)
    assert all(torch.equal(dirty_metrics[key], value) for key, value in mismatch_metrics(OLD, ROLLOUT, MASK).items())


def test_a_huge_ratio_is_capped_or_left_out():
    # exp(500) is inf in float32.
    old, mask = torch.full((1, 5), 100.0), torch.ones(1, 5, dtype=torch.bool)
    expected = {"none": 1.0, "token_truncate": 2.0, "sequence_truncate": 2.0, "token_mask": 0.0, "sequence_mask": 0.0}
    for name, correction in CORRECTIONS.items():
        assert correction(old, torch.zeros(1, 5), mask, 2.0).tolist() == [[expected[name]] * 5]


@pytest.mark.parametrize("name", CORRECTIONS)
def test_permuting_and_splitting_rows_changes_nothing(name):
    weights = CORRECTIONS[name](OLD, ROLLOUT, MASK, 2.0)
    order = torch.tensor([2, 0, 1])
    assert torch.equal(CORRECTIONS[name](OLD[order], ROLLOUT[order], MASK[order], 2.0), weights[order])
    assert torch.equal(CORRECTIONS[name](OLD[1:2, :2], ROLLOUT[1:2, :2], MASK[1:2, :2], 2.0), weights[1:2, :2])


@pytest.mark.parametrize("name", CORRECTIONS)
def test_shapes_and_types_are_refused(name):
    correction = CORRECTIONS[name]
    with pytest.raises(ValueError, match="one shape"):
        correction(OLD, ROLLOUT[:, :1], MASK, 2.0)
    with pytest.raises(ValueError, match="bool"):
        correction(OLD, ROLLOUT, MASK.float(), 2.0)
    with pytest.raises(ValueError, match="float32"):
        correction(OLD.bfloat16(), ROLLOUT, MASK, 2.0)


@pytest.mark.parametrize("cap", [0.5, 0.0, math.nan])
@pytest.mark.parametrize("name", [name for name in CORRECTIONS if name != "none"])
def test_a_cap_below_one_is_refused(name, cap):
    with pytest.raises(ValueError, match="at least 1"):
        CORRECTIONS[name](OLD, ROLLOUT, MASK, cap)


def test_mismatch_metrics_by_hand():
    # d = log 4 = 1.386294: k3 = 4 - 1.386294 - 1 = 1.613706; d = -log 2: 0.5 + 0.693147 - 1 = 0.193147
    metrics = mismatch_metrics(OLD, ROLLOUT, MASK)
    assert metrics["mismatch"].tolist()[0] == pytest.approx([1.386294, 0.693147, 0.0], abs=1e-6)
    assert metrics["mismatch_max"].tolist()[0] == pytest.approx([1.386294, 0.693147, 0.0], abs=1e-6)
    assert metrics["mismatch_kl"].tolist()[0] == pytest.approx([1.613706, 0.193147, 0.0], abs=1e-6)


def test_effective_share_by_hand():
    weights = CORRECTIONS["token_mask"](OLD, ROLLOUT, MASK, 3.0)[:2]
    metrics = weight_metrics(weights, MASK[:2])
    assert metrics["correction_zero_share"].tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    # Weights 0, 0.5, 1, 1.5, 1.5: sum 4.5, squares 0.25 + 1 + 2.25 + 2.25 = 5.75; 4.5^2 / (5 x 5.75) = 0.704348
    means = [metrics[name][MASK[:2]].mean().item() for name in ("correction_weight", "correction_weight_square")]
    assert effective_share(*means) == pytest.approx(0.704348, abs=1e-6)
    assert effective_share(1.0, 1.0) == 1.0
    assert effective_share(0.0, 0.0) == 0.0
    with pytest.raises(ValueError, match="one shape"):
        weight_metrics(weights, MASK)
