import pytest

from rewards.tag_count import tag_count

CASES = [
    ("<think>a</think><answer>4</answer>", 1.0, "all four in order"),
    ("so <think>a</think> then <answer>4</answer> done", 1.0, "text outside is another reward's business"),
    ("a</think><answer>4</answer>", 0.75, "thinking never opened, as when a prefill is left out"),
    ("<think>a<answer>4</answer>", 0.75, "thinking never closed"),
    ("<think>a</think><answer>4", 0.75, "answer never closed"),
    ("<think>a</think>4</answer>", 0.75, "answer never opened"),
    ("<think>a</think>4", 0.5, "thinking only"),
    ("<answer>4</answer>", 0.5, "answer only"),
    ("<think>a", 0.25, "the prefill alone"),
    ("4</answer>", 0.25, "one tag"),
    ("", 0.0, "nothing"),
    ("4", 0.0, "no tags"),
    ("<think><think>a</think><answer>4</answer>", 0.75, "opened twice, as by a policy that repeats the prefill"),
    ("<think>a</think><answer>4</answer><answer>5</answer>", 0.5, "two answers: neither tag of them counts"),
    ("<think>a</think>" * 2 + "<answer>4</answer>" * 2, 0.0, "each tag twice"),
    ("<think>a</think><answer>4</answer>" * 50, 0.0, "each tag many times"),
    ("<answer>4</answer><think>a</think>", 0.5, "the wrong order: either block is in order, not both"),
    ("</answer>4<answer>a</think>b<think>", 0.25, "all four backwards: no two are in order"),
    ("</think>a<think>b<answer>4</answer>", 0.75, "one pair the wrong way round"),
    ("<answer><think>a</think>4</answer>", 0.75, "thinking inside the answer: three are in order"),
    ("</answer><think>a</think><answer>4", 0.75, "the last tag stands first"),
    ("<think></think><answer></answer>", 0.5, "bare tags: the ends of empty blocks are not paid"),
    ("<think> \n</think><answer>4</answer>", 0.75, "a blank thinking"),
    ("<think>\u200b\u2060</think><answer>\u3164</answer>", 0.5, "blocks of invisible characters"),
    ("<Think>a</THINK><answer>4</answer>", 0.5, "another spelling of two tags"),
    ("<think >a</think>", 0.25, "a space in a tag"),
]


@pytest.mark.parametrize(("completion", "expected", "why"), CASES, ids=[why for _, _, why in CASES])
def test_tag_count(completion, expected, why):
    assert tag_count(completion, {}) == expected, why
