import json
from pathlib import Path

import pytest

from rewards import REWARDS
from tasks.base import is_heldout
from tasks.gsm8k import GSM8K, HELDOUT_ONE_IN, load

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


def write_rows(path, rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return str(path)


def numbered_rows(first, last):
    return [{"question": f"What is {number}?", "answer": f"Count.\n#### {number}"} for number in range(first, last)]


def test_a_row_becomes_a_problem_with_the_gold_number_behind_the_marker(tmp_path):
    row = {"question": " How many? ", "answer": "10*108=<<10*108=1080>>1080 #### no, wait\n#### 1,080"}
    train = write_rows(tmp_path / "train.jsonl", [row, ""])
    another = write_rows(tmp_path / "another.jsonl", numbered_rows(0, 1))
    [problem] = load("train", 0, train, another)
    assert (problem.question, problem.reference) == ("How many?", {"answer": "1080"})


@pytest.mark.parametrize(
    ("bad_row", "message"),
    [
        ("{not json", "not JSON"),
        ("[1, 2]", "needs the text fields 'question' and 'answer'"),
        ({"question": "Why?"}, "needs the text fields 'question' and 'answer'"),
        ({"question": " ", "answer": "#### 1"}, "needs the text fields 'question' and 'answer'"),
        ({"question": "Why?", "answer": 7}, "needs the text fields 'question' and 'answer'"),
        ({"question": "Why?", "answer": "7"}, "'answer' must end in '#### ' and the gold number, got '7'"),
        ({"question": "Why?", "answer": "#### seven"}, "'answer' must end in '#### ' and the gold number, got '#### seven'"),
        ({"question": "What is 1?", "answer": "#### 2"}, "the same question as in .*train.jsonl, line 1; remove one of them"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, bad_row, message):
    train = write_rows(tmp_path / "train.jsonl", [*numbered_rows(1, 3), bad_row])
    with pytest.raises(ValueError, match=f"^{train}, line 3: {message}"):
        load("train", 0, train)


def test_a_line_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "latin1.jsonl"
    path.write_bytes('{"question": "Wie groß?", "answer": "#### 1"}\n'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin1.jsonl, line 1: not JSON"):
        load("train", 0, str(path))


def test_without_a_path_or_with_a_missing_file_the_error_says_what_to_give(tmp_path):
    remedy = "give a JSON-lines file or a hub name such as openai/gsm8k"
    with pytest.raises(ValueError, match=f"option 'task.path': the task 'gsm8k' needs problems; {remedy}"):
        load("train", 0, None)
    with pytest.raises(ValueError, match=rf"option 'task.path': no file '.*missing.jsonl'; {remedy}"):
        load("train", 0, str(tmp_path / "missing.jsonl"))
    empty = write_rows(tmp_path / "empty.jsonl", [])
    with pytest.raises(ValueError, match="holds no problem for the train split"):
        load("train", 0, empty)


def test_a_lone_file_is_divided_by_hash_and_nothing_is_lost(tmp_path):
    path = write_rows(tmp_path / "train.jsonl", numbered_rows(0, 200))
    train, heldout = load("train", 1, path), load("heldout", 2, path)
    assert {problem.reference["answer"] for problem in [*train, *heldout]} == {str(number) for number in range(200)}
    assert len(train) + len(heldout) == 200
    assert all(is_heldout(problem.problem_id, HELDOUT_ONE_IN) for problem in heldout)
    # Naming the same file twice is no different.
    assert load("heldout", 2, path, str(tmp_path / "." / "train.jsonl")) == heldout
    assert load("train", 1, path, path) == train


def test_a_heldout_file_is_held_out_whole_and_leaves_the_training_file_whole(tmp_path):
    path = write_rows(tmp_path / "train.jsonl", numbered_rows(0, 100))
    heldout_path = write_rows(tmp_path / "test.jsonl", numbered_rows(100, 140))
    assert len(load("train", 0, path, heldout_path)) == 100
    assert sorted(int(problem.reference["answer"]) for problem in load("heldout", 0, path, heldout_path)) == list(range(100, 140))


def test_the_seed_decides_the_order_and_not_the_problems(tmp_path):
    path = write_rows(tmp_path / "train.jsonl", numbered_rows(0, 50))
    once, again, otherwise = load("train", 3, path), load("train", 3, path), load("train", 4, path)
    assert once == again
    assert once != otherwise
    assert {problem.problem_id for problem in once} == {problem.problem_id for problem in otherwise}


def test_every_reward_of_the_task_exists_and_correctness_is_one_of_them():
    assert set(GSM8K.rewards) <= set(REWARDS)
    assert GSM8K.correctness in GSM8K.rewards


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the real data sets do not lie beside the repository")
def test_the_real_training_set_reads_whole_and_every_gold_is_an_integer():
    train_path, test_path = str(REAL_DATA / "gsm8k_train.jsonl"), str(REAL_DATA / "gsm8k_test.jsonl")
    train, heldout = load("train", 0, train_path, test_path), load("heldout", 0, train_path, test_path)
    # The sizes in the paper's section 2: 7.5K and 1K problems; 7,473 and 1,319 in the published files.
    assert (len(train), len(heldout)) == (7473, 1319)
    assert all(str(int(problem.reference["answer"])) == problem.reference["answer"] for problem in [*train, *heldout])


def test_a_problem_of_the_heldout_file_is_never_trained_on(tmp_path):
    train = write_rows(tmp_path / "train.jsonl", numbered_rows(0, 10))
    heldout = write_rows(tmp_path / "heldout.jsonl", numbered_rows(8, 12))
    assert sorted(int(problem.reference["answer"]) for problem in load("train", 0, train, heldout)) == list(range(8))
    assert sorted(int(problem.reference["answer"]) for problem in load("heldout", 0, train, heldout)) == list(range(8, 12))
