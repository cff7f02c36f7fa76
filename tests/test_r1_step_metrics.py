from dataclasses import replace
from math import isnan

from scored_groups import scored_group

from r1.step_metrics import rollout_metrics
from r1.types import Score


def metrics_of(*scores):
    group = scored_group(["a"] * len(scores), [None] * len(scores))
    return rollout_metrics([replace(group, scores=scores)], "f")


def test_failures_are_counted_per_reward_timeouts_apart():
    fine = Score(reward=2.0, breakdown={"f": 1.0, "g": 1.0})
    raised = Score(reward=None, breakdown={"f": None, "g": 0.0}, error="f: KeyError", failures={"f": "error"})
    both = Score(reward=None, breakdown={"f": None, "g": None}, error="f: no", failures={"f": "error", "g": "error"})
    late = Score(reward=None, breakdown={"f": 0.0, "g": None}, error="g: timed out", failures={"g": "timeout"})
    metrics = metrics_of(fine, raised, both, late)
    assert {name: metrics[name] for name in metrics if name.startswith(("reward_errors", "reward_timeouts"))} == {
        "reward_errors/f": 2.0,
        "reward_timeouts/f": 0.0,
        "reward_errors/g": 2.0,
        "reward_timeouts/g": 1.0,
    }
    assert metrics["score_error_share"] == 0.75
    assert metrics["accuracy"] == 0.5  # 1 and 0; the other two have no value


def test_what_cannot_be_judged_is_no_failure():
    metrics = metrics_of(Score(reward=None, breakdown={"f": None}))
    assert (metrics["reward_errors/f"], metrics["unjudged_share"]) == (0.0, 1.0)
    assert all(isnan(metrics[name]) for name in ("reward", "reward/f", "accuracy")), "0 would be a collapse"


def test_the_spread_of_the_rewards_and_the_longest_completion():
    scores = tuple(Score(reward=reward, breakdown={"f": reward}) for reward in (1.0, 2.0, 3.0, None))
    group = replace(scored_group(["a", "bbb", "cc", "d"], [None] * 4), scores=scores)
    metrics = rollout_metrics([group], "f")
    # Mean 2, squares of the differences 1 + 0 + 1, over 3 - 1.
    assert metrics["reward_std"] == 1.0
    assert metrics["completion_tokens_max"] == max(len(completion.token_ids) for completion in group.completions)
    assert metrics_of(Score(reward=1.0, breakdown={"f": 1.0}))["reward_std"] == 0.0


def test_a_mixture_has_the_accuracy_of_each_task_by_its_own_reward():
    sums = replace(scored_group(["a", "b"], [1.0, 0.0]), scores=tuple(Score(reward=r, breakdown={"f": r}) for r in (1.0, 0.0)))
    words = replace(sums, scores=(Score(reward=0.5, breakdown={"g": 1.0, "f": 0.0}), Score(reward=None, breakdown={"g": None, "f": None})))
    words = replace(words, prompt=replace(words.prompt, task="words"))
    metrics = rollout_metrics([sums, words], {"arithmetic": "f", "words": "g"})
    assert (metrics["accuracy/arithmetic"], metrics["accuracy/words"]) == (0.5, 1.0)
    assert metrics["accuracy"] == (1 + 0 + 1) / 3  # over the completions that have one
    assert metrics["reward/g"] == 1.0
    assert metrics["reward/f"] == (1 + 0 + 0) / 3
    assert "accuracy/arithmetic" not in rollout_metrics([sums], "f")
