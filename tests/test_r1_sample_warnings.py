"""Each rule on a history made by hand: what it says at its threshold, and that it is silent just below."""

from run_records import heldout, said, steps


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
    assert said(steps((16, short), (5, long))) == {}  # of 20 steps ago there is one step, which is no mean


def test_held_out_that_falls_while_the_training_reward_rises():
    rising = steps((20, {"reward": 0.5}), (20, {"reward": 0.7}))
    # half widths 0.03 and 0.04: the difference is uncertain by 0.05
    best, last = heldout(20, accuracy=0.60, accuracy_error=0.03), heldout(40, accuracy=0.54, accuracy_error=0.04)
    text = said(rising, [best, last])["held-out"]
    assert text.startswith("held-out accuracy fell from 0.60 (step 20) to 0.54, the training reward did not")
    assert said(rising, [best, heldout(40, accuracy=0.56, accuracy_error=0.04)]) == {}
    assert said(rising, [best, last, heldout(41, accuracy=0.61, accuracy_error=0.04)]) == {}
    falling = steps((20, {"reward": 0.5}), (20, {"reward": 0.4}))
    assert said(falling, [best, last]) == {}  # nothing is learnt by heart there
    assert said(rising, [best]) == {}


def test_held_out_of_several_tasks():
    rising = steps((20, {"reward": 0.5}), (20, {"reward": 0.7}))
    first = {"accuracy": 0.5, "accuracy/gsm8k": 0.6, "accuracy_error/gsm8k": 0.03, "accuracy/math": 0.4, "accuracy_error/math": 0.03}
    last = first | {"accuracy/math": 0.3, "accuracy/gsm8k": 0.7}
    text = said(rising, [heldout(20, **first), heldout(40, **last)])["held-out"]
    assert text.startswith("held-out accuracy/math fell from 0.40 (step 20) to 0.30")


def test_a_collapse():
    # learnt: 0.1 -> 0.4; three fifths of what was gained are 0.18
    learnt = [(10, {"accuracy": 0.1}), (10, {"accuracy": 0.4})]
    text = said(steps(*learnt, (10, {"accuracy": 0.21})))["collapse"]
    assert text.startswith("accuracy fell from 0.40 (around step 20) to 0.21")
    assert said(steps(*learnt, (10, {"accuracy": 0.23}))) == {}
    assert "collapse" in said(steps((10, {"accuracy": 0.1}), (10, {"accuracy": 0.21}), (10, {"accuracy": 0.0})))
    assert said(steps((10, {"accuracy": 0.1}), (10, {"accuracy": 0.19}), (10, {"accuracy": 0.0}))) == {}  # little was gained
    assert said(steps((10, {"accuracy": 0.9}), (10, {"accuracy": 0.5}))) == {}  # never gained anything: another problem
