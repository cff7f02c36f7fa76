"""Each rule on a history made by hand: what it says at its threshold, and that it is silent just below."""

import random

import pytest
from run_records import Event, heldout, run_config, said, steps

from r1.run_history import RunHistory
from r1.sample_warnings import held_out


def test_no_spread_says_whether_the_task_is_too_easy_or_too_hard():
    # Of 100 groups 82 have no spread. The 18 others have between 0 and 18 groups' worth of right answers, so of an accuracy of
    # 0.80 between 0.62 and 0.80 stand in groups that are all right: 0.71, and 0.82 - 0.71 = 0.11 are all wrong.
    easy = said(steps((3, {"zero_variance_share": 0.82, "accuracy": 0.80})))["no-spread"]
    assert easy.startswith("82 % of the groups had no spread (all right or all wrong: about 71 % / 11 %)")
    assert "too easy;" in easy
    # between 0 and 0.04, so 0.02
    hard = said(steps((3, {"zero_variance_share": 0.82, "accuracy": 0.04})))["no-spread"]
    assert "about 2 % / 80 %" in hard
    assert "too hard;" in hard
    # 0.22 to 0.40: 0.31, and 0.29
    mixed = said(steps((3, {"zero_variance_share": 0.6, "accuracy": 0.5})))["no-spread"]
    assert "too hard or too easy;" in mixed


def test_no_spread_begins_above_one_half_and_after_three_steps():
    assert said(steps((10, {"zero_variance_share": 0.5, "accuracy": 0.5}))) == {}
    assert said(steps((2, {"zero_variance_share": 1.0, "accuracy": 0.0}))) == {}
    assert "no-spread" in said(steps((3, {"zero_variance_share": 1.0, "accuracy": 0.0})))
    # the mean of ten steps: nine of 0.5 and one of 0.6
    assert "no-spread" in said(steps((9, {"zero_variance_share": 0.5, "accuracy": 0.5}), (1, {"zero_variance_share": 0.6})))


def test_truncated():
    text = said(steps((3, {"truncated_share": 0.2})))["truncated"]
    assert text.startswith("20 % of the completions were cut off at 1,024 tokens")
    assert "rollout.max_completion_tokens" in text
    assert said(steps((3, {"truncated_share": 0.199}))) == {}


def test_the_form_alone():
    hollow = {"reward/reasoning_format": 0.97, "accuracy": 0.019}
    assert said(steps((10, hollow)))["format"].startswith("format is 0.97 and accuracy 0.02: the form alone is being learnt")
    assert said(steps((9, hollow))) == {}  # it may come
    assert said(steps((10, hollow | {"accuracy": 0.021}))) == {}
    assert said(steps((10, hollow | {"reward/reasoning_format": 0.89}))) == {}
    assert said(steps((10, {"accuracy": 0.01}))) == {}  # a run without that reward


def test_format_that_falls_while_the_reward_rises():
    before, after = {"reward/reasoning_format": 0.9, "reward": 0.5}, {"reward/reasoning_format": 0.79, "reward": 0.6}
    text = said(steps((10, before), (10, after)))["format"]
    assert text.startswith("format fell from 0.90 to 0.79 in 10 steps while the reward rose by 0.10")
    assert said(steps((10, before), (10, after | {"reward/reasoning_format": 0.81}))) == {}
    assert "format" in said(steps((10, before), (10, after | {"reward": 0.522})))
    assert said(steps((10, before), (10, after | {"reward": 0.518}))) == {}  # it does not rise


def test_unjudged():
    assert said(steps((3, {"unjudged_share": 0.06})))["unjudged"].startswith("6 % of the completions have no reward")
    assert said(steps((3, {"unjudged_share": 0.049}))) == {}
    failing = {"score_error_share": 0.015, "reward_errors/accuracy": 1.0, "reward_errors/my.py:judge": 3.0}
    text = said(steps((3, failing)))["unjudged"]
    assert text.startswith("1.5 % of the completions could not be scored, mostly for errors or timeouts of my.py:judge: above 2 %")
    assert said(steps((3, {"score_error_share": 0.01}))) == {}  # half of what the run allows


def test_duplicates():
    assert said(steps((3, {"duplicate_share": 0.9})))["duplicates"].startswith("90 % of the completions repeat a sibling")
    assert said(steps((3, {"duplicate_share": 0.89}))) == {}
    # 0.2 nats a token over 100 tokens are 20 nats: two completions have no reason to be the same
    shared = {"duplicate_share": 0.5, "entropy": 0.2, "completion_tokens": 100.0}
    text = said(steps((3, shared)))["duplicates"]
    assert "though 20 nats of entropy leave room for others: do siblings share a seed" in text
    assert "duplicates" in said(steps((3, shared | {"completion_tokens": 51.0})))  # 10.2 nats
    assert said(steps((3, shared | {"completion_tokens": 49.0}))) == {}  # 9.8
    assert said(steps((3, shared | {"duplicate_share": 0.49}))) == {}


def test_length_that_grows_or_shrinks_without_paying():
    short, long = {"completion_tokens": 100.0, "reward": 0.5}, {"completion_tokens": 200.0, "reward": 0.5}
    text = said(steps((5, short), (15, short), (5, long)))["length"]
    assert text.startswith("completions went from 100 to 200 tokens in 20 steps, the reward by +0.00: longer is not better")
    assert "algorithm=dr_grpo" in text
    assert said(steps((20, short), (5, long | {"completion_tokens": 199.0}))) == {}
    assert "length" in said(steps((20, short), (5, long | {"reward": 0.518})))
    assert said(steps((20, short), (5, long | {"reward": 0.522}))) == {}  # it pays: what R1-Zero is about
    text = said(steps((20, long), (5, short | {"reward": 0.4})))["length"]
    assert text.startswith("completions went from 200 to 100 tokens in 20 steps, the reward by -0.10: the thinking is being lost")
    assert said(steps((14, short), (5, long))) == {}  # of 20 steps ago there is none, and no ten steps that are over


def test_length_that_drifts_slowly():
    drift = [(1, {"completion_tokens": 100.0 * 20 ** (number / 200), "reward": 0.5}) for number in range(200)]
    text = said(steps(*drift))["length"]
    # 20 steps are a factor of 20 ** 0.1 = 1.35. The mean of the first ten steps is 107, of the last ten 1,844.
    assert text.startswith("completions went from 107 to 1844 tokens since step 10, the reward by +0.00: longer is not better")
    paid = [(1, {"completion_tokens": 100.0 * 20 ** (number / 200), "reward": number / 200}) for number in range(200)]
    assert said(steps(*paid)) == {}


def test_format_that_drifts_slowly():
    flat = steps(*((1, {"reward/reasoning_format": 1.0 - 0.008 * number, "reward": 0.5}) for number in range(100)))
    assert said(flat)["format"].startswith("format fell from 0.96 (around step 10) to 0.24, the reward by +0.00")
    # 0.2 in 100 steps: nothing that the reward would not pay for
    small = [{"reward/reasoning_format": 1.0 - 0.002 * number, "reward": 0.5} for number in range(100)]
    assert said(steps(*((1, metrics) for metrics in small))) == {}
    paid = [metrics | {"reward": 0.5 + number / 1000} for number, metrics in enumerate(small)]
    assert "format" in said(steps(*((1, metrics) for metrics in paid)))


def evaluated(*accuracies: float, error: float = 0.02, first_step: int = 0) -> list[Event]:
    """Every ten steps."""
    numbers = range(first_step, first_step + 10 * len(accuracies), 10)
    return [heldout(number, accuracy=value, accuracy_error=error) for number, value in zip(numbers, accuracies, strict=True)]


RISING = steps((20, {"reward": 0.5}), (40, {"reward": 0.7}))


def test_held_out_that_falls_while_the_training_reward_rises():
    # The best two neighbours have 0.60. The last two are chosen against three pairs, so 0.01 / 3 on one side: 2.71 standard
    # errors of 0.02 / 1.96, each mean of two halving the square: 0.02 x 2.71 / 1.96 = 0.028.
    text = said(RISING, evaluated(0.50, 0.60, 0.60, 0.55, 0.55, 0.55))["held-out"]
    assert text.startswith("held-out accuracy fell from 0.60 (steps 10 and 20) to 0.55, the training reward rose")
    assert said(RISING, evaluated(0.50, 0.60, 0.60, 0.575, 0.575, 0.575)) == {}
    assert said(RISING, evaluated(0.50, 0.60, 0.60, 0.60, 0.55, 0.55)) == {}  # once: the pair before it is 0.60 and 0.55
    assert said(RISING, evaluated(0.50, 0.60, 0.60, 0.60, 0.60, 0.50)) == {}
    assert said(RISING, evaluated(0.50, 0.60, 0.60, 0.55, 0.55, 0.55, error=0.05)) == {}
    assert said(RISING, evaluated(0.60, 0.50)) == {}


def test_held_out_that_falls_as_the_training_reward_does():
    accuracies = evaluated(0.50, 0.60, 0.60, 0.55, 0.55, 0.55)
    for reward in (0.4, 0.5, 0.519):
        assert said(steps((20, {"reward": 0.5}), (40, {"reward": reward})), accuracies) == {}
    assert "held-out" in said(steps((20, {"reward": 0.5}), (40, {"reward": 0.521})), accuracies)


def test_held_out_that_was_best_before_training():
    accuracies = evaluated(0.60, 0.60, 0.50, 0.50, 0.50)
    assert "held-out" in said(steps((10, {"reward": 0.5}), (40, {"reward": 0.7})), accuracies)
    assert said(steps((10, {"reward": 0.5}), (40, {"reward": 0.4})), accuracies) == {}
    before_the_first = [heldout(0, accuracy=0.6, accuracy_error=0.02), *evaluated(0.6, 0.5, 0.5, 0.5, first_step=1)]
    assert said(steps((10, {"reward": 0.5}), (40, {"reward": 0.4})), before_the_first) == {}


def test_held_out_of_several_tasks():
    first = {"accuracy/gsm8k": 0.6, "accuracy_error/gsm8k": 0.02, "accuracy/math": 0.4, "accuracy_error/math": 0.02}
    last = first | {"accuracy/math": 0.3, "accuracy/gsm8k": 0.7}
    evaluations = [heldout(10 * number, **metrics) for number, metrics in enumerate([first] * 2 + [last] * 3)]
    text = said(RISING, evaluations)["held-out"]
    assert text.startswith("held-out accuracy/math fell from 0.40 (steps 0 and 10) to 0.30")


@pytest.mark.slow
@pytest.mark.parametrize("num_evaluations", [10, 30])
def test_held_out_accuracy_of_a_policy_that_stays_what_it_is(num_evaluations: int):
    """Each evaluation of 256 problems with an error of its own; the training reward rises all the time."""
    random_numbers = random.Random(1)
    num_false = 0
    for _ in range(100):
        accuracies = [sum(random_numbers.random() < 0.5 for _ in range(256)) / 256 for _ in range(num_evaluations)]
        evaluations = evaluated(*accuracies, error=1.96 * (0.25 / 255) ** 0.5)
        training = [(10, {"reward": 0.05 * number}) for number in range(num_evaluations)]
        histories = (
            RunHistory(steps=steps(*training[:end]), heldout=evaluations[:end]) for end in range(1, num_evaluations + 1)
        )
        num_false += any(held_out(history) for history in histories)
    assert num_false < 5


def test_a_collapse():
    # learnt: 0.1 -> 0.4; three fifths of what was gained are 0.18
    learnt = [(10, {"accuracy": 0.1}), (10, {"accuracy": 0.4})]
    text = said(steps(*learnt, (10, {"accuracy": 0.21})))["collapse"]
    assert text.startswith("accuracy fell from 0.40 (around step 20) to 0.21")
    assert said(steps(*learnt, (10, {"accuracy": 0.23}))) == {}
    assert "collapse" in said(steps((10, {"accuracy": 0.1}), (10, {"accuracy": 0.21}), (10, {"accuracy": 0.0})))
    assert said(steps((10, {"accuracy": 0.1}), (10, {"accuracy": 0.19}), (10, {"accuracy": 0.0}))) == {}  # little was gained
    assert said(steps((10, {"accuracy": 0.9}), (10, {"accuracy": 0.5}))) == {}  # never gained anything, and kept most


def test_a_collapse_below_the_start():
    text = said(steps((10, {"accuracy": 0.60}), (10, {"accuracy": 0.68}), (10, {"accuracy": 0.0})))["collapse"]
    assert text.startswith("accuracy fell from 0.68 (around step 20) to 0.00: the policy has lost more than half of what it could")
    assert "collapse" in said(steps((10, {"accuracy": 0.60}), (10, {"accuracy": 0.29})))
    assert said(steps((10, {"accuracy": 0.60}), (10, {"accuracy": 0.31}))) == {}
    assert said(steps((10, {"accuracy": 0.10}), (10, {"accuracy": 0.01}))) == {}  # by less than the noise
    easy_first = run_config(task={"name": "arithmetic", "difficulty": "easy_first:rates.json"})
    assert said(steps((10, {"accuracy": 0.60}), (10, {"accuracy": 0.0})), config=easy_first) == {}
