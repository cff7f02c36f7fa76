"""Whether a completion is one block of thinking, then one answer, and nothing else."""

import re
from collections.abc import Mapping
from typing import Any

from rewards.blocks import TAGS, has_visible_text

_THINK_THEN_ANSWER = re.compile(r"<think>(.*)</think>\s*<answer>(.*)</answer>", re.DOTALL)


def reasoning_format(completion: str, reference: Mapping[str, Any]) -> float:
    """Return 1.0 for `<think>...</think><answer>...</answer>` with both blocks filled, else 0.0.

    Filled means with something that can be seen: a zero-width space is no thinking. Whitespace may stand around and
    between the blocks. Each tag appears once: no nesting, no second try.
    The reference is not looked at; right or wrong is for another reward function.

    >>> reasoning_format("<think>7+5=12</think> <answer>12</answer>", {})
    1.0
    >>> reasoning_format("<think></think><answer>12</answer>", {})
    0.0
    """
    # Counted first, so that the pattern has a single way to match and cannot backtrack for long.
    if any(completion.count(tag) != 1 for tag in TAGS):
        return 0.0
    blocks = _THINK_THEN_ANSWER.fullmatch(completion.strip())
    return float(blocks is not None and all(has_visible_text(block) for block in blocks.groups()))
