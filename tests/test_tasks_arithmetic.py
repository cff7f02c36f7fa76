from itertools import islice

import pytest

from tasks.arithmetic import ARITHMETIC, HELDOUT_ONE_IN, NUM_PROBLEMS, addition, load
from tasks.base import Source, is_heldout


def test_an_addition_carries_its_question_and_its_answer():
    problem = addition(37, 485)  # 37 + 485 = 522
    assert (problem.problem_id, problem.question, problem.reference) == ("37+485", "37+485=", {"answer": "522"})


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_each_split_holds_its_number_of_distinct_problems_of_its_own(split):
    problem_ids = [problem.problem_id for problem in load(split, 3, Source()).problems]
    assert len(problem_ids) == len(set(problem_ids)) == NUM_PROBLEMS[split]
    assert {is_heldout(problem_id, HELDOUT_ONE_IN) for problem_id in problem_ids} == {split == "heldout"}


def test_splits_of_different_seeds_share_no_problem():
    train = {problem.problem_id for problem in load("train", 1, Source()).problems}
    assert train.isdisjoint(problem.problem_id for problem in load("heldout", 2, Source()).problems)


def test_the_seed_alone_decides_the_problems():
    assert load("heldout", 5, Source()).problems == load("heldout", 5, Source()).problems
    assert load("heldout", 5, Source()).problems != load("heldout", 6, Source()).problems


def test_numbers_have_two_or_three_digits_and_answers_are_their_sums():
    lengths = set()
    for problem in islice(load("train", 0, Source()).problems, 2_000):
        left, right = problem.problem_id.split("+")
        lengths.add((len(left), len(right)))
        assert problem.question == f"{left}+{right}="
        assert problem.reference["answer"] == str(int(left) + int(right))
    assert lengths == {(2, 2), (2, 3), (3, 2), (3, 3)}


@pytest.mark.parametrize("option", ["task.path", "task.heldout_path", "task.question_field", "task.answer_field"])
def test_a_path_is_refused_at_once_and_by_the_name_of_its_option(option):
    with pytest.raises(
        ValueError, match=f"^option '{option}': the task 'arithmetic' generates its problems; remove 'sums.jsonl'$"
    ):
        load("train", 0, Source(**{option.removeprefix("task."): "sums.jsonl"}))


def test_the_task_names_its_rewards():
    assert ARITHMETIC.rewards == {"accuracy": 1.0, "reasoning_format": 0.1}
    assert ARITHMETIC.correctness in ARITHMETIC.rewards
    assert ARITHMETIC.load is load
