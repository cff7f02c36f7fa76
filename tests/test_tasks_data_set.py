import json

import pytest

from tasks import TASKS, get_task
from tasks.base import Source, is_heldout, question_id
from tasks.data_set import HELDOUT_ONE_IN
from tasks.golds import gold_text

JSONL = TASKS["jsonl"]


def write(path, rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return str(path)


def numbered(first, last):
    return [{"question": f"What is {number}?", "answer": str(number)} for number in range(first, last)]


def load(split="train", seed=None, task=JSONL, **source):
    return task.load(split, seed, Source(**source))


def answers(loaded):
    return sorted(int(problem.reference["answer"]) for problem in loaded.problems)


def test_bad_rows_are_listed_by_line_and_the_others_are_kept(tmp_path):
    rows = [
        *numbered(1, 3),  # lines 1 and 2
        "{not json",
        {"question": "Why?"},
        {"question": "Why?", "answer": "  "},
        {"question": "Why?", "answer": r"\frac{1}{"},
        {"question": "Why?", "answer": "1/0"},
        {"question": "What is 1?", "answer": "2"},  # line 8 contradicts line 1
        {"question": " what IS  1?", "answer": "1"},  # line 9 repeats line 1
        *numbered(3, 5),
    ]
    path = write(tmp_path / "a.jsonl", rows)
    loaded = load("heldout", heldout_path=path)
    assert [problem.question for problem in loaded.problems] == [f"What is {number}?" for number in (1, 2, 3, 4)]
    assert (loaded.num_rows, loaded.num_duplicates) == (11, 1)
    assert [row.where.rpartition("line ")[2] for row in loaded.bad_rows] == ["3", "4", "5", "6", "7", "8"]
    reasons = [row.reason for row in loaded.bad_rows]
    assert reasons[0].startswith("not JSON")
    assert reasons[1].startswith("no answer in 'answer' or")
    assert reasons[1].endswith("its fields are question")
    assert reasons[3].startswith(r"the gold '\\frac{1}{' cannot be read: the gold:")
    assert reasons[4] == "the gold '1/0' cannot be read: the gold is undefined: a division by zero"
    assert reasons[5] == f"the question of {path}, line 1 with another answer; correct one of them"


def test_a_lone_file_is_divided_by_hash_and_nothing_is_lost(tmp_path):
    path = write(tmp_path / "train.jsonl", numbered(0, 200))
    train, heldout = load(path=path, seed=1), load("heldout", seed=2, path=path)
    assert sorted([*answers(train), *answers(heldout)]) == list(range(200))
    assert all(is_heldout(problem.problem_id, HELDOUT_ONE_IN) for problem in heldout.problems)
    # Naming the same file twice is no different.
    assert load("heldout", seed=2, path=path, heldout_path=str(tmp_path / "." / "train.jsonl")) == heldout
    assert load(path=path, seed=1, heldout_path=path) == train


def test_a_heldout_file_is_held_out_whole_and_is_not_trained_on(tmp_path):
    path = write(tmp_path / "train.jsonl", numbered(0, 100))
    # 98 and 99 in another spelling, and 40 that are new.
    shouted = [{**row, "question": row["question"].upper()} for row in numbered(98, 140)]
    heldout_path = write(tmp_path / "test.jsonl", shouted)
    train = load(path=path, heldout_path=heldout_path)
    assert (answers(train), train.num_overlapping) == (list(range(98)), 2)
    assert answers(load("heldout", path=path, heldout_path=heldout_path)) == list(range(98, 140))


def test_the_seed_decides_the_order_and_none_keeps_the_files(tmp_path):
    path = write(tmp_path / "train.jsonl", numbered(0, 50))
    once, again, otherwise = load(path=path, seed=3), load(path=path, seed=3), load(path=path, seed=4)
    assert once == again
    assert once.problems != otherwise.problems
    assert answers(once) == answers(otherwise)
    in_order = [int(problem.reference["answer"]) for problem in load(path=path).problems]
    assert in_order == sorted(in_order)


def test_a_users_own_fields_are_read_and_no_others(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"text": f"{n}?", "gold": n, "answer": 99} for n in range(60)])
    loaded = load(path=path, question_field="text", answer_field="gold")
    assert len(loaded.problems) > 50
    assert all(problem.question == f"{problem.reference['answer']}?" for problem in loaded.problems)
    with pytest.raises(ValueError, match="holds no problem for the train split; the first of 60 bad rows is .*line 1: no question in 'txt'; .*; no row is good; mend them, r1 tasks show ... --bad lists them all"):
        load(path=path, question_field="txt")


def test_without_problems_the_error_says_what_to_give(tmp_path):
    with pytest.raises(ValueError, match="option 'task.path': the task 'jsonl' needs problems; give a file, or a hub name"):
        load()
    with pytest.raises(ValueError, match="'aime24' is a benchmark without training problems"):
        load(task=TASKS["aime24"])
    with pytest.raises(ValueError, match="holds no problem for the train split; give a larger file"):
        load(path=write(tmp_path / "empty.jsonl", []))


def test_an_id_is_of_the_question_whatever_its_spelling():
    assert question_id("What  is ２+2?") == question_id("what is 2+2?")
    assert question_id("What is 2+2?") != question_id("What is 2-2?")


@pytest.mark.parametrize(("one", "other"), [("3²", "32"), ("2⁵", "25"), ("x₁", "x1"), ("10²3", "10²³"), ("10²3", "10^{23}"), ("a⁻¹", "a-1")])
def test_what_stands_above_or_below_the_line_is_another_question(one, other):
    assert question_id(f"What is {one}?") != question_id(f"What is {other}?")


def test_an_id_stays_the_same_from_version_to_version():
    # The held-out problems of a lone file are chosen by it: blake2b of "what is 2+2?", 8 bytes.
    assert question_id("What is 2+2?") == "7b94a8c92aaf10c5"
    assert question_id("x²₁") == question_id("x^{2}_{1}")


def test_questions_that_differ_in_case_and_in_their_answers_are_two(tmp_path):
    rows = [("Find A.", 1), ("Find a.", 2), ("find a.", 1), ("Find  a.", 2), ("Find a.", 3), ("Find A.", 2), ("FIND A.", 3)]
    path = write(tmp_path / "a.jsonl", [{"question": question, "answer": answer} for question, answer in rows])
    loaded = load("heldout", heldout_path=path)
    found = [(problem.question, problem.reference["answer"]) for problem in loaded.problems]
    assert found == [("Find A.", "1"), ("Find a.", "2"), ("FIND A.", "3")]
    assert loaded.problems[0].problem_id == question_id("Find A.")
    assert len({problem.problem_id for problem in loaded.problems}) == 3
    assert loaded.num_duplicates == 2  # lines 3 and 4
    first, second = loaded.bad_rows
    assert (first.where, first.reason) == (f"{path}, line 5", f"the question of {path}, line 2 with another answer; correct one of them")
    assert (second.where, second.reason) == (f"{path}, line 6", f"the question of {path}, line 1 with another answer; correct one of them")


def test_the_spellings_of_a_question_are_all_on_one_side(tmp_path):
    rows = [{"question": f"Find {name}{n}.", "answer": answer} for n in range(100) for name, answer in (("A", n), ("a", n + 1))]
    path = write(tmp_path / "a.jsonl", rows)
    train, heldout = load(path=path), load("heldout", path=path)
    sides = [{problem.question.casefold() for problem in loaded.problems} for loaded in (train, heldout)]
    assert len(train.problems) + len(heldout.problems) == 200
    assert sides[1]
    assert not sides[0] & sides[1]
    # And whole files: "Find A1." is held out, "Find a1." is another spelling of it.
    other = write(tmp_path / "b.jsonl", rows[:2])
    train = load(path=path, heldout_path=other)
    assert (len(train.problems), train.num_overlapping) == (198, 2)


@pytest.mark.parametrize(("value", "text"), [(27.0, "27"), ("145.0", "145"), ("-3.00", "-3"), ("025", "025"), (0.5, "0.5"), ("1.", "1.")])
def test_whole_numbers_of_float_columns_are_whole(value, text):
    assert gold_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("So 3 + 2 = 5.\nIt is $\\boxed{5}$.", "5"),
        (r"It is \boxed{1}. No, it is \fbox{2}.", "2"),
        ("\\begin{pmatrix}\n1 \\\\\n2\n\\end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
        ("Mr. Smith", "Mr. Smith"),
        ("5\n", "5"),
    ],
)
def test_a_gold_is_what_the_box_holds_or_else_the_whole_answer(value, text):
    assert gold_text(value) == text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("48/2 = <<48/2=24>>24 clips.\n#### 72", "a worked solution: use task.name=gsm8k, which takes the number behind its '####'"),
        ("She sells 24. #### 72", "a worked solution: use task.name=gsm8k"),
        ("3 + 2 = 5\nSo it is 5", r"of several lines or sentences, a worked solution: put its answer in \\boxed\{\}, or in a field of its own"),
        ("She buys 3 apples. The answer is 5.", "of several lines or sentences"),
        (r"It is \boxed{", "the box of the answer is empty or never closed"),
    ],
)
def test_a_worked_solution_is_no_gold_and_the_reason_says_what_to_do(value, reason):
    with pytest.raises(ValueError, match=reason):
        gold_text(value)


@pytest.mark.parametrize("value", [True, None, ["4"], {"a": 1}])
def test_a_gold_that_is_neither_text_nor_number_is_refused(value):
    with pytest.raises(ValueError, match="the answer must be text or a number, got"):
        gold_text(value)


def test_a_task_takes_an_argument_only_where_it_has_one():
    with pytest.raises(ValueError, match="option 'task.name': 'gsm8k:3': the task 'gsm8k' takes no argument; write gsm8k"):
        get_task("gsm8k:3")
    with pytest.raises(KeyError):
        get_task("gsm9k")
