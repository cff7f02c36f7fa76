import pytest

from rewards import REWARDS
from tasks.base import Source
from tasks.gsm8k import GSM8K, read


def test_a_row_becomes_a_problem_with_the_gold_number_behind_the_marker():
    reading = read({"question": " How many? ", "answer": "10*108=<<10*108=1080>>1080 #### no, wait\n#### 1,080"}, Source())
    assert (reading.question, reading.reference) == ("How many?", {"answer": "1080"})
    # The marks of the paper's calculator are not for a reader.
    assert reading.solution == "10*108=1080 #### no, wait"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Why?"}, "no answer in 'answer'; its fields are question"),
        ({"question": " ", "answer": "#### 1"}, "no question in 'question'; its fields are question, answer"),
        ({"question": "Why?", "answer": 7}, "the answer must end in '#### ' and the gold number, got '7'"),
        ({"question": "Why?", "answer": "7"}, "the answer must end in '#### ' and the gold number, got '7'"),
        ({"question": "Why?", "answer": "#### seven"}, "the answer must end in '#### ' and the gold number, got '#### seven'"),
    ],
)
def test_a_row_that_is_no_problem_says_why(row, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        read(row, Source())


def test_every_reward_of_the_task_exists_and_correctness_is_one_of_them():
    assert set(GSM8K.rewards) <= set(REWARDS)
    assert GSM8K.correctness in GSM8K.rewards
