"""Each loss with each aggregation against a second version: NumPy, float64, one completion at a time, from the formulas.

The gradients are compared with central finite differences of that version. Also the metamorphic tests: micro-batches make up
the batch, and the order of the completions does not matter.
"""

import itertools

import numpy as np
import pytest
import torch

from r1.algorithm import AGGREGATIONS, LOSSES
from r1.algorithm.aggregation import BatchCounts
from r1.algorithm.losses import LossInputs, LossOptions

LOW, HIGH, DUAL, LIMIT = 0.2, 0.3, 3.0, 12
CASES = list(itertools.product(LOSSES, AGGREGATIONS))

# Per completion: first column that counts, number of tokens, mean log ratio, advantage. The mean ratios are 1.05, 1.6, 0.6,
# 1.6 and 0.6: within the bounds, and beyond each of them with either sign of the advantage. The last row is fully masked.
ROWS = [(2, 5, 0.05, 0.7), (0, 9, 0.47, 1.3), (1, 1, -0.51, -0.8), (3, 4, 0.47, -1.1), (1, 7, -0.51, 0.4), (0, 0, 0.0, 2.0)]


def make_batch():
    rng = np.random.default_rng(0)
    shape = (len(ROWS), 10)
    mask, old, log_ratio = np.zeros(shape, dtype=bool), -rng.exponential(1.0, shape), np.zeros(shape)
    for row, (begin, length, mean, _) in enumerate(ROWS):
        mask[row, begin : begin + length] = True
        noise = rng.normal(0, 0.3, length)
        log_ratio[row, begin : begin + length] = mean + noise - (noise.mean() if length else 0)
    log_ratio[3, 3], log_ratio[3, 4] = log_ratio[3, 3] + 1.2, log_ratio[3, 4] - 1.2  # a ratio above DUAL, the mean as it was
    advantages = np.repeat([[advantage] for *_, advantage in ROWS], shape[1], axis=1)
    policy = np.where(mask, old + log_ratio, np.nan)
    old, advantages = np.where(mask, old, np.inf), np.where(mask, advantages, -np.inf)
    return policy, old, advantages, mask


def token_losses(name, policy, old, advantage, frozen):
    """The losses of one completion's tokens. frozen: the policy's log-probabilities where the formula stops the gradient."""
    if name == "reinforce":
        return [-advantage * p for p in policy]
    if name == "cispo":
        return [-min(np.exp(f - o), 1 + HIGH) * advantage * p for p, o, f in zip(policy, old, frozen, strict=True)]
    if name == "gspo":
        ratios = [np.prod(np.exp(policy - old)) ** (1 / len(policy))] * len(policy)
    else:
        ratios = [np.exp(p - o) for p, o in zip(policy, old, strict=True)]
    losses = []
    for ratio in ratios:
        clipped = 1 - LOW if ratio < 1 - LOW else 1 + HIGH if ratio > 1 + HIGH else ratio
        objective = min(ratio * advantage, clipped * advantage)
        if name == "dual_clip" and advantage < 0:
            objective = max(objective, DUAL * advantage)
        losses.append(-objective)
    return losses


def reference_loss(name, aggregation, policy, batch, frozen=None):
    _, old, advantages, mask = batch
    frozen = batch[0] if frozen is None else frozen
    rows = []
    for b in range(len(mask)):
        m = mask[b]
        if m.any():
            rows.append(token_losses(name, policy[b][m], old[b][m], advantages[b][m][0], frozen[b][m]))
    if aggregation == "sequence_mean":
        return sum(sum(row) / len(row) for row in rows) / len(rows)
    if aggregation == "token_mean":
        return sum(sum(row) for row in rows) / sum(len(row) for row in rows)
    return sum(sum(row) for row in rows) / (len(rows) * LIMIT)


def our_loss(name, aggregation, batch, columns=slice(None), rows=slice(None), dtype=torch.float64):
    """The loss of some rows, with the counts of all of them, and its gradient, 0 elsewhere."""
    mask = torch.from_numpy(batch[3])
    counts = BatchCounts(num_sequences=int(mask.any(-1).sum()), num_loss_tokens=int(mask.sum()), max_completion_tokens=LIMIT)
    policy, old, advantages = (torch.from_numpy(array)[rows, columns].to(dtype) for array in batch[:3])
    policy.requires_grad_()
    inputs = LossInputs(
        policy_logprobs_BT=policy, old_logprobs_BT=old, advantages_BT=advantages, loss_mask_BT=mask[rows, columns]
    )
    output = LOSSES[name](inputs, LossOptions(clip_low=LOW, clip_high=HIGH))
    loss = (AGGREGATIONS[aggregation](mask[rows, columns], counts) * output.loss_BT).sum()
    loss.backward()
    gradient = np.zeros(mask.shape)
    gradient[rows, columns] = policy.grad.numpy()
    return loss.item(), gradient


def test_the_batch_has_every_branch_and_no_kink():
    # Finite differences across a bound would be neither of the two gradients.
    policy, old, advantages, mask = make_batch()
    ratios = np.exp((policy - old)[mask])
    means = np.array([np.exp((policy - old)[b][mask[b]].mean()) for b in range(len(mask) - 1)])
    for values, signs in ((ratios, np.sign(advantages[mask])), (means, np.sign([row[3] for row in ROWS[:-1]]))):
        assert {(-1, -1), (-1, 1), (0, 1), (1, -1), (1, 1)} <= {
            (int(v > 1 + HIGH) - int(v < 1 - LOW), int(s)) for v, s in zip(values, signs, strict=True)
        }
        assert min(abs(values - bound).min() for bound in (1 - LOW, 1 + HIGH, DUAL)) > 1e-3
    assert (ratios[advantages[mask] < 0] > DUAL).any()


@pytest.mark.parametrize(("name", "aggregation"), CASES)
def test_value_and_gradient_are_those_of_the_formula(name, aggregation):
    batch = make_batch()
    policy, mask = batch[0], batch[3]
    loss, gradient = our_loss(name, aggregation, batch)
    assert loss == pytest.approx(reference_loss(name, aggregation, policy, batch), rel=1e-6)
    step, differences = 1e-5, np.zeros(policy.shape)
    for b, t in zip(*np.nonzero(mask), strict=True):
        up, down = policy.copy(), policy.copy()
        up[b, t], down[b, t] = up[b, t] + step, down[b, t] - step
        both = [reference_loss(name, aggregation, moved, batch) for moved in (up, down)]
        differences[b, t] = (both[0] - both[1]) / (2 * step)
    assert np.abs(differences).max() > 0.01
    # The aggregations' weights are float32, so 1/6 is off by 1e-8.
    np.testing.assert_allclose(gradient, differences, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("name", "aggregation"), CASES)
def test_float32_is_close_to_float64(name, aggregation):
    batch = make_batch()
    loss, gradient = our_loss(name, aggregation, batch, dtype=torch.float32)
    expected, expected_gradient = our_loss(name, aggregation, batch)
    assert loss == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "aggregation"), CASES)
def test_micro_batches_add_up_to_the_whole_batch(name, aggregation):
    batch = make_batch()
    whole_loss, whole_gradient = our_loss(name, aggregation, batch)
    # Unequal parts, one cut to its own width, one of nothing but a fully masked row.
    parts = [(slice(0, 1), slice(0, 7)), (slice(1, 3), slice(None)), (slice(3, 5), slice(0, 8)), (slice(5, 6), slice(0, 2))]
    results = [our_loss(name, aggregation, batch, columns, rows) for rows, columns in parts]
    assert sum(loss for loss, _ in results) == pytest.approx(whole_loss, rel=1e-12)
    np.testing.assert_allclose(sum(gradient for _, gradient in results), whole_gradient, rtol=1e-12)


@pytest.mark.parametrize(("name", "aggregation"), CASES)
def test_permuting_completions_changes_nothing(name, aggregation):
    batch = make_batch()
    order = [3, 5, 0, 4, 1, 2]
    loss, gradient = our_loss(name, aggregation, batch)
    permuted_loss, permuted_gradient = our_loss(name, aggregation, tuple(array[order] for array in batch))
    assert permuted_loss == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(permuted_gradient, gradient[order], rtol=1e-12)


@pytest.mark.parametrize(("name", "aggregation"), CASES)
def test_a_fully_masked_row_adds_nothing(name, aggregation):
    batch = make_batch()
    loss, gradient = our_loss(name, aggregation, batch)
    without_loss, without_gradient = our_loss(name, aggregation, tuple(array[:-1] for array in batch))
    assert loss == without_loss
    assert (gradient[:-1] == without_gradient).all()
    assert (gradient[-1] == 0).all()


@pytest.mark.parametrize(("name", "aggregation"), CASES)
def test_a_small_step_makes_better_completions_likelier(name, aggregation):
    # On policy: tokens of positive advantage rise and those of negative advantage fall when the loss is descended.
    policy, _, advantages, mask = make_batch()
    _, gradient = our_loss(name, aggregation, (policy, policy, advantages, mask))
    assert (np.sign(-gradient[mask]) == np.sign(advantages[mask])).all()
