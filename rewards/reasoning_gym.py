"""What the package reasoning-gym says of an answer to one of its own puzzles."""

import json
from collections.abc import Mapping
from typing import Any

from rewards.math_grading.extraction import final_answer


def reasoning_gym(completion: str, reference: Mapping[str, Any]) -> float | None:
    """Return 1.0 where the generator's own judge gives the final answer its full mark, else 0.0.

    reference: `generator`, its name, and `entry`, the puzzle as JSON (tasks/reasoning_gym.py); None without them. The
    package's partial marks (0.01 for an answer of the right kind, say) count as wrong: accuracy is read off this value.
    The final answer stands where `math_answer` looks for it.
    """
    if "generator" not in reference or "entry" not in reference:
        return None
    from reasoning_gym import get_score_answer_fn  # optional, and a second to import

    answer = final_answer(completion, reference.get("answer_form", "any"))
    if answer is None:
        return 0.0
    mark = get_score_answer_fn(reference["generator"])(answer, json.loads(reference["entry"]))
    return float(mark >= 1.0)
