"""Correctness, scaled by length: a short right answer is worth more, a long attempt that fails costs less."""

import math
from collections.abc import Mapping
from typing import Any

from rewards.math_answer import math_answer, warm_up
from rewards.soft_overlong import token_counts

__all__ = ["length_cosine", "warm_up"]  # warm_up: whoever scores with this module looks for it here


def length_cosine(
    completion: str,
    reference: Mapping[str, Any],
    *,
    correct_at_zero: float = 1.0,
    correct_at_limit: float = 0.5,
    wrong_at_zero: float = -1.0,
    wrong_at_limit: float = 0.0,
    exceeded: float = -1.0,
) -> float | None:
    """Return a value in [0.5, 1] for a right answer, in [-1, 0] for a wrong one, -1 at the length limit.

    Source: Yeo et al. 2025 (arXiv 2502.03373), section 4.2. For a completion of L tokens, limit L_max:

        at_limit + (at_zero - at_limit) / 2 x (1 + cos(pi L / L_max))      L < L_max
        exceeded                                                           L >= L_max

    with one pair (at_zero, at_limit) for right and one for wrong answers. The paper's runs have 2 and 1, -10 and 0, and
    exceeded -10; ours are of the size of the other rewards. L = reference["num_tokens"], L_max =
    reference["max_tokens"]. `math_answer` tells right from wrong: None when the gold cannot be read.

    It pays for correctness itself, so give `math_answer` a small weight beside it, or none.

    >>> sample = {"answer": "4", "num_tokens": 50, "max_tokens": 100}
    >>> length_cosine("<answer>4</answer>", sample), length_cosine("<answer>5</answer>", sample)
    (0.75, -0.5)
    """
    num_tokens, max_tokens = token_counts(reference, "length_cosine")
    correctness = math_answer(completion, reference)
    if correctness is None:
        return None
    if num_tokens >= max_tokens:
        return exceeded
    at_zero, at_limit = (correct_at_zero, correct_at_limit) if correctness == 1.0 else (wrong_at_zero, wrong_at_limit)
    return at_limit + (at_zero - at_limit) / 2 * (1 + math.cos(math.pi * num_tokens / max_tokens))
