import sys
from types import SimpleNamespace

import pytest

from rewards.reasoning_gym import reasoning_gym as reward
from tasks import TASKS, get_task
from tasks import reasoning_gym as module
from tasks.base import Source

ENTRY = '{"question": "6*7?", "answer": "42", "metadata": {}}'


def fake_package(items_of_seed):
    """As much of reasoning-gym as we call; an answer that contains the gold gets half a mark, as some generators give."""

    def create_dataset(name, size, seed):
        if name != "sums":
            raise ValueError(f"Dataset '{name}' not registered")
        return items_of_seed(seed)[:size]

    def score(answer, entry):
        return 1.0 if answer == entry["answer"] else 0.5 * (str(entry["answer"]) in answer)

    return SimpleNamespace(create_dataset=create_dataset, get_score_answer_fn=lambda name: score)


@pytest.fixture
def package(monkeypatch):
    module._generate.cache_clear()

    def items_of_seed(seed):
        numbers = [1, 2, 3] if seed == module.FIRST_ITEM["heldout"] else [2, 4, 5, 5, 6]
        made = [{"question": f"{n}+{n}?", "answer": str(2 * n), "metadata": {"n": n, "_rgid": object()}} for n in numbers]
        bad = [{"question": "?", "answer": "1", "metadata": {"n": object()}}, {"question": "??", "answer": None, "metadata": {}}]
        return [*made, *bad]

    monkeypatch.setitem(sys.modules, "reasoning_gym", fake_package(items_of_seed))
    yield
    module._generate.cache_clear()


def test_a_generator_is_a_task_whose_splits_share_nothing(package):
    task = get_task("reasoning_gym:sums")
    assert task.name == "reasoning_gym:sums"
    train, heldout = task.load("train", None, Source()), task.load("heldout", None, Source())
    assert [problem.question for problem in heldout.problems] == ["1+1?", "2+2?", "3+3?"]
    assert [problem.question for problem in train.problems] == ["4+4?", "5+5?", "6+6?"]
    assert (train.num_duplicates, train.num_overlapping) == (1, 1)
    assert [row.where for row in train.bad_rows] == ["sums, item 5", "sums, item 6"]
    assert "_rgid" not in train.problems[0].reference["entry"]
    reference = train.problems[0].reference
    assert (reference["answer"], reference["generator"]) == ("8", "sums")
    assert reward("<answer>8</answer>", reference) == 1.0
    assert reward("<answer>18</answer>", reference) == 0.0  # half a mark is no right answer
    assert reward("8", reference) == 0.0
    assert reward("<answer>8</answer>", {"answer": "8"}) is None


def test_what_there_is_not_is_refused(package, monkeypatch):
    with pytest.raises(ValueError, match="reasoning_gym cannot generate 'soms'"):
        get_task("reasoning_gym:soms").load("train", 0, Source())
    with pytest.raises(ValueError, match="reasoning_gym needs a generator; write reasoning_gym:leg_counting, say"):
        TASKS["reasoning_gym"].load("train", 0, Source())
    with pytest.raises(ValueError, match="the task 'reasoning_gym:sums' generates its problems; remove 'a.jsonl'"):
        get_task("reasoning_gym:sums").load("train", 0, Source(path="a.jsonl"))
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)  # as if it were not installed
    module._generate.cache_clear()
    with pytest.raises(ValueError, match="the package reasoning-gym is not installed; pip install reasoning-gym"):
        get_task("reasoning_gym:sums").load("train", 0, Source())


def test_the_package_itself_when_it_is_installed():
    pytest.importorskip("reasoning_gym", reason="reasoning-gym is an optional extra")
    problem = get_task("reasoning_gym:leg_counting").load("heldout", None, Source()).problems[0]
    assert reward(f"<answer>{problem.reference['answer']}</answer>", problem.reference) == 1.0
    assert reward("<answer>-1</answer>", problem.reference) == 0.0
