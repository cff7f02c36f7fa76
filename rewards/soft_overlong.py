"""A penalty that grows as a completion nears the length limit, in place of a cliff at the limit."""

from collections.abc import Mapping
from typing import Any


def soft_overlong(completion: str, reference: Mapping[str, Any], cache_share: float = 0.2) -> float:
    """Return a value in [-1, 0]: 0 for all but the longest completions, -1 for those that reach the limit.

    Source: DAPO (arXiv 2503.14476), equation 13, with L tokens:

        0                                      L <= L_max - L_cache
        ((L_max - L_cache) - L) / L_cache      L_max - L_cache < L <= L_max
        -1                                     L > L_max

    L = reference["num_tokens"], L_max = reference["max_tokens"], L_cache = cache_share x L_max. DAPO has 4096 of
    20480 tokens, a fifth. The text is not looked at.

    >>> [soft_overlong("", {"num_tokens": tokens, "max_tokens": 100}) for tokens in (80, 85, 90, 100)]
    [0.0, -0.25, -0.5, -1.0]
    """
    if not 0 < cache_share <= 1:
        raise ValueError(f"cache_share must be above 0 and at most 1, got {cache_share!r}")
    num_tokens, max_tokens = token_counts(reference, "soft_overlong")
    cache = cache_share * max_tokens
    excess = num_tokens - (max_tokens - cache)
    return -min(1.0, excess / cache) if excess > 0 else 0.0


def token_counts(reference: Mapping[str, Any], reward: str) -> tuple[int, int]:
    """Return (num_tokens, max_tokens) of a sample; ValueError when they are not there or no counts."""
    for key in ("num_tokens", "max_tokens"):
        value = reference.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < (key == "max_tokens"):
            raise ValueError(
                f"{reward}: reference[{key!r}] must be a number of tokens, got {value!r}; a run sets it, and a "
                f"RewardPool does when it is given max_completion_tokens; elsewhere put it into the reference"
            )
    return reference["num_tokens"], reference["max_tokens"]
