import pytest

from rewards.length_cosine import length_cosine

# cos(pi/4) = 0.7071, cos(pi/2) = 0, cos(3 pi/4) = -0.7071
# right: 0.5 + 0.25 x (1 + cos); wrong: -0.5 x (1 + cos)
CASES = [
    ("4", 0, 1.0, "right at once"),
    ("4", 25, 0.92678, "right after a quarter"),
    ("4", 50, 0.75, "right after half"),
    ("4", 75, 0.57322, "right after three quarters"),
    ("5", 0, -1.0, "wrong at once"),
    ("5", 25, -0.85355, "wrong after a quarter"),
    ("5", 50, -0.5, "wrong after half"),
    ("5", 75, -0.14645, "wrong after three quarters"),
    ("4", 100, -1.0, "right, but at the limit"),
    ("5", 100, -1.0, "wrong at the limit"),
    ("4", 120, -1.0, "beyond the limit"),
]


@pytest.mark.parametrize(("answer", "num_tokens", "expected", "why"), CASES, ids=[why for *_, why in CASES])
def test_length_cosine(answer, num_tokens, expected, why):
    sample = {"answer": "4", "num_tokens": num_tokens, "max_tokens": 100}
    assert length_cosine(f"<think>2+2</think><answer>{answer}</answer>", sample) == pytest.approx(expected, abs=1e-5), why


def test_the_papers_numbers():
    # Right between 2 and 1, wrong between -10 and 0, -10 at the limit; half of the limit lies in the middle.
    paper = {"correct_at_zero": 2, "correct_at_limit": 1, "wrong_at_zero": -10, "wrong_at_limit": 0, "exceeded": -10}
    sample = {"answer": "4", "num_tokens": 50, "max_tokens": 100}
    assert length_cosine("<answer>4</answer>", sample, **paper) == pytest.approx(1.5)
    assert length_cosine("<answer>5</answer>", sample, **paper) == pytest.approx(-5.0)
    assert length_cosine("<answer>4</answer>", {**sample, "num_tokens": 100}, **paper) == -10


@pytest.mark.parametrize("num_tokens", [50, 100])
def test_an_unreadable_gold_cannot_be_judged_at_any_length(num_tokens):
    assert length_cosine("<answer>4</answer>", {"answer": "", "num_tokens": num_tokens, "max_tokens": 100}) is None


def test_without_the_counts_it_says_what_to_do():
    with pytest.raises(ValueError, match=r"length_cosine: reference\['max_tokens'\] must be"):
        length_cosine("<answer>4</answer>", {"answer": "4", "num_tokens": 50})
