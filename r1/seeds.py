"""Seeds as a function of what they are for, so that no two samples, engines or steps share one."""

from hashlib import blake2b


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on every part and on their order.

    >>> derive_seed(0, "sample", 1, 2, 3) == derive_seed(0, "sample", 1, 2, 3)
    True
    >>> derive_seed(0, "sample", 1, 2, 3) == derive_seed(0, "sample", 1, 3, 2)
    False
    """
    digest = blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def sample_seed(run_seed: int, step: int, group_id: int, sample_id: int) -> int:
    """The seed of one completion: the same on whichever engine it is sampled, or sampled again."""
    return derive_seed(run_seed, "sample", step, group_id, sample_id)
