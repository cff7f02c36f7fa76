"""What the pool makes of the values of reward functions."""

import pytest
from misbehaving_rewards import group

from r1.config import ScoringConfig
from r1.errors import ScoringError, UserError
from r1.scoring import RewardPool

pytestmark = pytest.mark.timeout(30)


def test_scores_come_in_order_as_weighted_sums_with_the_parts_apart(reward_file):
    length, is_gold = f"{reward_file}:length", f"{reward_file}:is_gold"
    groups = [group(0, ["4", "four"]), group(1, ["", "22", "333"], gold="22")]
    with RewardPool({length: 0.5, is_gold: 2.0}, ScoringConfig()) as pool:
        first, second = pool.score(groups)
    # 0.5 x characters + 2 x (text is the gold)
    assert [score.reward for score in first] == [0.5 * 1 + 2, 0.5 * 4]
    assert [score.reward for score in second] == [0.0, 0.5 * 2 + 2, 0.5 * 3]
    assert second[1].breakdown == {length: 2.0, is_gold: 1.0}
    assert all(score.error is None for score in [*first, *second])
    assert all(0 < score.score_s < 30 for score in [*first, *second])


def test_many_more_completions_than_children_keep_their_order(reward_file):
    with RewardPool({f"{reward_file}:length": 1.0}, ScoringConfig(), num_children=3) as pool:
        scores = pool.score_texts([("x" * size, {}) for size in range(500)])
    assert [score.reward for score in scores] == list(range(500))


def test_a_completion_larger_than_the_socket_arrives_whole(reward_file):
    with RewardPool({f"{reward_file}:length": 1.0}, ScoringConfig(), num_children=1) as pool:
        [score] = pool.score_texts([("é\n" * 1_500_000, {})])
    assert score.reward == 3_000_000


@pytest.mark.parametrize(
    ("completion", "error"),
    [
        ("raise", "KeyError: 'no such gold'"),
        ("exit", "SystemExit: 3"),
        ("nan", "returned nan; a reward is a finite number or None"),
        ("text", "returned '1.0'; a reward is a finite number or None"),
        ("hog", "MemoryError"),
    ],
)
def test_a_failure_is_an_error_in_words_and_never_a_zero(shared_pool, on_command, completion, error):
    errors_before = shared_pool.num_errors[on_command]
    [failed, fine] = shared_pool.score_texts([(completion, {}), ("fine", {})])
    assert (failed.reward, failed.breakdown, failed.error) == (None, {on_command: None}, f"{on_command}: {error}")
    assert (failed.failures, fine.failures) == ({on_command: "error"}, {})
    assert (fine.reward, fine.error) == (1.0, None)
    assert shared_pool.num_errors[on_command] == errors_before + 1


def test_none_takes_the_sample_out_without_being_an_error(shared_pool, on_command):
    [score] = shared_pool.score_texts([("none", {})])
    assert (score.reward, score.breakdown, score.error) == (None, {on_command: None}, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("acuracy", "rewards: no reward function 'acuracy'; choose from accuracy, math_answer, multiple_choice"),
        ("no/such/file.py:length", "no file '.*no/such/file.py'; give path/to/file.py:function"),
        ("{reward_file}:width", "defines no function 'width'"),
        ("{folder}/broken.py:f", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_reward_that_cannot_be_loaded_is_the_users_error(reward_file, tmp_path, name, message):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(UserError, match=message):
        RewardPool({name.format(reward_file=reward_file, folder=tmp_path): 1.0}, ScoringConfig(), num_children=1)


def test_a_child_that_cannot_start_is_an_error_and_not_a_loop(tmp_path):
    path = tmp_path / "dies.py"
    path.write_text("import os\nos._exit(7)\n")
    with pytest.raises(ScoringError, match=r"ended before it was ready \(exit code 7\)"):
        RewardPool({f"{path}:f": 1.0}, ScoringConfig(), num_children=1)
