from random import Random

import pytest

from rewards.countdown import countdown
from tasks import get_task
from tasks.base import Source, is_heldout
from tasks.countdown import COUNTDOWN, HELDOUT_ONE_IN, NUM_PROBLEMS, draw_problem, load, puzzle, short_question


def test_a_puzzle_carries_its_numbers_its_target_and_a_solution():
    problem = puzzle([44, 19, 35], 98, "44 + 19 + 35")
    assert problem.problem_id == puzzle([35, 44, 19], 98, "35 + 44 + 19").problem_id == "19,35,44=98"
    assert "44, 19, 35" in problem.question
    assert problem.question.endswith("to make 98.")
    assert problem.reference == {"numbers": [44, 19, 35], "target": 98, "answer": "44 + 19 + 35"}


def test_every_problem_can_be_solved_and_no_number_is_the_target_itself():
    rng, lengths = Random(0), set()
    for _ in range(500):
        reference = draw_problem(rng).reference
        assert countdown(f"<think>.</think><answer>{reference['answer']}</answer>", reference) == 1.0
        assert countdown(f"<think>.</think><answer>{reference['target']}</answer>", reference) == 0.0
        assert 10 <= reference["target"] <= 100
        assert all(1 <= number <= 99 for number in reference["numbers"])
        lengths.add(len(reference["numbers"]))
    assert lengths == {3, 4}


@pytest.mark.slow
def test_each_split_holds_distinct_problems_of_its_own():
    heldout = [problem.problem_id for problem in load("heldout", 3, Source()).problems]
    assert len(heldout) == len(set(heldout)) == NUM_PROBLEMS["heldout"]
    assert all(is_heldout(problem_id, HELDOUT_ONE_IN) for problem_id in heldout)


def test_the_seed_alone_decides_the_problems():
    first, again, other = (draw_problem(Random(seed)) for seed in (5, 5, 6))
    assert first == again != other


@pytest.mark.slow
def test_the_training_split_shares_nothing_with_the_held_out_one():
    train = {problem.problem_id for problem in load("train", 1, Source()).problems}
    assert len(train) == NUM_PROBLEMS["train"]
    assert train.isdisjoint(problem.problem_id for problem in load("heldout", 2, Source()).problems)


def test_a_path_is_refused():
    with pytest.raises(ValueError, match="^option 'task.path': the task 'countdown' generates its problems; remove 'a.jsonl'$"):
        load("train", 0, Source(path="a.jsonl"))


def test_the_task_names_its_rewards():
    assert COUNTDOWN.correctness in COUNTDOWN.rewards


@pytest.mark.slow
def test_short_questions_are_the_same_games():
    plain, short = load("heldout", 0, Source()).problems, get_task("countdown:short").load("heldout", 0, Source()).problems
    assert [problem.problem_id for problem in plain] == [problem.problem_id for problem in short]
    assert [problem.reference for problem in plain] == [problem.reference for problem in short]
    assert short_question({"numbers": [44, 19, 35], "target": 98}) == "44,19,35=98:"
    with pytest.raises(ValueError, match="option 'task.name': 'countdown:long' must be countdown, or countdown:short"):
        get_task("countdown:long")
