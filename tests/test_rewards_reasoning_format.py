import pytest

from rewards.reasoning_format import reasoning_format

CASES = [
    ("<think>7+5=12</think><answer>522</answer>", 1.0, "the format"),
    ("<think>7+5=12</think><answer>no idea</answer>", 1.0, "any answer: right or wrong is another reward"),
    ("\n<think>\nline\nline\n</think>\n\n<answer>\n522\n</answer>\n", 1.0, "whitespace and several lines"),
    ("<think>if 3 < 4 then <b></think><answer>4 > 3</answer>", 1.0, "other angle brackets"),
    ("", 0.0, "nothing"),
    ("522", 0.0, "no tags"),
    ("<answer>522</answer>", 0.0, "no thinking"),
    ("<think>7+5=12</think>", 0.0, "no answer"),
    ("<think></think><answer>522</answer>", 0.0, "empty thinking"),
    ("<think> \n</think><answer>522</answer>", 0.0, "blank thinking"),
    ("<think>easy</think><answer></answer>", 0.0, "empty answer"),
    ("<think>easy</think><answer> </answer>", 0.0, "blank answer"),
    ("<think>\u200b</think><answer>522</answer>", 0.0, "a zero-width space for a thinking"),
    ("<think>\ufeff\u2060\u00ad \u200d</think><answer>522</answer>", 0.0, "several invisible characters"),
    ("<think>\u3164\u2800</think><answer>522</answer>", 0.0, "a Hangul filler and an empty Braille cell"),
    ("<think>\u0301\ufe0f</think><answer>522</answer>", 0.0, "an accent without a letter"),
    ("<think>\x00\x07</think><answer>522</answer>", 0.0, "control characters"),
    ("<think>easy</think><answer>\u200b</answer>", 0.0, "an invisible answer"),
    ("<think>\u200beasy</think><answer>522\u200b</answer>", 1.0, "invisible characters beside others"),
    ("<think>\u200b.</think><answer>522</answer>", 1.0, "a dot can be seen"),
    ("<think>easy<answer>522</answer>", 0.0, "thinking never closed"),
    ("easy</think><answer>522</answer>", 0.0, "thinking never opened, as when a prefill is left out"),
    ("<think>easy</think><answer>522", 0.0, "answer never closed"),
    ("<think>easy</think>522</answer>", 0.0, "answer never opened"),
    ("<answer>522</answer><think>easy</think>", 0.0, "the wrong order"),
    ("<think>a</think><think>b</think><answer>522</answer>", 0.0, "two thinkings"),
    ("<think>a</think><answer>1</answer><answer>522</answer>", 0.0, "two answers"),
    ("<think><think>a</think></think><answer>522</answer>", 0.0, "nested thinking"),
    ("<think>a<answer>1</answer></think>", 0.0, "answer inside the thinking"),
    ("<think>a</think><answer>522</think></answer>", 0.0, "a second end of the thinking"),
    ("so <think>a</think><answer>522</answer>", 0.0, "text before"),
    ("<think>a</think> so <answer>522</answer>", 0.0, "text between"),
    ("<think>a</think><answer>522</answer> done", 0.0, "text after"),
    ("<Think>a</Think><answer>522</answer>", 0.0, "another spelling of the tag"),
]


@pytest.mark.parametrize(("completion", "expected", "why"), CASES, ids=[why for _, _, why in CASES])
def test_reasoning_format(completion, expected, why):
    assert reasoning_format(completion, {}) == expected, why
