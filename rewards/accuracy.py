"""Whether the one tagged answer is exactly the gold integer."""

import re
from collections.abc import Mapping
from typing import Any

from rewards.blocks import answer_block

# Bounded, since int() takes time quadratic in the length of what a policy may write; [0-9], since \d also matches
# the digits of other scripts.
_INTEGER = re.compile(r"-?[0-9]{1,30}")


def accuracy(completion: str, reference: Mapping[str, Any]) -> float | None:
    """Return 1.0 when the completion ends in its only <answer> block and that holds the gold integer, else 0.0.

    A reference with an `answer_form` of box, hash or line has it looked for there instead.

    Whether there is any thinking before the answer is for `reasoning_format` to judge; but a <think> that is opened
    and not closed has no answer behind it. Two answers are no answer, wherever they stand: a policy must not be paid
    for hedging. None when the gold is not an integer.

    >>> accuracy("<think>7+5=12</think><answer>12</answer>", {"answer": "12"})
    1.0
    >>> accuracy("<answer>12</answer><answer>13</answer>", {"answer": "12"})
    0.0
    """
    gold = str(reference["answer"]).strip()
    if not _INTEGER.fullmatch(gold):
        return None
    return float(answered(completion, reference) == str(int(gold)))


def answered(completion: str, reference: Mapping[str, Any]) -> str | None:
    """Return what the completion answers, an integer as Python writes it; None when it has no answer.

    >>> answered("<answer> -007 </answer>", {}), answered("<answer>7.0</answer>", {}), answered("<answer> </answer>", {})
    ('-7', '7.0', None)
    """
    answer = (answer_block(completion, reference.get("answer_form", "any")) or "").strip()
    return str(int(answer)) if _INTEGER.fullmatch(answer) else answer or None
