"""Each rule on a history made by hand: what it says at its threshold, and that it is silent just below."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from r1.config import RunConfig, check_config
from r1.step_warnings import GONE_STEPS, REPEAT_STEPS, RULES, WarningLog, warnings_now, warnings_of

Event = dict[str, Any]
ROOT = Path(__file__).resolve().parents[1]


def run_config(**sections: Mapping[str, Any]) -> RunConfig:
    return check_config(
        {
            "name": "quickstart",
            "num_steps": 500,
            "model": {"path": "models/tiny"},
            "task": {"name": "arithmetic"},
            "rollout": {"num_prompts": 4, "group_size": 4, "max_prompt_tokens": 8, "max_completion_tokens": 1024},
            "learner": {"learning_rate": 1e-4},
            **sections,
        }
    )


def step(number: int, metrics: Mapping[str, float | None], timings_s: Mapping[str, float] | None = None) -> Event:
    return {"kind": "step", "step": number, "policy_version": number, "metrics": metrics, "timings_s": timings_s or {}}


def heldout(number: int, **metrics: float | None) -> Event:
    return {"kind": "heldout", "step": number, "policy_version": number, "metrics": metrics, "timings_s": {}}


def steps(*parts: tuple[int, Mapping[str, float | None]]) -> list[Event]:
    """(number of steps, their metrics), one part after the other, from step 1."""
    flat = [metrics for count, metrics in parts for _ in range(count)]
    return [step(number, metrics) for number, metrics in enumerate(flat, start=1)]


def said(
    events: Sequence[Event], evaluations: Sequence[Event] = (), config: RunConfig | None = None
) -> dict[str, str]:
    return {warning.key: warning.text for warning in warnings_now(events, evaluations, config or run_config())}


# --- the samples


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


# --- the learner


def test_mismatch_near_and_above_its_bound():
    config = run_config(sync={"max_logprob_diff": 0.05})
    text = said(steps((1, {"mismatch": 0.041})), config=config)["mismatch"]
    assert text.startswith("mean |old - rollout| log-probability is 4.1e-02, near sync.max_logprob_diff = 5e-02")
    assert "above sync.max_logprob_diff" in said(steps((1, {"mismatch": 0.051})), config=config)["mismatch"]
    assert "is not a number, above" in said(steps((1, {"mismatch": None})), config=config)["mismatch"]
    assert said(steps((1, {"mismatch": 0.039})), config=config) == {}
    assert said(steps((1, {"mismatch": 0.3, "fresh_share": 0.5})), config=config) == {}  # stale tokens: how far the policy moved
    assert warnings_now(steps((1, {"mismatch": 0.3}))) == []  # whose bound?


def test_mismatch_kl():
    assert said(steps((3, {"mismatch_kl": 0.011})))["mismatch"].startswith("mismatch_kl between engine and learner is 0.011")
    assert said(steps((3, {"mismatch_kl": 0.01}))) == {}


def test_entropy_that_is_spent():
    # a tenth of what it was in the first five steps
    text = said(steps((5, {"entropy": 0.5}), (10, {"entropy": 0.049})))["entropy-low"]
    assert text.startswith("entropy is 0.049, 10 % of what it was in the first steps")
    assert said(steps((5, {"entropy": 0.5}), (10, {"entropy": 0.05}))) == {}
    assert said(steps((5, {"entropy": 0.5}), (9, {"entropy": 0.01}))) == {}  # the last ten steps hold one of the first


def test_entropy_that_explodes():
    text = said(steps((5, {"entropy": 0.5}), (10, {"entropy": 1.6})))["entropy-high"]
    assert text.startswith("entropy is 1.60, 3.2 times what it was in the first steps")
    assert said(steps((5, {"entropy": 0.5}), (10, {"entropy": 1.5}))) == {}
    assert "entropy-high" in said(steps((5, {"entropy": 0.1}), (10, {"entropy": 0.51})))
    assert said(steps((5, {"entropy": 0.1}), (10, {"entropy": 0.49}))) == {}  # five times, of very little


def test_clipping():
    clipped = {"clip_low_share": 0.04, "clip_high_share": 0.07}
    text = said(steps((3, clipped)))["clipping"]
    assert text.startswith("11 % of the tokens are clipped (4 % below, 7 % above)")
    assert said(steps((3, clipped | {"clip_high_share": 0.06}))) == {}
    gspo = run_config(algorithm={"preset": "gspo"})
    assert said(steps((3, {"clip_low_share": 0.4, "clip_high_share": 0.39})), config=gspo) == {}  # as it is meant to
    assert "clipping" in said(steps((3, {"clip_low_share": 0.4, "clip_high_share": 0.41})), config=gspo)
    assert warnings_now(steps((3, clipped))) == []  # it may be GSPO
    assert said(steps((3, {"approx_kl": 0.06})))["clipping"].startswith("within a step the policy moves by a KL of 0.06 a token")
    assert said(steps((3, {"approx_kl": 0.049}))) == {}


def test_gradient():
    assert said(steps((1, {"skipped_updates": 1.0, "grad_norm": None})))["gradient"].startswith("1 update(s) of this step were")
    calm = (10, {"grad_norm": 0.2})
    text = said(steps(calm, (1, {"grad_norm": 2.2})))["gradient"]
    assert text.startswith("the gradient norm is 2.2, 11 times the median of the steps before")
    assert said(steps(calm, (1, {"grad_norm": 2.0}))) == {}
    assert said(steps((9, {"grad_norm": 0.2}), (1, {"grad_norm": 9.0}))) == {}  # a median of nine is too few
    assert said(steps(calm, (1, {"grad_norm": 9.0}), (1, {"grad_norm": 0.2}))) == {}  # it is over
    assert said(steps((10, {"grad_norm": 0.0}), (1, {"grad_norm": 0.5}))) == {}  # nothing could be learnt before


def test_kl():
    assert said(steps((3, {"kl": 0.51})))["kl"].startswith("the KL to the reference policy is 0.51 a token")
    assert said(steps((3, {"kl": 0.5}))) == {}
    assert "kl" in said(steps((3, {"kl": -0.6})))  # k1 may have either sign


def test_waiting():
    def after(**seconds: float) -> dict[str, str]:
        return said([step(number, {}, seconds) for number in (1, 2, 3)])

    # 9.2 of 10 s; 9 of 10 s are not too much
    assert after(sample=9.2, update=0.8)["waiting"].startswith("sampling takes 92 % of a step, the learner waits")
    assert after(sample=9.0, update=1.0) == {}
    assert after(sample=0.8, update=9.2)["waiting"].startswith("the update takes 92 % of a step, the engines wait")
    assert after(sample=5.0, score=4.0, update=1.0)["waiting"].startswith("40 % of a step is spent on scores")
    assert after(sample=5.0, publish=2.0, load=2.0, update=1.0)["waiting"].startswith("weight syncs take 40 % of the time")
    assert after(sample=5.0, publish=1.0, load=1.9, update=2.1) == {}
    assert "waiting" in after(sample=0.94, update=0.07)
    assert after(sample=0.92, update=0.07) == {}  # steps of less than a second


def test_staleness():
    assert said(steps((3, {"staleness": 4.5})))["staleness"].startswith("samples are 4.5 versions old")
    assert said(steps((3, {"staleness": 4.0, "effective_share": 0.5}))) == {}
    assert "leaves 49 % effective samples" in said(steps((3, {"effective_share": 0.49})))["staleness"]


# --- when it is said


def test_a_warning_is_said_when_it_begins_and_every_fifty_steps():
    events = steps((10, {"truncated_share": 0.0}), (130, {"truncated_share": 0.5}))
    # The mean of ten steps reaches 0.2 in step 14: four of 0.5 and six of 0.0.
    assert [(warning.step, warning.key) for warning in warnings_of(events)] == [
        (14, "truncated"),
        (14 + REPEAT_STEPS, "truncated"),
        (14 + 2 * REPEAT_STEPS, "truncated"),
    ]


def test_a_warning_that_flickers_is_said_once_and_one_that_was_gone_is_new():
    skipped, fine = {"skipped_updates": 1.0}, {"skipped_updates": 0.0}
    flickering = steps((1, skipped), (GONE_STEPS - 1, fine), (1, skipped), (GONE_STEPS, fine), (1, skipped))
    # Said in step 1; in step 11 it was gone for nine steps, in step 22 for ten.
    assert [warning.step for warning in warnings_of(flickering)] == [1, 22]


def test_the_log_knows_what_holds_whether_it_is_said_or_not():
    log = WarningLog(run_config())
    for event in steps((5, {"truncated_share": 0.5})):
        log.add(event)
    assert [warning.key for warning in log.now] == ["truncated"]
    assert log.now[0].step == 5
    assert str(log.now[0]).endswith("; see docs/tuning.md#truncated")


def test_an_evaluation_can_bring_a_warning_and_keeps_the_others():
    log = WarningLog(run_config())
    events = [*steps((20, {"reward": 0.5})), heldout(20, accuracy=0.6, accuracy_error=0.03)]
    assert [warning for event in events for warning in log.add(event)] == []
    assert [warning.key for warning in log.add(heldout(20, accuracy=0.5, accuracy_error=0.03))] == ["held-out"]


def test_a_record_without_anything_is_silent():
    assert warnings_of([]) == []
    assert warnings_of([heldout(0, accuracy=0.5)]) == []
    assert warnings_of([{"kind": "step", "step": 1, "metrics": {}}, *steps((30, {}), (30, {"reward": None}))], run_config()) == []


def test_a_healthy_run_is_silent():
    """The quickstart's own course, in figures rounded from one of its runs."""
    course = [
        {
            "reward": 0.3 + 0.6 * share,
            "accuracy": 0.25 + 0.55 * share,
            "reward/reasoning_format": 0.59 + 0.39 * share,
            "completion_tokens": 34 + 24 * share,
            "truncated_share": 0.004,
            "zero_variance_share": 0.15 * share,
            "duplicate_share": 0.19 + 0.63 * share,
            "entropy": 0.18 - 0.155 * share,
            "grad_norm": 0.5 - 0.3 * share,
            "mismatch": 8e-8,
            "mismatch_kl": 0.0,
            "approx_kl": 0.0,
            "clip_low_share": 0.0,
            "clip_high_share": 0.0,
            "skipped_updates": 0.0,
            "unjudged_share": 0.0,
            "score_error_share": 0.0,
            "staleness": 0.0,
        }
        for share in (min(1.0, number / 25) for number in range(1, 51))
    ]
    timings = {"sample": 2.2, "score": 0.1, "update": 1.6, "publish": 0.01, "load": 0.06, "write": 0.01}
    events = [step(number, metrics, timings) for number, metrics in enumerate(course, start=1)]
    evaluations = [heldout(number, accuracy=accuracy, accuracy_error=0.05) for number, accuracy in ((20, 0.79), (40, 0.85), (50, 0.84))]
    assert warnings_of(sorted([*events, *evaluations], key=lambda event: event["step"]), run_config()) == []


@pytest.mark.parametrize("key", RULES)
def test_each_warning_has_its_heading_in_the_docs(key: str):
    headings = re.findall(r"^## (.+)$", (ROOT / "docs/tuning.md").read_text(), re.MULTILINE)
    # How GitHub makes an anchor: lower case, spaces become dashes.
    assert key in [heading.lower().replace(" ", "-") for heading in headings]
