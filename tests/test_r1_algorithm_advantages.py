"""Expected values are worked out by hand in the comments."""

import math
import random

import pytest

from r1.algorithm import ADVANTAGES
from r1.algorithm.advantages import dr_grpo, grpo, none, reinforce_pp_baseline, rloo

RELATIVE = [name for name in ADVANTAGES if name != "none"]


def test_grpo_divides_by_the_sample_standard_deviation():
    # mean 0.25; squared deviations 0.5625 + 3 x 0.0625 = 0.75; / 3 = 0.25; std 0.5.
    # (1 - 0.25) / 0.500001 = 1.499997, (0 - 0.25) / 0.500001 = -0.499999
    assert grpo([[1.0, 0.0, 0.0, 0.0]])[0] == pytest.approx([1.499997, -0.499999, -0.499999, -0.499999], abs=1e-6)


def test_dr_grpo_takes_the_mean_off_and_nothing_else():
    # mean 0.25
    assert dr_grpo([[1.0, 0.0, 0.0, 0.0]]) == [[0.75, -0.25, -0.25, -0.25]]


def test_rloo_compares_with_the_mean_of_the_others():
    # 1 - 0/3 = 1; 0 - 1/3 = -1/3, three times. G / (G - 1) = 4/3 times dr_grpo's 0.75 and -0.25.
    assert rloo([[1.0, 0.0, 0.0, 0.0]])[0] == pytest.approx([1.0, -1 / 3, -1 / 3, -1 / 3])
    # None is no sibling: 1 - 0.5 = 0.5 and 0.5 - 1 = -0.5.
    assert rloo([[1.0, None, 0.5]]) == [[0.5, 0.0, -0.5]]


def test_reinforce_pp_divides_by_the_deviation_of_the_batch():
    # d = (0.5, -0.5) and (1, -1); their mean is 0; squares 0.25 + 0.25 + 1 + 1 = 2.5; / 3 = 0.83333; std 0.912871.
    # 0.5 / 0.912872 = 0.547722, 1 / 0.912872 = 1.095444
    expected = [[0.547722, -0.547722], [1.095444, -1.095444]]
    for group, values in zip(reinforce_pp_baseline([[1.0, 0.0], [2.0, 0.0]]), expected, strict=True):
        assert group == pytest.approx(values, abs=2e-6)


def test_reinforce_pp_counts_equal_groups_as_zeros_and_unknown_rewards_not_at_all():
    # d = 0.5, -0.5 and 0, 0: squares 0.5; / 3 = 0.166667; std 0.408248; 0.5 / 0.408249 = 1.224742.
    # Without the zeros the std were 0.707107, and the advantage 0.707106.
    assert reinforce_pp_baseline([[1.0, 0.0], [3.0, 3.0]])[0] == pytest.approx([1.224742, -1.224742], abs=3e-6)
    # A None and a lone known reward add no zero: the std is that of 0.5, -0.5 alone, 0.707107.
    for others in ([None, None], [7.0, None]):
        assert reinforce_pp_baseline([[1.0, 0.0], others])[0] == pytest.approx([0.707106, -0.707106], abs=1e-6)
    assert reinforce_pp_baseline([[1.0, 0.0, None]])[0] == pytest.approx([0.707106, -0.707106, 0.0], abs=1e-6)


def test_reinforce_pp_of_a_batch_that_says_nothing():
    assert reinforce_pp_baseline([[1.0, 1.0], [None, 2.0], [0.0, 0.0]]) == [[0.0, 0.0]] * 3
    assert reinforce_pp_baseline([]) == []


def test_none_is_the_reward():
    assert none([[1.0, None, -0.5], [2.0, 2.0, 2.0]]) == [[1.0, 0.0, -0.5], [2.0, 2.0, 2.0]]


@pytest.mark.parametrize("name", RELATIVE)
def test_equal_rewards_have_advantage_exactly_zero(name):
    # 0.1 + 0.1 + 0.1 is not exactly 0.3 in binary: comparing with a mean would leave rubbish that 1 / 1e-6 blows up.
    # The second group keeps the batch's deviation above 0.
    assert ADVANTAGES[name]([[0.1, 0.1, 0.1], [1.0, 0.0, 0.0]])[0] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", RELATIVE)
def test_one_known_reward_has_nothing_to_compare_with(name):
    assert ADVANTAGES[name]([[1.0, None, None], [1.0, 0.0, 0.0]])[0] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "rloo"])
def test_unjudged_samples_leave_the_group(name):
    with_none, without = ADVANTAGES[name]([[1.0, None, 0.0, 0.5]])[0], ADVANTAGES[name]([[1.0, 0.0, 0.5]])[0]
    assert with_none == [without[0], 0.0, without[1], without[2]]


def test_grpo_leaves_unjudged_samples_out_of_the_baseline():
    # Known rewards 1 and 0: mean 0.5, std sqrt(0.5) = 0.70711; +-0.5 / 0.70711 = +-0.70711. With None as 0 the mean were 1/3.
    assert grpo([[1.0, None, 0.0]])[0] == pytest.approx([0.70711, 0.0, -0.70711], abs=1e-5)


def random_rewards(num_groups=5, group_size=6, seed=0):
    rng = random.Random(seed)
    rewards = [[rng.choice([0.0, 0.5, 1.0, rng.random()]) for _ in range(group_size)] for _ in range(num_groups)]
    rewards[1][2] = rewards[3][0] = None
    return rewards


def flat(groups):
    return [value for group in groups for value in group]


@pytest.mark.parametrize("name", ADVANTAGES)
def test_permuting_samples_and_groups_permutes_the_advantages(name):
    rewards, rng = random_rewards(), random.Random(1)
    advantages = ADVANTAGES[name](rewards)
    samples, groups = rng.sample(range(6), 6), rng.sample(range(5), 5)
    permuted = ADVANTAGES[name]([[rewards[p][g] for g in samples] for p in groups])
    assert flat(permuted) == pytest.approx([advantages[p][g] for p in groups for g in samples], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", RELATIVE)
def test_a_constant_added_to_a_groups_rewards_changes_nothing(name):
    rewards = random_rewards()
    shifted = [[None if r is None else r + 10 * p for r in group] for p, group in enumerate(rewards)]
    assert flat(ADVANTAGES[name](shifted)) == pytest.approx(flat(ADVANTAGES[name](rewards)), abs=1e-9)


def test_a_constant_changes_none():
    assert none([[1.0, 0.0]]) != none([[2.0, 1.0]])


@pytest.mark.parametrize(
    ("name", "factor"), [("grpo", 1), ("reinforce_pp_baseline", 1), ("dr_grpo", 3), ("rloo", 3), ("none", 3)]
)
def test_scaling_all_rewards(name, factor):
    rewards = random_rewards()
    scaled = [[None if r is None else 3 * r for r in group] for group in rewards]
    expected = [factor * value for value in flat(ADVANTAGES[name](rewards))]
    assert flat(ADVANTAGES[name](scaled)) == pytest.approx(expected, rel=1e-5)  # 1e-6 beside a deviation of about 0.4


@pytest.mark.parametrize("name", ADVANTAGES)
def test_a_better_sample_has_the_larger_advantage(name):
    [low, high] = ADVANTAGES[name]([[0.0, 1.0]])[0]
    assert high > low
    assert high > 0


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "rloo", "none"])
def test_groups_do_not_see_each_other(name):
    rewards = random_rewards()
    assert ADVANTAGES[name](rewards) == [ADVANTAGES[name]([group])[0] for group in rewards]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", ADVANTAGES)
def test_a_reward_that_is_no_number_is_refused(name, bad):
    with pytest.raises(ValueError, match="finite"):
        ADVANTAGES[name]([[0.0, 1.0], [0.0, bad]])
