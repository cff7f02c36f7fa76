import pytest

from r1.errors import ScoringError
from r1.scoring_rules import check_error_rate, weighted_sum, with_context
from r1.types import Score

WEIGHTS = {"math_answer": 2.0, "reasoning_format": 0.1, "tag_count": 0.4}

# math_answer, reasoning_format, tag_count -> with the gate, without it
SUMS = [
    (1.0, 1.0, 1.0, 2.5, 2.5, "right in format: 2 + 0.1 + 0.4"),
    (1.0, 0.0, 0.75, 0.3, 2.3, "right out of format: only 0.4 x 0.75 is left of 2 + 0.3"),
    (0.0, 0.0, 0.5, 0.2, 0.2, "wrong out of format: there is nothing to take away"),
    (0.0, 1.0, 1.0, 0.5, 0.5, "wrong in format"),
    (-1.0, 0.0, 0.5, -1.8, -1.8, "a penalty for a wrong answer stays: -2 + 0.2"),
    (None, 0.0, 0.5, None, None, "what cannot be judged has no reward, gate or not"),
    (1.0, None, 0.5, None, None, "nor has what failed in the format"),
]


@pytest.mark.parametrize(("right", "in_format", "tags", "gated", "free", "why"), SUMS, ids=[why for *_, why in SUMS])
def test_the_format_gates_accuracy(right, in_format, tags, gated, free, why):
    breakdown = {"math_answer": right, "reasoning_format": in_format, "tag_count": tags}
    assert weighted_sum(breakdown, WEIGHTS, "math_answer") == (pytest.approx(gated) if gated is not None else None)
    assert weighted_sum(breakdown, WEIGHTS, None) == (pytest.approx(free) if free is not None else None)


def test_without_a_format_reward_there_is_no_gate():
    assert weighted_sum({"math_answer": 1.0, "tag_count": 0.0}, {"math_answer": 1.0, "tag_count": 0.5}, "math_answer") == 1.0


def test_context_is_added_and_the_problems_own_values_stay():
    facts = {"num_tokens": 7, "max_tokens": 96, "finish_reason": "length", "question": "2+2="}
    given = {"answer": "4", "language": "zh"}
    assert with_context(given, answer_form="tags", **facts) == {**given, **facts, "answer_form": "tags"}
    assert given == {"answer": "4", "language": "zh"}
    own = {"answer": "4", "answer_form": "box", "question": "as in the book"}
    assert with_context(own, answer_form="tags", **facts) == {**facts, **own}
    assert "max_tokens" not in with_context(own, answer_form="tags", **{**facts, "max_tokens": None})


def scores_with(num_failed, num_scores):
    fine, failed = Score(reward=1.0, breakdown={"f": 1.0}), Score(reward=None, breakdown={"f": None}, error="f: timed out after 2 s")
    return [failed] * num_failed + [fine] * (num_scores - num_failed)


@pytest.mark.parametrize(
    ("num_failed", "num_scores", "stops", "why"),
    [
        (0, 16, False, "none"),
        (1, 16, False, "one hard case in a small step"),
        (4, 16, False, "2 % of 200 are 4"),
        (5, 16, True, "one more"),
        (16, 16, True, "a broken reward function"),
        (4, 200, False, "2 % of 200"),
        (5, 200, True, "one more"),
        (20, 1000, False, "2 % of 1000"),
        (21, 1000, True, "one more"),
    ],
)
def test_how_many_failures_stop_a_run(num_failed, num_scores, stops, why):
    ids = [f"problem-{i}" for i in range(num_scores)]
    scores = scores_with(num_failed, num_scores)
    if not stops:
        check_error_rate(ids, scores)
        return
    with pytest.raises(ScoringError):
        check_error_rate(ids, scores)


def test_the_message_has_the_numbers_and_examples():
    with pytest.raises(ScoringError) as raised:
        check_error_rate(list("abcdef"), scores_with(5, 6))
    assert str(raised.value) == (
        "5 of 6 scores failed, more than the 4 that may: "
        "a: f: timed out after 2 s; b: f: timed out after 2 s; c: f: timed out after 2 s; ..."
    )
