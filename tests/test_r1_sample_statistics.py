"""pass@k, maj@k and the error of a mean against values worked out by hand and against counting all cases."""

import itertools
import random

import pytest

from r1.sample_statistics import estimate, majority_accuracy, pass_at_k


@pytest.mark.parametrize(
    ("num_samples", "num_correct", "k", "expected"),
    [
        (1, 0, 1, 0.0),
        (1, 1, 1, 1.0),
        (16, 4, 1, 0.25),  # 4 / 16
        (5, 2, 3, 0.9),  # 1 - C(3, 3) / C(5, 3) = 1 - 1 / 10
        (10, 1, 5, 0.5),  # 1 - C(9, 5) / C(10, 5) = 1 - 126 / 252
        (10, 6, 5, 1.0),  # of five there is always a correct one
    ],
)
def test_pass_at_k_by_hand(num_samples, num_correct, k, expected):
    assert pass_at_k(num_samples, num_correct, k) == pytest.approx(expected, abs=1e-15)


def test_pass_at_k_counts_all_choices():
    for num_samples in range(1, 8):
        for num_correct in range(num_samples + 1):
            is_correct = [True] * num_correct + [False] * (num_samples - num_correct)
            for k in range(1, num_samples + 1):
                choices = [any(chosen) for chosen in itertools.combinations(is_correct, k)]
                assert pass_at_k(num_samples, num_correct, k) == pytest.approx(sum(choices) / len(choices), abs=1e-15)


def test_pass_at_k_of_many_samples_is_exact():
    # 1 - C(1023, 512) / C(1024, 512) = 1 - 512 / 1024
    assert pass_at_k(1024, 1, 512) == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 5, 1), "num_correct must be from 0 to num_samples = 4, got 5"),
        ((4, -1, 1), "num_correct must be from 0"),
        ((4, 2, 5), "k must be from 1 to num_samples = 4, got 5"),
        ((4, 2, 0), "k must be from 1"),
    ],
)
def test_what_pass_at_k_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        pass_at_k(*arguments)


@pytest.mark.parametrize(
    ("answers", "correct", "expected"),
    [
        (["7"], [True], 1.0),
        (["7", "8", "8"], [True, False, False], 0.0),
        (["7", "7", "8", "8", "9"], [True, True, False, False, False], 0.5),  # two groups of two
        (["7", "8", "9"], [True, False, False], 1 / 3),
        ([None, None, "7"], [False, False, True], 1.0),  # no answer is no vote
        ([None, None], [False, False], 0.0),
        ([], [], 0.0),
    ],
)
def test_majority_by_hand(answers, correct, expected):
    assert majority_accuracy(answers, correct) == pytest.approx(expected)


def test_the_same_answer_in_other_words_is_one_vote_more():
    def same(first, second):
        return float(first) == float(second)

    answers, correct = ["8", "0.5", "1e0", "8.0", ".5", "5e-1"], [False, True, False, False, True, True]
    assert majority_accuracy(answers, correct, same) == 1.0


def test_the_majority_does_not_depend_on_the_order_of_the_samples():
    chance = random.Random(0)
    for _ in range(50):
        answers = chance.choices(["1", "2", "3", None], k=7)
        right = chance.choice("123")
        wanted = majority_accuracy(answers, [answer == right for answer in answers])
        counts = {answer: answers.count(answer) for answer in answers if answer}
        largest = [answer for answer in counts if counts[answer] == max(counts.values())]
        assert wanted == pytest.approx(largest.count(right) / len(largest) if largest else 0.0)
        chance.shuffle(answers)
        assert majority_accuracy(answers, [answer == right for answer in answers]) == pytest.approx(wanted)


def test_the_error_of_a_mean_is_that_of_the_problems():
    # Mean 0.5; deviations 0.5, 0, 0, 0.5: variance 0.5 / 3, standard error sqrt(0.5 / 3 / 4) = 0.204124.
    of_four = estimate([1.0, 0.5, 0.5, 0.0])
    assert (of_four.mean, of_four.num_problems) == (0.5, 4)
    assert of_four.half_width == pytest.approx(1.959964 * 0.2041241452)
    assert estimate([0.25]).half_width is None
    with pytest.raises(ValueError, match="no mean of no problems"):
        estimate([])


def test_the_interval_holds_the_truth_in_95_of_100_draws():
    chance, inside = random.Random(1), 0
    for _ in range(400):
        drawn = estimate([sum(chance.random() < 0.3 for _ in range(4)) / 4 for _ in range(100)])
        inside += abs(drawn.mean - 0.3) <= drawn.half_width
    assert 0.92 <= inside / 400 <= 0.98
