import pytest

from r1.completion_parts import answer_of, answers_by_kind, form_of, thinking_of


@pytest.mark.parametrize(
    ("text", "thinking"),
    [
        ("<think>12+7 is 19</think><answer>19</answer>", "12+7 is 19"),
        ("prefilled</think><answer>19</answer>", "prefilled"),
        ("<think>never closed, 12+7", "never closed, 12+7"),
        ("<think>12+7<answer>19</answer>", "12+7"),
        ("12+7=19\n#### 19", "12+7=19\n"),
        ("12+7=19\nAnswer: 19", "12+7=19"),
        ("first line\nsecond line\n19", "first line\nsecond line"),
        ("19", ""),
    ],
)
def test_what_stands_before_the_answer(text, thinking):
    assert thinking_of(text) == thinking


@pytest.mark.parametrize(
    ("text", "form", "answer"),
    [
        ("<think>a</think><answer>19</answer>", "tags", "19"),
        ("<answer>cut off", "tags", "cut off"),
        (r"so \boxed{\frac{1}{2}}", "box", r"\frac{1}{2}"),
        ("so\n#### 72", "hash", "72"),
        ("so\nAnswer: 72", "line", "72"),
        ("nothing", "any", ""),
    ],
)
def test_the_answer_where_the_template_asks_for_it(text, form, answer):
    assert answer_of(text, form) == answer


def test_a_template_that_is_gone_has_any_form():
    assert (form_of("boxed_chat"), form_of("few_shot:2"), form_of("gone.txt")) == ("box", "hash", "any")


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("<answer>1<answer>2</answer>", [["1", "2"], [], []]),
        (r"<answer>\boxed{1}</answer>", [["1"], [], []]),
        (r"\boxed{a{b}c", [["a{b}c"], [], []]),
        ("<think><answer>1</answer></think><answer>2</answer>", [["2"], [], []]),
        (r"thinking without a beginning \boxed{1}</think><answer>2</answer>", [["2"], [], []]),
        ("<answer>1</answer></think><answer> </answer>", [["1"], [], []]),
        ("#### 1\n####2\n**Final Answer:** 3", [[], ["1", "2"], ["3"]]),
        ("none", [[], [], []]),
    ],
)
def test_all_answers_behind_the_thinking(text, answers):
    assert answers_by_kind(text) == answers


@pytest.mark.slow
def test_long_texts_take_time_in_proportion():
    for text in ("<think>" * 50_000, "\n" * 200_000, "<answer>" * 20_000, "\\boxed{" * 2_000, "#### " * 20_000):
        thinking_of(text), answers_by_kind(text)
