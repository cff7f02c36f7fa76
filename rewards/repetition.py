"""A penalty for saying the same again and again."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rewards.blocks import ordinary_characters

MAX_WORD_CHARS = 30
"""A longer run without white space is a loop or a formula, not a word: it counts by its characters."""

# Scripts that put no spaces between words: CJK ideographs and kana with their marks, Thai, Lao, Khmer, Burmese.
_SPACELESS = (
    "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
)
_UNIT = re.compile(rf"[{_SPACELESS}]|[^\s{_SPACELESS}]+")


def repetition(completion: str, reference: Mapping[str, Any], ngram: int = 10) -> float:
    """Return a value in [-1, 0]: minus the share of n-grams that have occurred before.

        distinct n-grams / n-grams - 1

    Source: the n-gram repetition penalty of Yeo et al. 2025 (arXiv 2502.03373), section 4.2 and appendix, which they
    found necessary beside `length_cosine`, as policies filled the length with loops. Theirs marks single tokens (n = 40
    tokens) for PPO; GRPO has one reward a completion, so this is the share.

    n counts words, or characters in scripts without spaces and in runs of more than 30 characters. It is 10, since
    shorter n-grams recur in sound working and would tax length: over the solutions of GSM8K's training set the mean share
    is 4.1 % for n = 3 and 0.05 % for n = 10 (the hundredth with most: 23 % and 1.8 %). A loop costs the same for any n.
    Case does not count. Fewer than n units cannot repeat: 0. Time is linear in the length.

    >>> repetition("so x is 4 " * 10, {})  # 40 words, 31 n-grams, 4 of them distinct: 4/31 - 1
    -0.8709677419354839
    >>> repetition("First 7+5 is 12. Then 12 is less than 13, so 12 it is.", {})
    0.0
    """
    if ngram < 1:
        raise ValueError(f"ngram must be at least 1, got {ngram}")
    # Known units as numbers, so that the n-grams of a long text are cheap to hold and compare.
    numbers: dict[str, int] = {}
    units = [numbers.setdefault(unit, len(numbers)) for unit in _units(completion)]
    total = len(units) - ngram + 1
    if total < 1:
        return 0.0
    distinct = len(set(zip(*(units[start:] for start in range(ngram)), strict=False)))
    return distinct / total - 1


def _units(text: str) -> Iterator[str]:
    for word in _UNIT.findall(ordinary_characters(text).lower()):
        if len(word) > MAX_WORD_CHARS:
            yield from word
        else:
            yield word
