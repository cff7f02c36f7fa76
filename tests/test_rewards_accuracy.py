import pytest

from rewards.accuracy import accuracy

CASES = [
    ("<think>7+5=12</think><answer>522</answer>", 1.0, "thinking, then the right answer"),
    ("<answer>522</answer>", 1.0, "right without thinking: the format is another reward"),
    ("<think>easy</think><answer> 522\n</answer>", 1.0, "whitespace inside the block"),
    ("<think>easy</think>\n<answer>522</answer>\n", 1.0, "whitespace around the block"),
    ("so <answer>522</answer>", 1.0, "words before the block"),
    ("<answer>0522</answer>", 1.0, "compared as integers"),
    ("7+5=12<answer>522</answer>", 1.0, "a thinking that was never opened"),
    ("<think>a</think><think>b</think><answer>522</answer>", 1.0, "two thinkings, both closed"),
    ("<think>easy</think><answer>512</answer>", 0.0, "wrong"),
    ("<answer>-522</answer>", 0.0, "the wrong sign"),
    ("<answer>5220</answer>", 0.0, "the gold is only the beginning"),
    ("522", 0.0, "no block"),
    ("", 0.0, "nothing"),
    ("<answer></answer>", 0.0, "an empty block"),
    ("<answer>522", 0.0, "never closed"),
    ("522</answer>", 0.0, "never opened"),
    ("</answer>522<answer>", 0.0, "the wrong way round"),
    ("<answer>522</answer><answer>522</answer>", 0.0, "two blocks, even when both are right"),
    ("<answer>1</answer><answer>522</answer>", 0.0, "a second try"),
    ("<answer><answer>522</answer>", 0.0, "opened twice"),
    ("<answer>522</answer></answer>", 0.0, "closed twice"),
    ("<answer>522</answer> or 523", 0.0, "text after the answer"),
    ("<think><answer>522</answer></think>", 0.0, "an answer inside the thinking"),
    ("<think><answer>1</answer></think><answer>522</answer>", 0.0, "a draft inside the thinking makes two blocks"),
    ("<think>7+5=12<answer>522</answer>", 0.0, "a thinking that was never closed"),
    ("<think>a</think><think>b<answer>522</answer>", 0.0, "a second thinking that was never closed"),
    ("<answer><think></think>522</answer>", 0.0, "thinking inside the answer"),
    ("<answer>522</answer><think>sure</think>", 0.0, "thinking after the answer"),
    ("<answer>5 22</answer>", 0.0, "not one integer"),
    ("<answer>522.0</answer>", 0.0, "not written as an integer"),
    ("<answer>+522</answer>", 0.0, "not written as an integer"),
    ("<answer>5_22</answer>", 0.0, "int() would take it"),
    ("<answer>٥٢٢</answer>", 0.0, "digits of another script, which int() would take"),
    ("<answer>37+485</answer>", 0.0, "a sum is not worked out for the policy"),
    (f"<answer>{'0' * 28}522</answer>", 0.0, "31 digits: longer than any answer"),
]


@pytest.mark.parametrize(("completion", "expected", "why"), CASES, ids=[why for _, _, why in CASES])
def test_accuracy(completion, expected, why):
    assert accuracy(completion, {"answer": "522"}) == expected, why


def test_a_negative_gold():
    assert accuracy("<answer>-3</answer>", {"answer": "-3"}) == 1.0
    assert accuracy("<answer>3</answer>", {"answer": "-3"}) == 0.0


def test_a_gold_that_is_already_an_integer():
    assert accuracy("<answer>522</answer>", {"answer": 522}) == 1.0


@pytest.mark.parametrize("gold", ["", "five", "5.5", "9" * 31, None])
def test_an_unreadable_gold_cannot_be_judged(gold):
    assert accuracy("<answer>522</answer>", {"answer": gold}) is None


def test_a_reference_without_an_answer_is_an_error_and_no_score():
    with pytest.raises(KeyError):
        accuracy("<answer>522</answer>", {})


def test_the_answer_is_looked_for_where_the_prompt_asks_for_it():
    assert accuracy(r"So \boxed{12}.", {"answer": "12", "answer_form": "box"}) == 1.0
    assert accuracy("So\n#### 12", {"answer": "12", "answer_form": "hash"}) == 1.0
    assert accuracy(r"So \boxed{12}.", {"answer": "12"}) == 0.0
    assert accuracy("<answer>12</answer>", {"answer": "12", "answer_form": "hash"}) == 0.0
