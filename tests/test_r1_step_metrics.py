from dataclasses import replace

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
    assert {name: metrics[name] for name in metrics if name.startswith("reward_")} == {
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
