"""Expected values are worked out by hand in the comments; test_r1_algorithm_reference.py compares with another version."""

import math

import pytest
import torch

from r1.algorithm import LOSSES
from r1.algorithm.losses import LossInputs, LossOptions, cispo, clip, dual_clip, gspo, reinforce


def inputs(policy, old, advantages, mask):
    return LossInputs(
        policy_logprobs_BT=torch.tensor(policy, requires_grad=True),
        old_logprobs_BT=torch.tensor(old),
        advantages_BT=torch.tensor(advantages),
        loss_mask_BT=torch.tensor(mask),
    )


OPTIONS = LossOptions(clip_low=0.2, clip_high=0.3)
UP, DOWN = math.log(1.5), math.log(0.5)


def one_row(log_ratios, advantages):
    return inputs([log_ratios], [[0.0] * len(log_ratios)], [advantages], [[True] * len(log_ratios)])


def gradient(loss, batch, options=OPTIONS):
    loss(batch, options).loss_BT.sum().backward()
    return batch.policy_logprobs_BT.grad.tolist()


def flat(rows):
    return [value for row in rows for value in row]


def test_clip_takes_the_smaller_objective():
    # ratio: exp(log 1.5) = 1.5, twice; exp(log 0.5) = 0.5, twice. Bounds 0.8 and 1.3.
    # A = +1, ratio 1.5: min(1.5, 1.3) = 1.3     A = -1, ratio 1.5: min(-1.5, -1.3) = -1.5
    # A = +1, ratio 0.5: min(0.5, 0.8) = 0.5     A = -1, ratio 0.5: min(-0.5, -0.8) = -0.8
    output = clip(one_row([UP, UP, DOWN, DOWN], [1.0, -1.0, 1.0, -1.0]), OPTIONS)
    assert output.loss_BT.tolist()[0] == pytest.approx([-1.3, 1.5, -0.5, 0.8])
    assert output.metrics_BT["clip_high_share"].tolist() == [[1.0, 0.0, 0.0, 0.0]]
    assert output.metrics_BT["clip_low_share"].tolist() == [[0.0, 0.0, 0.0, 1.0]]


def test_clip_stops_the_gradient_beyond_the_bound():
    # Where the clipped branch is taken it is constant; else the gradient is -ratio A.
    batch = one_row([UP, UP, DOWN, DOWN], [1.0, -1.0, 1.0, -1.0])
    assert gradient(clip, batch)[0] == pytest.approx([0.0, 1.5, -0.5, 0.0])


def test_dual_clip_bounds_the_loss_of_negative_advantages():
    # c = 3. A = -2, ratio 5: min(-10, -2.6) = -10, max(-10, -6) = -6, loss 6, flat.
    # A = -2, ratio 2: min(-4, -2.6) = -4, max(-4, -6) = -4, loss 4, gradient -ratio A = 4.
    # A = +2, ratio 5: min(10, 2.6) = 2.6, loss -2.6; dual clip is for A < 0 alone.
    options = LossOptions(clip_low=0.2, clip_high=0.3)
    batch = one_row([math.log(5), math.log(2), math.log(5)], [-2.0, -2.0, 2.0])
    output = dual_clip(batch, options)
    assert output.loss_BT.tolist()[0] == pytest.approx([6.0, 4.0, -2.6])
    assert output.metrics_BT["dual_clip_share"].tolist() == [[1.0, 0.0, 0.0]]
    assert output.metrics_BT["clip_high_share"].tolist() == [[0.0, 0.0, 1.0]]
    assert gradient(dual_clip, batch, options)[0] == pytest.approx([0.0, 4.0, 0.0])
    assert clip(batch, options).loss_BT.tolist()[0] == pytest.approx([10.0, 4.0, -2.6])


def test_gspo_has_one_ratio_for_a_completion():
    # Row 0: log ratios log 4 and 0, mean log 2, s = 2 (the mean of the ratios were 2.5). A = -1: min(-2, -1.3) = -2, loss 2.
    # Row 1: one token that counts, s = exp(log 0.9) = 0.9, within 0.8 .. 1.3; A = 1: loss -0.9.
    batch = inputs(
        [[math.log(4), 0.0], [math.log(0.9), 9.0]], [[0.0, 0.0]] * 2, [[-1.0, -1.0], [1.0, 1.0]], [[True, True], [True, False]]
    )
    output = gspo(batch, OPTIONS)
    assert output.loss_BT.flatten().tolist() == pytest.approx([2.0, 2.0, -0.9, 0.0])
    assert output.metrics_BT["ratio"].flatten().tolist() == pytest.approx([2.0, 2.0, 0.9, 0.0])
    # Row 0: the sum of two equal losses s_i, each of gradient s / |y| = 2 / 2 for each token: 2 x 1. Row 1: -0.9.
    assert flat(gradient(gspo, batch)) == pytest.approx([2.0, 2.0, -0.9, 0.0])


def test_gspo_clips_whole_completions():
    # Row 0: mean log ratio log 1.5, A = 1: clipped at 1.3, no gradient, though its second token has ratio 1.
    # Row 1: mean log 0.5, A = -1: clipped at 0.8.
    batch = inputs([[2 * UP, 0.0], [2 * DOWN, 0.0]], [[0.0, 0.0]] * 2, [[1.0, 1.0], [-1.0, -1.0]], [[True, True]] * 2)
    output = gspo(batch, OPTIONS)
    assert output.loss_BT.flatten().tolist() == pytest.approx([-1.3, -1.3, 0.8, 0.8])
    assert output.metrics_BT["clip_high_share"].tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert output.metrics_BT["clip_low_share"].tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert gradient(gspo, batch) == [[0.0, 0.0], [0.0, 0.0]]


def test_cispo_clips_the_weight_and_keeps_the_gradient():
    # old = -1. policy = -1 + log 1.5, -1 + log 0.5: weights min(1.5, 1.3) = 1.3 and 0.5 (no lower bound).
    # loss = -1.3 x 2 x (-1 + 0.405465) = 1.545791;  -0.5 x -1 x (-1 - 0.693147) = -0.846574
    # gradient = -weight A: -2.6 and 0.5
    batch = inputs([[-1 + UP, -1 + DOWN]], [[-1.0, -1.0]], [[2.0, -1.0]], [[True, True]])
    output = cispo(batch, OPTIONS)
    assert output.loss_BT.tolist()[0] == pytest.approx([1.545791, -0.846574], abs=1e-6)
    assert gradient(cispo, batch)[0] == pytest.approx([-2.6, 0.5])
    assert output.metrics_BT["clip_high_share"].tolist() == [[1.0, 0.0]]
    assert "clip_low_share" not in output.metrics_BT


def test_cispo_does_not_read_clip_low():
    batch = inputs([[-1 + DOWN]], [[-1.0]], [[1.0]], [[True]])
    losses = [cispo(batch, LossOptions(clip_low=low, clip_high=0.3)).loss_BT.item() for low in (0.0, 0.2, 1.0)]
    assert losses[0] == losses[1] == losses[2]


def test_reinforce_is_minus_advantage_times_logprob():
    # -2 x -1.5 = 3, -(-3) x -0.5 = -1.5; gradient -A, whatever old is.
    batch = inputs([[-1.5, -0.5]], [[-9.0, 0.0]], [[2.0, -3.0]], [[True, True]])
    assert reinforce(batch, OPTIONS).loss_BT.tolist() == [[3.0, -1.5]]
    assert gradient(reinforce, batch) == [[-2.0, 3.0]]


@pytest.mark.parametrize("name", LOSSES)
def test_on_policy_every_loss_has_the_policy_gradient(name):
    # ratio 1: the gradient of each completion's summed loss is -A per token. Also the sign: A > 0 makes tokens likelier.
    batch = inputs(
        [[-1.0, -2.0], [-0.5, -0.1]], [[-1.0, -2.0], [-0.5, -0.1]], [[2.0, 2.0], [-3.0, -3.0]], [[True, True], [True, False]]
    )
    assert flat(gradient(LOSSES[name], batch)) == pytest.approx([-2.0, -2.0, 3.0, 0.0])


@pytest.mark.parametrize("name", LOSSES)
def test_metrics_of_all_losses(name):
    # Log ratios log 1.5 and log 0.5: k3 = 1.5 - 0.405465 - 1 = 0.094535 and 0.5 + 0.693147 - 1 = 0.193147; 0 under the mask.
    # Ratios 1.5 and 0.5; gspo's is sqrt(1.5 x 0.5) = 0.866025 for both.
    batch = inputs([[UP, DOWN, 5.0]], [[0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]], [[True, True, False]])
    metrics = LOSSES[name](batch, OPTIONS).metrics_BT
    ratios = [0.866025, 0.866025, 0.0] if name == "gspo" else [1.5, 0.5, 0.0]
    assert metrics["approx_kl"].tolist()[0] == pytest.approx([0.094535, 0.193147, 0.0], abs=1e-6)
    assert metrics["ratio"].tolist()[0] == pytest.approx(ratios, abs=1e-6)
    assert metrics["ratio_max"].tolist()[0] == pytest.approx(ratios, abs=1e-6)
    for value in metrics.values():
        assert not value.requires_grad
        assert value.dtype == torch.float32
        assert value[0, 2] == 0


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 300.0])
@pytest.mark.parametrize("field", ["policy", "old", "advantages"])
@pytest.mark.parametrize("name", LOSSES)
def test_garbage_under_the_mask_changes_nothing(name, field, garbage):
    # exp(300) overflows; multiplied by 0 afterwards it would be NaN in the gradient. Row 1 is fully masked.
    def run(value):
        rows = {
            "policy": [[-1.0, -0.9], [-1.0, -2.0]],
            "old": [[-1.0, -1.0], [-1.0, -2.0]],
            "advantages": [[1.0, 1.0], [1.0, 1.0]],
        }
        rows[field] = [[rows[field][0][0], value], [value, value]]
        batch = inputs(rows["policy"], rows["old"], rows["advantages"], [[True, False], [False, False]])
        output = LOSSES[name](batch, OPTIONS)
        with torch.autograd.set_detect_anomaly(True):  # a NaN on the way is refused as well, even when it is masked later
            rows_gradient = gradient(LOSSES[name], batch)
        return output.loss_BT.tolist(), rows_gradient, {k: v.tolist() for k, v in output.metrics_BT.items()}

    assert run(garbage) == run(-0.5)
    loss, grad, _ = run(garbage)
    assert [loss[0][1], *loss[1], grad[0][1], *grad[1]] == [0.0] * 6
    assert grad[0][0] == -1.0


def test_inputs_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        inputs([[0.0]], [[0.0, 0.0]], [[1.0]], [[True]])
    with pytest.raises(ValueError, match="one shape"):
        inputs([0.0], [0.0], [1.0], [True])


def test_inputs_of_other_types_are_refused():
    good = {
        "policy_logprobs_BT": torch.zeros(1, 2),
        "old_logprobs_BT": torch.zeros(1, 2),
        "advantages_BT": torch.zeros(1, 2),
        "loss_mask_BT": torch.ones(1, 2, dtype=torch.bool),
    }
    LossInputs(**good)
    with pytest.raises(ValueError, match="bool"):
        LossInputs(**good | {"loss_mask_BT": torch.ones(1, 2)})
    for name in ("policy_logprobs_BT", "old_logprobs_BT"):
        with pytest.raises(ValueError, match=f"{name} must be float32"):
            LossInputs(**good | {name: torch.zeros(1, 2, dtype=torch.bfloat16)})


@pytest.mark.parametrize("changed", [{"clip_low": -0.1}, {"clip_high": -0.1}])
def test_options_out_of_range_are_refused(changed):
    with pytest.raises(ValueError, match="negative"):
        LossOptions(**{"clip_low": 0.2, "clip_high": 0.2} | changed)
