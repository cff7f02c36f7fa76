import pytest

from rewards.repetition import repetition

WORDS = "one two three four five six seven eight nine ten"  # 10 words: 1 n-gram
CHINESE = "一二三四五六七八九十"  # 10 characters

CASES = [
    ("", 0.0, "nothing"),
    ("one two", 0.0, "fewer than ten words"),
    (WORDS, 0.0, "ten words, one n-gram"),
    (f"{WORDS} eleven twelve", 0.0, "all n-grams distinct"),
    # 20 words, 11 n-grams, of which the last is the first again.
    (f"{WORDS} {WORDS}", 10 / 11 - 1, "said twice"),
    (f"{WORDS} {WORDS.upper()}", 10 / 11 - 1, "in capitals the second time"),
    ("\n\n".join([WORDS] * 2), 10 / 11 - 1, "in two paragraphs"),
    # 1000 words, 991 n-grams, 10 distinct: one for each word that it can begin with.
    (" ".join([WORDS] * 100), 10 / 991 - 1, "a loop"),
    # 100 words, 91 n-grams, 1 distinct.
    ("wait " * 100, 1 / 91 - 1, "one word"),
    (CHINESE, 0.0, "ten characters of a script without spaces"),
    (CHINESE * 2, 10 / 11 - 1, "twenty such characters"),
    (CHINESE * 100, 10 / 991 - 1, "a loop without spaces"),
    ("ひらがなとカタカナはべつ", 0.0, "kana, 12 characters: は once, な twice but no ten alike"),
    # 400 characters, 391 n-grams, 4 distinct.
    ("wait" * 100, 4 / 391 - 1, "a loop of Latin letters without spaces"),
    ("." * 100, 1 / 91 - 1, "dots"),
    ("１２ " * 50 + "12 " * 50, 1 / 91 - 1, "full-width digits are the same digits"),
    ("a" * 30 + " " + "a" * 30, 0.0, "two long words, not sixty characters"),
]


@pytest.mark.parametrize(("completion", "expected", "why"), CASES, ids=[why for _, _, why in CASES])
def test_repetition(completion, expected, why):
    assert repetition(completion, {}) == pytest.approx(expected), why


def test_the_length_of_the_n_grams_can_be_set():
    # a b a b: the 2-grams ab ba ab, 2 of 3 distinct.
    assert repetition("a b a b", {}, ngram=2) == pytest.approx(2 / 3 - 1)
    with pytest.raises(ValueError, match="ngram must be at least 1, got 0"):
        repetition("a b", {}, ngram=0)


def test_ordinary_working_is_free():
    working = (
        "Natalia sold 48/2 = 24 clips in May. She sold 48 clips in April and 24 clips in May, so together "
        "she sold 48 + 24 = 72 clips. Let me check: half of 48 is 24, and 48 + 24 is 72. The answer is 72."
    )
    assert repetition(working, {}) == 0.0
