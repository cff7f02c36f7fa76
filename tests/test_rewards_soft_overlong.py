import pytest

from rewards.soft_overlong import soft_overlong

# DAPO's own numbers: 20480 tokens, of which the last fifth, 4096, is the cache; the penalty begins at 16384.
CASES = [
    (0, 20480, 0.0, "nothing"),
    (16384, 20480, 0.0, "the last length without a penalty"),
    (16385, 20480, -1 / 4096, "one token more"),
    (17408, 20480, -0.25, "a quarter of the cache: 1024 / 4096"),
    (18432, 20480, -0.5, "half of the cache"),
    (20480, 20480, -1.0, "the limit"),
    (30000, 20480, -1.0, "beyond it"),
    (77, 96, -0.2 / 19.2, "the quickstart's 96: cache 19.2, from 76.8 on"),
    (1, 1, -1.0, "a limit of one token: cache 0.2"),
]


@pytest.mark.parametrize(("num_tokens", "max_tokens", "expected", "why"), CASES, ids=[why for *_, why in CASES])
def test_soft_overlong(num_tokens, max_tokens, expected, why):
    assert soft_overlong("whatever", {"num_tokens": num_tokens, "max_tokens": max_tokens}) == pytest.approx(expected), why


def test_the_share_can_be_set():
    # Half of 100 is the cache: 75 tokens are halfway into it.
    assert soft_overlong("", {"num_tokens": 75, "max_tokens": 100}, cache_share=0.5) == -0.5
    with pytest.raises(ValueError, match="cache_share must be above 0 and at most 1, got 0"):
        soft_overlong("", {"num_tokens": 75, "max_tokens": 100}, cache_share=0)


@pytest.mark.parametrize(
    ("reference", "key", "value"),
    [
        ({"max_tokens": 100}, "num_tokens", "None"),
        ({"num_tokens": 10}, "max_tokens", "None"),
        ({"num_tokens": 10, "max_tokens": 0}, "max_tokens", "0"),
        ({"num_tokens": -1, "max_tokens": 100}, "num_tokens", "-1"),
        ({"num_tokens": "10", "max_tokens": 100}, "num_tokens", "'10'"),
        ({"num_tokens": True, "max_tokens": 100}, "num_tokens", "True"),
    ],
)
def test_without_the_counts_it_says_what_to_do(reference, key, value):
    with pytest.raises(ValueError, match=rf"soft_overlong: reference\['{key}'\] must be .*, got {value}; .*put it into the reference"):
        soft_overlong("", reference)
