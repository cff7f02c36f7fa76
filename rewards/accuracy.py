"""Whether the one tagged answer is exactly the gold integer."""

import re
from collections.abc import Mapping
from typing import Any

# Bounded, since int() takes time quadratic in the length of what a policy may write; [0-9], since \d also matches
# the digits of other scripts.
_INTEGER = r"-?[0-9]{1,30}"
_GOLD = re.compile(rf"\s*({_INTEGER})\s*")
_FINAL_ANSWER = re.compile(rf"<answer>\s*({_INTEGER})\s*</answer>\s*")


def accuracy(completion: str, reference: Mapping[str, Any]) -> float | None:
    """Return 1.0 when the completion ends in its only <answer> block and that holds the gold integer, else 0.0.

    Whether there is any thinking before the answer is for `reasoning_format` to judge. Two answers are no answer,
    wherever they stand: a policy must not be paid for hedging. None when the gold is not an integer.

    >>> accuracy("<think>7+5=12</think><answer>12</answer>", {"answer": "12"})
    1.0
    >>> accuracy("<answer>12</answer><answer>13</answer>", {"answer": "12"})
    0.0
    """
    gold = _GOLD.fullmatch(str(reference["answer"]))
    if gold is None:
        return None
    # From the first <answer> to the end there may be one integer and nothing else: this leaves no room for a
    # second block, for a word after the answer, or for a </think> that would put the answer inside the thinking.
    answer = _FINAL_ANSWER.fullmatch(completion, len(completion.partition("<answer>")[0]))
    return float(answer is not None and int(answer[1]) == int(gold[1]))
