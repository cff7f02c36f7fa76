import pytest
from tiny import tiny_config

from r1.schedule import learning_rate


def rates(schedule, num_steps, warmup, minibatches=1):
    config = tiny_config(
        f"learner.schedule={schedule}",
        f"num_steps={num_steps}",
        f"learner.warmup_steps={warmup}",
        f"learner.minibatches_per_step={minibatches}",
        "learner.learning_rate=1.0",
    )
    return [learning_rate(config, num_updates) for num_updates in range(num_steps * minibatches)]


def test_warm_up_rises_linearly_and_then_the_rate_is_constant():
    # 1/4, 2/4, 3/4, 4/4, and stays.
    assert rates("constant", 6, 4) == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])


def test_without_warm_up_the_first_update_has_the_full_rate():
    assert rates("constant", 2, 0) == [1.0, 1.0]


def test_linear_falls_by_the_same_amount_and_ends_above_zero():
    # 4 updates without warm-up: 1, 3/4, 2/4, 1/4. With one of warm-up: 1, then 3 updates from the top: 1, 2/3, 1/3.
    assert rates("linear", 4, 0) == pytest.approx([1.0, 0.75, 0.5, 0.25])
    assert rates("linear", 4, 1) == pytest.approx([1.0, 1.0, 2 / 3, 1 / 3])


def test_cosine_is_half_way_down_in_the_middle():
    # (1 + cos(pi p)) / 2 at p = 0, 1/4, 1/2, 3/4.
    assert rates("cosine", 4, 0) == pytest.approx([1.0, 0.8535534, 0.5, 0.1464466])


def test_updates_count_and_not_steps():
    assert rates("linear", 2, 0, minibatches=2) == pytest.approx([1.0, 0.75, 0.5, 0.25])
