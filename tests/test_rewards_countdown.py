import pytest

from rewards.countdown import countdown

PUZZLE = {"numbers": [44, 19, 35], "target": 98}

CASES = [
    ("44 + 19 + 35", 1.0, "44 + 19 = 63, 63 + 35 = 98"),
    ("(44+19)+35 = 98", 1.0, "with the target at the end"),
    ("35 + (19 + 44)\n", 1.0, "in any order"),
    ("((44)) + ((19 + 35))", 1.0, "more brackets than needed"),
    ("44 + 19 + 35 = 99", 0.0, "a false statement at the end"),
    ("44 + 19 + 35 = 49 + 49", 0.0, "the right side must be the target itself"),
    ("44 + 19 + 35 = 9 8", 0.0, "two numbers on the right side"),
    ("44 + 19 + 35 = 98 = 98", 0.0, "two equals signs"),
    ("98 = 44 + 19 + 35", 0.0, "the target on the left side"),
    ("44 + 19 + 35 =", 0.0, "nothing on the right side"),
    ("44 + 54", 0.0, "the target from numbers that were not given"),
    ("98", 0.0, "the target alone"),
    ("44 + 19 - 35", 0.0, "28"),
    ("44 + 19", 0.0, "a number left out, and 63"),
    ("44 + 19 + 35 + 44 - 44", 0.0, "a number used three times"),
    ("44 + 19 + 35 * 1", 0.0, "another number"),
    ("44 + 19 + 35 + 0", 0.0, "even a 0"),
    ("44 + 1935", 0.0, "numbers put together"),
    ("44 19 35", 0.0, "no signs"),
    ("44 + + 19 + 35", 0.0, "a unary plus"),
    ("-(44 + 19 + 35)", 0.0, "a unary minus"),
    ("(44 + 19 + 35", 0.0, "a bracket that is not closed"),
    ("44 + 19 + 35)", 0.0, "a bracket that is not opened"),
    ("()44 + 19 + 35", 0.0, "empty brackets"),
    ("44 + 19 +", 0.0, "ends in a sign"),
    ("+44 + 19 + 35", 0.0, "begins with a sign"),
    ("", 0.0, "nothing"),
    ("   ", 0.0, "blank"),
    ("44 + 19 + 35 makes 98", 0.0, "words"),
    ("44.0 + 19 + 35", 0.0, "a decimal"),
    ("4_4 + 19 + 35", 0.0, "int() would take it"),
    ("٤٤ + 19 + 35", 0.0, "digits of another script, which int() would take"),
    ("44 ** 1 + 19 + 35", 0.0, "a power"),
    ("__import__('os').getpid()", 0.0, "code"),
    ("98 if 44 + 19 + 35 else 0", 0.0, "code of its numbers"),
    ("(" * 21 + "44+19+35" + ")" * 21, 0.0, "deeper than 20 brackets"),
    ("(" * 20 + "44+19+35" + ")" * 20, 1.0, "20 brackets deep"),
    ("44 + 19 + 35" + " " * 300, 0.0, "longer than 300 characters"),
]


@pytest.mark.parametrize(("answer", "expected", "why"), CASES, ids=[why for *_, why in CASES])
def test_countdown(answer, expected, why):
    assert countdown(f"<think>let me see</think>\n<answer>{answer}</answer>", PUZZLE) == expected, why


OTHER_PUZZLES = [
    ("6 / (1 - 3/4)", [1, 3, 4, 6], 24, 1.0, "exact fractions: 6 / (1/4)"),
    ("7 / 2 * 2", [7, 2, 2], 7, 1.0, "division is not rounded"),
    ("8 / (3 - 8/3)", [3, 3, 8, 8], 24, 1.0, "8 / (1/3)"),
    ("10 - 4 - 3", [3, 4, 10], 3, 1.0, "minus is read from the left: 6 - 3"),
    ("10 - 4 - 3", [3, 4, 10], 9, 0.0, "and not from the right: 10 - 1"),
    ("12 / 3 / 2", [2, 3, 12], 2, 1.0, "division too"),
    ("2 + 3 * 4", [2, 3, 4], 14, 1.0, "products before sums"),
    ("2 + 3 * 4", [2, 3, 4], 20, 0.0, "always"),
    ("3 × 4 ÷ 2 − 1", [1, 2, 3, 4], 5, 1.0, "typographic signs"),
    ("3 · 4", [3, 4], 12, 1.0, "a dot"),
    ("3 x 4", [3, 4], 12, 0.0, "a letter"),
    ("3(4)", [3, 4], 12, 0.0, "no sign before a bracket"),
    ("1 - 4 = -3", [1, 4], -3, 1.0, "a negative target"),
    ("1 - 4 = 3", [1, 4], -3, 0.0, "its sign left out"),
    ("5 / (3 - 3)", [3, 3, 5], 0, 0.0, "a division by zero"),
    ("5 * (3 - 3)", [3, 3, 5], 0, 1.0, "zero itself"),
    ("7 + 7", [7, 7], 14, 1.0, "a number that is given twice"),
    ("7 + 7", [7, 9], 14, 0.0, "or once"),
    ("007 + 7", [7, 7], 14, 1.0, "leading zeros change no number"),
]


@pytest.mark.parametrize(("answer", "numbers", "target", "expected", "why"), OTHER_PUZZLES, ids=[why for *_, why in OTHER_PUZZLES])
def test_other_puzzles(answer, numbers, target, expected, why):
    assert countdown(f"<answer>{answer}</answer>", {"numbers": numbers, "target": target}) == expected, why


@pytest.mark.parametrize(
    ("answer", "each_once", "at_most_once"),
    [("6 * 4", 0.0, 1.0), ("6 * 4 * 1", 1.0, 1.0), ("6 * 4 * 1 * 1", 0.0, 0.0)],
)
def test_whether_every_number_must_be_used(answer, each_once, at_most_once):
    puzzle = {"numbers": [1, 4, 6], "target": 24}
    assert countdown(f"<answer>{answer}</answer>", puzzle) == each_once
    assert countdown(f"<answer>{answer}</answer>", {**puzzle, "use_all": True}) == each_once
    assert countdown(f"<answer>{answer}</answer>", {**puzzle, "use_all": False}) == at_most_once


@pytest.mark.parametrize(
    ("completion", "why"),
    [
        ("44 + 19 + 35", "no block"),
        ("<think><answer>44 + 19 + 35</answer></think>", "inside the thinking"),
        ("<think>hm<answer>44 + 19 + 35</answer>", "the thinking never closed"),
        ("<answer>44 + 19 + 35</answer><answer>44 + 19 + 35</answer>", "two blocks"),
        ("<answer>44 + 19 + 35</answer> I think", "text behind it"),
        ("<answer>44 + 19 + 35", "never closed"),
        ("</answer>44 + 19 + 35<answer>", "the wrong way round"),
    ],
)
def test_where_the_answer_may_not_stand(completion, why):
    assert countdown(completion, PUZZLE) == 0.0, why


@pytest.mark.parametrize(
    ("numbers", "target"), [([], 5), ("123", 6), ([1, "2"], 3), ([1, 2.0], 3), ([1, -2], 3), ([1, 2], "3"), ([1, 2], None), (None, 3)]
)
def test_what_is_no_puzzle_cannot_be_judged(numbers, target):
    assert countdown("<answer>1 + 2</answer>", {"numbers": numbers, "target": target}) is None


def test_a_reference_without_a_puzzle_is_an_error_and_no_score():
    with pytest.raises(KeyError):
        countdown("<answer>1 + 2</answer>", {"answer": "3"})


def test_nothing_that_is_written_is_run(tmp_path):
    marker = tmp_path / "marker"
    assert countdown(f"<answer>open({str(marker)!r}, 'w')</answer>", PUZZLE) == 0.0
    assert not marker.exists()


def test_the_answer_is_looked_for_where_the_prompt_asks_for_it():
    puzzle = {"numbers": [1, 2, 3], "target": 9}
    assert countdown(r"So \boxed{(1 + 2) * 3}.", {**puzzle, "answer_form": "box"}) == 1.0
    assert countdown("So\nAnswer: (1 + 2) * 3", {**puzzle, "answer_form": "line"}) == 1.0
    assert countdown(r"So \boxed{(1 + 2) * 3}.", puzzle) == 0.0
    assert countdown("<answer>(1 + 2) * 3</answer>", {**puzzle, "answer_form": "line"}) == 0.0
