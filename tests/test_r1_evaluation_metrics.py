"""The numbers of an evaluation and their grouping of answers, against values worked out by hand."""

import json
import math
from dataclasses import asdict

import pytest
from scored_groups import scored_group

from r1.evaluation.majority import MathAnswers, answer_of, majority_labels, never_the_same
from r1.evaluation.metrics import flat, pass_rates, sample_counts, task_metrics
from r1.evaluation.report import budget_table, draw_budget_curves, metrics_table, write_json
from r1.evaluation.samples import EvaluatedProblem, Sample, evaluated, read_problems
from r1.sample_statistics import majority_accuracy
from r1.traces import write_traces


def sample(answer="1", right=False, tokens=10, **others):
    fields = {"is_judged": True, "is_truncated": False, "format": 0.0, "error": None, **others}
    return Sample(is_right=right, answer=answer, num_tokens=tokens, **fields)


def problem(name, *samples):
    return EvaluatedProblem(problem_id=name, samples=samples)


PROBLEMS = [
    # 1 of 4 right; the vote is 2 for "8", 1 for the right "7", 1 for "9".
    problem("a", sample("8", tokens=10), sample("7", right=True, tokens=20, format=1.0), sample("8", tokens=40), sample("9", tokens=80)),
    # 3 of 4 right; one has no answer, since it was cut off.
    problem(
        "b",
        sample("1", right=True, tokens=10, format=1.0),
        sample("1.0", right=True, tokens=20),
        sample("1", right=True, tokens=50),
        sample(None, tokens=100, is_truncated=True),
    ),
    # None right; one could not be judged.
    problem(
        "c", sample("5"), sample("6"), sample("7"), sample("8", is_judged=False, format=None, error="math_answer")
    ),
]


def test_the_metrics_by_hand():
    metrics = task_metrics(PROBLEMS, never_the_same, budgets=[10, 20, 64, 100])
    assert (metrics.num_problems, metrics.num_samples) == (3, 4)
    # 1/4, 3/4, 0: mean 1/3; deviations -1/12, 5/12, -1/3, their squares add up to (1 + 25 + 16) / 144 = 7/24.
    assert metrics.accuracy.mean == pytest.approx(1 / 3)
    assert metrics.accuracy.half_width == pytest.approx(1.959964 * math.sqrt(7 / 24 / 2 / 3))
    # pass@2: 1 - C(3,2)/C(4,2) = 1/2; 1 - C(1,2)/6 = 1; 0. pass@4: 1, 1, 0.
    assert {k: value.mean for k, value in metrics.pass_at.items()} == pytest.approx({1: 1 / 3, 2: 0.5, 4: 2 / 3})
    # a: "8" has most votes; b: the right ones are one answer however they are written; c: none is right.
    assert metrics.maj_at_k.mean == pytest.approx(1 / 3)
    assert metrics.completion_tokens == pytest.approx((150 + 180 + 40) / 12)
    assert metrics.truncated_share == pytest.approx(1 / 12)
    assert metrics.format_share == pytest.approx(2 / 11)
    assert metrics.unjudged_share == pytest.approx(1 / 12)
    assert metrics.reward_errors == {"math_answer": 1}
    # Right and no longer than b: b's first at 10; a's second and b's second at 20; b's third (50 tokens) at 64.
    assert [point.accuracy.mean for point in metrics.budget_curve] == pytest.approx([1 / 12, 3 / 12, 4 / 12, 4 / 12])
    # Unfinished: three of a and three of b after 10; 40, 80, 50, 100 after 20; 80 and 100 after 64; what was cut off at 100.
    assert [point.unfinished_share for point in metrics.budget_curve] == pytest.approx([6 / 12, 4 / 12, 2 / 12, 1 / 12])
    # Up to 20 tokens each: 10 + 20 + 20 + 20, the same, 4 x 10.
    assert metrics.budget_curve[1].completion_tokens == pytest.approx(180 / 12)
    assert metrics.forced_curve == []
    assert pass_rates(PROBLEMS) == {"a": (1, 4), "b": (3, 4), "c": (0, 3)}


def test_the_forced_curve_by_hand():
    # Unfinished after 20 tokens: a's third and fourth, b's third and fourth; after 100: b's fourth, which was cut off.
    answers = {20: [sample(right=True), sample(), sample(), sample(right=True)], 100: [sample(right=True, tokens=30)]}
    after_20, after_100 = task_metrics(PROBLEMS, never_the_same, [20, 100], answers).forced_curve
    # a: its second, and the first forced answer; b: its first two, and the last forced answer.
    assert after_20.accuracy.mean == pytest.approx((2 / 4 + 3 / 4 + 0) / 3)
    assert after_20.completion_tokens == pytest.approx((180 + 40) / 12)
    assert after_100.accuracy.mean == pytest.approx((1 / 4 + 4 / 4 + 0) / 3)
    assert after_100.completion_tokens == pytest.approx((150 + 180 + 40 + 30) / 12)
    with pytest.raises(ValueError, match="more forced answers than completions that are unfinished after 100 tokens"):
        task_metrics(PROBLEMS, never_the_same, [], {100: [sample(), sample()]})


def test_the_flat_metrics_name_what_a_log_shows():
    values = flat(task_metrics(PROBLEMS, never_the_same))
    names = {"accuracy", "accuracy_error", "pass@2", "pass@4", "maj@4", "completion_tokens", "truncated_share", "format_share"}
    assert set(values) == names | {"unjudged_share"}
    alone = flat(task_metrics([problem("a", sample(format=None))], never_the_same))
    assert set(alone) == {"accuracy", "maj@1", "completion_tokens", "truncated_share", "unjudged_share"}


def test_a_table_and_a_curve_come_of_it(tmp_path):
    metrics = {"one": task_metrics(PROBLEMS, never_the_same, [16, 64])}
    assert [column.header.plain for column in metrics_table(metrics).columns][3:7] == ["pass@1", "pass@2", "pass@4", "maj@4"]
    curves = {name: of_task.budget_curve for name, of_task in metrics.items()}
    assert budget_table(curves).row_count == 2
    draw_budget_curves(curves, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    write_json(tmp_path / "x.json", {"a": 1})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}


@pytest.mark.parametrize("problems", [[], [problem("a", sample()), problem("b", sample(), sample())], [problem("a")]])
def test_what_has_no_metrics(problems):
    with pytest.raises(ValueError, match="no metrics of no problems|the same number of samples"):
        task_metrics(problems, never_the_same)


def test_pass_at_k_is_taken_at_powers_of_two():
    assert [sample_counts(k) for k in (1, 2, 3, 16)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 8, 16]]


def same_number(asked):
    """Compares as numbers, and notes what it was asked."""

    def same(pairs):
        asked.extend(pairs)
        return [float(first) == float(second) for first, second in pairs]

    return same


def test_only_wrong_answers_that_can_decide_the_vote_are_compared():
    asked = []
    answers = [
        ["2", "2.0", "3", "7"],  # one right, and "2" twice in two spellings
        ["2", "2.0", "3", "4"],  # none right: whatever the majority is, it is wrong
        ["7", "7.0", "7", "2"],  # the right ones are more than all others
        [None, "2", "2", "7"],  # one wrong text, twice
    ]
    right = [[False, False, False, True], [False] * 4, [True, True, True, False], [False, False, False, True]]
    labels = majority_labels(answers, right, same_number(asked))
    assert labels[0][0] == labels[0][1] != labels[0][2]
    assert labels[2][:3] == ["right"] * 3
    assert labels[3][0] is None
    assert labels[3][1] == labels[3][2]
    assert sorted(asked) == [("2.0", "2"), ("3", "2")]  # and "3" is left alone, so is not compared any more


def test_grouping_goes_on_until_each_answer_has_its_group():
    asked = []
    [labels] = majority_labels([["1", "2", "1.0", "2.0", "3", "9"]], [[False] * 5 + [True]], same_number(asked))
    assert labels == ["wrong 1", "wrong 2", "wrong 1", "wrong 2", "wrong 3", "right"]
    # All with "1"; what is left ("2", "2.0", "3") with "2"; "3" is alone.
    assert len(asked) == 4 + 2


@pytest.mark.slow
def test_the_math_grader_groups_what_it_calls_equal():
    answers, right = [["0.5", r"\frac{1}{2}", "1/2", "3", "3"]], [[False, False, False, True, True]]
    with MathAnswers(deadline_s=20.0) as same:
        [labels] = majority_labels(answers, right, same)
        assert same([("2", "3"), ("a</answer>", "a"), ("1", "")]) == [False, False, False]
    assert labels[0] == labels[1] == labels[2]


@pytest.mark.parametrize(
    ("text", "form", "correctness", "expected"),
    [
        ("<think>7</think><answer>8</answer>", "tags", "math_answer", "8"),
        (r"\boxed{8}", "box", "math_answer", "8"),
        ("so\n#### 8", "hash", "math_answer", "8"),
        ("<think>8", "any", "math_answer", None),
        ("<answer>(c) 12</answer>", "any", "multiple_choice", "C"),
        ("<answer>A or B</answer>", "any", "multiple_choice", None),
        ("<answer>B) or C)</answer>", "any", "multiple_choice", None),
        ("<answer>1 + 2</answer>", "any", "countdown", "1 + 2"),
        # Two answers are no answer for these two, wherever they stand.
        ("<think>maybe <answer>1</answer></think><answer>1 + 2</answer>", "any", "countdown", None),
        ("<think>maybe <answer>5</answer></think><answer>7</answer>", "any", "accuracy", None),
        ("<think>maybe <answer>5</answer></think><answer>7</answer>", "any", "math_answer", "7"),
        (r"<think>7</think>So \boxed{7}.", "any", "accuracy", None),
        (r"<think>7</think>So \boxed{07}.", "box", "accuracy", "7"),
        ("<answer> </answer>", "any", "accuracy", None),
        ("<answer>" + "1+" * 150 + "1</answer>", "any", "countdown", None),
        ("<answer>7</answer>", "any", "my_rewards.py:right", "7"),
    ],
)
def test_what_a_completion_answers(text, form, correctness, expected):
    assert answer_of(text, {"answer_form": form}, correctness) == expected


def test_a_choice_with_the_text_of_another_is_no_vote():
    reference = {"answer_form": "any", "choices": {"A": "41", "B": "42"}}
    texts = ["<answer>B) 42</answer>", "<answer>B) 41</answer>", "<answer>E</answer>", "<answer>E) 43</answer>"]
    assert [answer_of(text, reference, "multiple_choice") for text in texts] == ["B", None, "E", None]


def test_what_the_grader_sees_no_answer_in_does_not_outvote_the_right_one():
    texts = ["<answer>42</answer>", *["<think>maybe <answer>5</answer></think><answer>7</answer>"] * 2]
    breakdowns = [{"accuracy": 1.0}, {"accuracy": 0.0}, {"accuracy": 0.0}]
    of_problem = evaluated(scored_group(texts, [1.0, 0.0, 0.0], breakdowns=breakdowns), "accuracy")
    assert task_metrics([of_problem], never_the_same).maj_at_k.mean == 1.0


def test_traces_and_scored_groups_say_the_same(tmp_path):
    group = scored_group(
        ["19</think><answer>19</answer>", "<answer>18</answer>", "what"],
        [1.1, 0.0, None],
        breakdowns=[{"accuracy": 1.0, "reasoning_format": 1.0}, {"accuracy": 0.0, "reasoning_format": 0.0}, {"accuracy": None}],
        errors=[None, None, "accuracy: timed out after 2.0 s"],
        finish_reasons=["stop", "stop", "length"],
        num_tokens=[7, 5, 64],
        prefill="<think>",
    )
    write_traces(tmp_path, 3, [group], template="plain", split="heldout")
    [stored] = read_problems(tmp_path, [3], "accuracy")
    assert stored == evaluated(group, "accuracy")
    first, second, third = stored.samples
    assert asdict(first) == {
        "is_right": True, "is_judged": True, "answer": "19", "num_tokens": 7, "is_truncated": False, "format": 1.0, "error": None
    }
    assert (second.is_right, second.is_judged, second.answer) == (False, True, None)  # an answer inside the thinking
    assert (third.is_judged, third.is_truncated, third.format, third.error) == (False, True, None, "accuracy")
    accuracy = task_metrics([stored], never_the_same).accuracy
    assert (accuracy.mean, accuracy.half_width) == (pytest.approx(1 / 3), None)


def test_where_many_answers_are_right_they_are_not_one_vote():
    # Three right expressions and a wrong one twice: the vote is the wrong one's.
    answers = [["1+2", "2+1", "3*1", "4+0", " 4+0"]]
    right = [[True, True, True, False, False]]
    [labels] = majority_labels(answers, right, never_the_same, one_right_answer=False)
    assert majority_accuracy(labels, right[0]) == 0.0
    [labels] = majority_labels(answers, right, never_the_same)
    assert majority_accuracy(labels, right[0]) == 1.0  # as for a gold that all right answers equal
