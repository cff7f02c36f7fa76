from dataclasses import replace

import pytest
from scored_groups import scored_group

from r1.evaluate import sample_statistics


def group(answers, rewards, group_id=0, task="arithmetic"):
    made = scored_group([f"<answer>{answer}</answer>" for answer in answers], rewards, group_id=group_id)
    return replace(made, prompt=replace(made.prompt, task=task))


def test_one_completion_a_problem_has_an_accuracy_and_its_error():
    groups = [group(["19"], [reward], group_id=i) for i, reward in enumerate([1.0, 0.0, 1.0, 0.0])]
    # Sample deviation of 1 0 1 0: sqrt(1/3) = 0.57735; over sqrt(4), times 1.96: 0.5658.
    assert sample_statistics(groups, "accuracy", 2.0) == pytest.approx({"accuracy_error": 0.565793}, rel=1e-5)


def test_several_completions_a_problem_have_pass_and_maj_at_k_by_task():
    groups = [
        group(["19", "19", "8", "7"], [1.0, 1.0, 0.0, 0.0], task="a"),  # pass@2 = 1 - C(2,2)/C(4,2) = 5/6; 19 wins
        group(["5", "5", "19", "6"], [0.0, 0.0, 1.0, 0.0], group_id=1, task="a"),  # pass@2 = 1 - C(3,2)/6 = 1/2; 5 wins
        group(["3", "4"], [0.0, 0.0], group_id=2, task="b"),
    ]
    statistics = sample_statistics(groups, {"a": "accuracy", "b": "accuracy"}, 2.0)
    # Task a: pass@1 is 1/2 and 1/4, deviation 0.25/sqrt(2); over sqrt(2), times 1.96: 0.24500.
    assert statistics == pytest.approx(
        {
            "accuracy_error/a": 0.2449955,
            "pass@2/a": (5 / 6 + 1 / 2) / 2,
            "pass@4/a": 1.0,
            "maj@4/a": 0.5,
            "pass@2/b": 0.0,
            "maj@2/b": 0.0,
        },
        rel=1e-5,
    )


@pytest.mark.slow
def test_answers_to_math_are_compared_by_its_grader():
    # 1/2 and 0.5 are one wrong answer with two votes, against one right one; as texts it would be a tie.
    made = group(["19", "1/2", "0.5"], [1.0, 0.0, 0.0])
    scores = tuple(replace(score, breakdown={"math_answer": score.reward}) for score in made.scores)
    assert sample_statistics([replace(made, scores=scores)], "math_answer", 2.0)["maj@3"] == 0.0
