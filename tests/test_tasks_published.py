"""The rows of published data sets, as their owners write them; and the real files, where they lie beside the repository."""

import json
from pathlib import Path

import pytest

from rewards import REWARDS
from tasks import TASKS, get_task
from tasks.base import Source
from tasks.benchmarks import read_mawps, read_olympiad, read_plain, read_svamp
from tasks.math import DAPO_BEFORE, DAPO_BEHIND, read_dapo, read_math
from tasks.own_data import read_choice

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"
real_data = pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the real data sets do not lie beside the repository")


def answer(reading):
    return reading.reference["answer"]


def test_every_task_has_rewards_that_exist_and_a_correctness_among_them():
    for name, task in TASKS.items():
        assert task.name == name
        assert set(task.rewards) <= set(REWARDS), name
        assert task.correctness in task.rewards, name


def test_math_takes_the_answer_or_else_the_last_box_and_chooses_levels():
    row = {"problem": "P", "level": "Level 4", "solution": r"First \boxed{1}, so \boxed{\frac{1}{2}}."}
    assert answer(read_math(row, Source())) == r"\frac{1}{2}"
    assert answer(read_math({**row, "answer": "0.5"}, Source())) == "0.5"
    assert answer(read_math({**row, "answer": ""}, Source())) == r"\frac{1}{2}"  # an empty cell of a table
    assert answer(read_math({**row, "solution": "So\n\\boxed{x = 1,\n y = 2}."}, Source())) == "x = 1, y = 2"
    assert read_math(row, Source(), (1, 3)) is None
    assert read_math({**row, "level": 3}, Source(), (1, 3)) is not None
    with pytest.raises(ValueError, match="'level' must be a level from 1 to 5, got 'Level \\?'"):
        read_math({**row, "level": "Level ?"}, Source(), (1, 3))
    assert read_math({**row, "level": "Level ?"}, Source()) is not None
    with pytest.raises(ValueError, match="'solution' has no answer in a box"):
        read_math({"problem": "P", "solution": "It is 7."}, Source())


def test_the_levels_of_math_are_part_of_its_name(tmp_path):
    path = tmp_path / "math.jsonl"
    rows = [{"problem": f"P{level}{i}", "level": f"Level {level}", "answer": str(level)} for level in range(1, 6) for i in range(9)]
    path.write_text("\n".join(map(json.dumps, rows)))
    loaded = get_task("math:3-5").load("heldout", None, Source(heldout_path=str(path)))
    assert {problem.reference["answer"] for problem in loaded.problems} == {"3", "4", "5"}
    assert len(loaded.problems) == 27
    assert get_task("math:5").name == "math:5"
    for wrong in ("math:6", "math:5-3", "math:", "math:all"):
        with pytest.raises(ValueError, match=f"option 'task.name': '{wrong}' must name levels from 1 to 5, e.g. math:3-5"):
            get_task(wrong)


def test_dapos_wrapper_is_taken_off_and_nothing_of_the_problem():
    # "Solve" begins with letters of the wrapper: stripping characters instead of the text would eat them.
    question = "Solve for n: Remember Answer"
    prompt = [{"role": "user", "content": DAPO_BEFORE + question + DAPO_BEHIND}]
    row = {"prompt": prompt, "reward_model": {"ground_truth": "34", "style": "rule"}}
    reading = read_dapo(row, Source())
    assert (reading.question, answer(reading)) == (question, "34")
    assert answer(read_dapo({"prompt": "P", "solution": "-3"}, Source())) == "-3"
    with pytest.raises(ValueError, match="the question is empty"):
        read_dapo({"prompt": DAPO_BEFORE + DAPO_BEHIND, "solution": "1"}, Source())


def test_the_word_problems_are_put_together():
    svamp = {"Body": "There are 87 oranges and 290 bananas.", "Question": "How many bananas?", "Answer": 290.0}
    reading = read_svamp(svamp, Source())
    assert (reading.question, answer(reading)) == ("There are 87 oranges and 290 bananas. How many bananas?", "290")
    assert answer(read_mawps({"input": "Q", "target": 43.0}, Source())) == "43"
    assert answer(read_mawps({"question": "Q", "result": "1/2"}, Source())) == "1/2"


def test_the_benchmarks_golds_are_read_in_all_their_forms():
    assert answer(read_plain({"problem": "P", "solution": r"\boxed{371}"}, Source())) == "371"
    assert answer(read_plain({"question": "P", "answer": "025"}, Source())) == "025"
    assert answer(read_plain({"question": "P", "answer": "025", "solution": r"\boxed{26}"}, Source())) == "025"
    with pytest.raises(ValueError, match=r"no answer in 'answer' or .* 'solution'; .* task.answer_field=solution where it is the bare answer"):
        read_plain({"question": "P", "solution": "Six times seven is 42."}, Source())
    assert answer(read_plain({"question": "P", "solution": "42"}, Source(answer_field="solution"))) == "42"
    assert answer(read_olympiad({"question": "P", "final_answer": ["$2^{1009}$"], "context": "C"}, Source())) == "$2^{1009}$"
    assert read_olympiad({"question": "P", "final_answer": "['$2$']", "context": "C"}, Source()).question == "C\nP"
    assert answer(read_olympiad({"question": "P", "final_answer": "[1, 2)"}, Source())) == "[1, 2)"
    with pytest.raises(ValueError, match="'final_answer' must hold one answer, got 2"):
        read_olympiad({"question": "P", "final_answer": ["$1$", "$2$"]}, Source())


@pytest.mark.parametrize(
    "row",
    [
        {"question": "6*7?", "choices": ["41", "42"], "answer": 1},  # MMLU
        {"question": "6*7?", "choices": {"text": ["41", "42"], "label": ["1", "2"]}, "answerKey": "2"},  # ARC
        {"question": "6*7?", "choices": {"text": ["41", "42", "43"][:2], "label": ["1", "2"]}, "answer": 2},
        {"question": "6*7?", "options": ["A)41", "B)42"], "correct": "B"},  # AQuA-RAT
        {"question": "6*7?", "choices": {"A": "41", "B": "42"}, "answer": "B"},
    ],
)
def test_choices_become_lettered_lines(row):
    reading = read_choice(row, Source())
    assert reading.question == "6*7?\nA) 41\nB) 42"
    assert reading.reference == {"answer": "B", "choices": {"A": "41", "B": "42"}}
    assert REWARDS["multiple_choice"]("<answer>B) 42</answer>", reading.reference) == 1.0


def test_choices_that_do_not_fit_their_answer_are_refused():
    with pytest.raises(ValueError, match="the answer 2 is none of the choices A, B"):
        read_choice({"question": "Q", "choices": ["1", "2"], "answer": 2}, Source())
    with pytest.raises(ValueError, match="the answer 'C' is none of the choices text, label"):
        read_choice({"question": "Q", "choices": {"text": None, "label": None}, "answer": "C"}, Source())
    with pytest.raises(ValueError, match="needs from 2 to 26 choices"):
        read_choice({"question": "Q", "choices": ["1"], "answer": 0}, Source())


@real_data
@pytest.mark.parametrize(
    ("task", "file", "num_rows", "num_problems"),
    [
        ("gsm8k", "gsm8k_train", 7473, 7473),  # Cobbe et al. 2021: 7.5K and 1K
        ("gsm8k", "gsm8k_test", 1319, 1319),
        ("aime24", "aime24", 30, 30),
        ("amc23", "amc23", 40, 40),
        ("svamp", "svamp", 1000, 1000),
        # 86 rows repeat an earlier one, and one contradicts an earlier one.
        ("mawps", "mawps", 2065, 1978),
    ],
)
def test_the_real_files_load_with_the_counts_of_their_sources(task, file, num_rows, num_problems):
    loaded = TASKS[task].load("heldout", None, Source(heldout_path=str(REAL_DATA / f"{file}.jsonl")))
    assert (loaded.num_rows, len(loaded.problems)) == (num_rows, num_problems)
    assert len(loaded.bad_rows) == (task == "mawps")
    golds = [problem.reference["answer"] for problem in loaded.problems]
    assert all(REWARDS["math_answer"](f"<answer>{gold}</answer>", {"answer": gold}) == 1.0 for gold in golds)


@real_data
@pytest.mark.parametrize("task", ["jsonl", "math", "svamp"])
def test_gsm8ks_worked_solutions_are_no_golds_of_another_task(task):
    path = str(REAL_DATA / "gsm8k_test.jsonl")
    with pytest.raises(ValueError, match=r"1319 bad rows is .*, line 1: the answer is a worked solution: use task\.name=gsm8k"):
        TASKS[task].load("heldout", None, Source(heldout_path=path))


@real_data
def test_gsm8ks_files_share_no_problem_and_are_worked_out():
    source = Source(path=str(REAL_DATA / "gsm8k_train.jsonl"), heldout_path=str(REAL_DATA / "gsm8k_test.jsonl"))
    train = TASKS["gsm8k"].load("train", 0, source)
    assert (len(train.problems), train.num_overlapping) == (7473, 0)
    assert all(problem.solution and "<<" not in problem.solution for problem in train.problems)


@real_data
def test_a_corrupted_copy_says_what_is_wrong_where(tmp_path):
    lines = (REAL_DATA / "gsm8k_test.jsonl").read_bytes().splitlines(keepends=True)
    lines[9] = lines[9][:100] + b"\n"  # cut
    lines[19] = json.dumps({"question": "Why?"}).encode() + b"\n"
    lines[29] = json.dumps({"question": "Größe?", "answer": "#### 1"}, ensure_ascii=False).encode("latin-1") + b"\n"
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(b"".join([*lines, *lines[:5]]))
    loaded = TASKS["gsm8k"].load("heldout", None, Source(heldout_path=str(copy)))
    assert (len(loaded.problems), loaded.num_rows, loaded.num_duplicates) == (1316, 1324, 5)
    said = [f"{row.where}: {row.reason}" for row in loaded.bad_rows]
    assert [line.partition(": ")[0] for line in said] == [f"{copy}, line {number}" for number in (10, 20, 30)]
    assert "not JSON (Unterminated string" in said[0]
    assert "no answer in 'answer'; its fields are question" in said[1]
    assert "not UTF-8" in said[2]
