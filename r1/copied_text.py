"""Whether an answer is taken from its question: all of it, a phrase, a formula or a number."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

MIN_COPIED_WORDS = 5
"""In a row. Fewer are names and units that the answer may well share with the question."""

_OPERATORS = frozenset("+-*/^")
_SAME_SIGN = {
    **dict.fromkeys((r"\times", r"\cdot", "\u00d7", "\u00b7", " times "), "*"),
    **dict.fromkeys((r"\div", "\u00f7", " divided by "), "/"),
    **dict.fromkeys(("\u2212", " minus "), "-"),
    " plus ": "+",
    **dict.fromkeys((r"\left", r"\right", r"\(", r"\)", r"\[", r"\]", r"\$", "$", r"\,", r"\!"), ""),
}
_TOKEN = re.compile(r"\d[\d,]*(?:\.\d+)?|[^\W\d_]+|[^\w\s]")
_WORD_OR_SIGN = re.compile(r"\d[\d,]*(?:\.\d+)?|[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]|\w+|[^\w\s]")
"""Where a script has no spaces, each character."""


def is_whole_question(answer: str, question: str) -> bool:
    """Whether the answer says the question and nothing else; a question of one word may be its own answer.

    >>> is_whole_question("how  much is\\n12+7", "How much is 12+7?"), is_whole_question("12+7", "How much is 12+7?")
    (True, False)
    """
    tokens, num_words = _words_and_signs(answer)
    return num_words > 1 and tokens == _words_and_signs(question)[0]


def is_mostly_of(answer: str, question: str) -> bool:
    """Whether more than half of the answer's words stand in stretches of at least `MIN_COPIED_WORDS` of the question.

    The signs between the words count as well, and a list of numbers is no phrase: "3 + 12 + 7 + 5 + 1" is not copied from
    "3, 12, 7, 5, 1", nor are five numbers that a sorted list has left where they were.

    >>> question = "He buys 3 pens, then sells all of them. What has he left?"
    >>> is_mostly_of("he sells all of them", question), is_mostly_of("then sells all of them, so 0", question)
    (False, True)
    """
    copied, (tokens, num_words) = _phrases(question), _words_and_signs(answer)
    places, covered = _places(tokens), set[int]()
    for first, phrase in enumerate(_stretches(tokens, places)):
        if phrase in copied:
            covered.update(range(first, first + MIN_COPIED_WORDS))
    return 2 * len(covered) > num_words


def is_formula_of(answer: str, question: str) -> bool:
    """Whether the answer is a formula that stands in the question, however its signs are written.

    >>> is_formula_of("(12 × 7)", r"What is 12 \\cdot 7?"), is_formula_of("2+7", "What is 12+7?")
    (True, False)
    """
    tokens, within = _without_brackets(_tokens(answer)), _tokens(question)
    if len(tokens) < 3 or not any(token in _OPERATORS for token in tokens[1:]):
        return False
    return any(within[start : start + len(tokens)] == tokens for start in range(len(within) - len(tokens) + 1))


def is_number_of(answer: str, question: str) -> bool:
    """Whether the answer is a number that stands in the question.

    >>> is_number_of("1000", "Half of 1,000 is what?"), is_number_of("12", "What is 112+7?")
    (True, False)
    """
    tokens = _without_brackets(_tokens(answer))
    return len(tokens) == 1 and tokens[0][0].isdigit() and tokens[0] in _tokens(question)


@lru_cache(maxsize=4096)
def _tokens(text: str) -> tuple[str, ...]:
    """Numbers, words and signs, the signs in one spelling.

    >>> _tokens(r"What is 1,200 \\times 7.5?")
    ('what', 'is', '1200', '*', '7.5', '?')
    """
    text = text.lower()
    for spelling, sign in _SAME_SIGN.items():
        text = text.replace(spelling, sign)
    return tuple(token.replace(",", "") if token[0].isdigit() else token for token in _TOKEN.findall(text))


def _without_brackets(tokens: tuple[str, ...]) -> tuple[str, ...]:
    while len(tokens) > 2 and (tokens[0], tokens[-1]) in (("(", ")"), ("{", "}")):
        tokens = tokens[1:-1]
    return tokens[:-1] if tokens and tokens[-1] in "=.?" else tokens


@lru_cache(maxsize=256)
def _words_and_signs(text: str) -> tuple[tuple[str, ...], int]:
    """What a text says, without the signs at its ends, and how many words that are."""
    tokens = _WORD_OR_SIGN.findall(text.lower())
    places = _places(tokens)
    return (tuple(tokens[places[0] : places[-1] + 1]), len(places)) if places else ((), 0)


def _places(tokens: Sequence[str]) -> list[int]:
    """Where words are among words and signs."""
    return [place for place, token in enumerate(tokens) if token[0].isalnum()]


def _stretches(tokens: tuple[str, ...], places: list[int]) -> Iterator[tuple[str, ...]]:
    """Each stretch of `MIN_COPIED_WORDS` words, with the signs between them."""
    return (tokens[first : last + 1] for first, last in zip(places, places[MIN_COPIED_WORDS - 1 :], strict=False))


@lru_cache(maxsize=256)
def _phrases(question: str) -> frozenset[tuple[str, ...]]:
    tokens, _ = _words_and_signs(question)
    stretches = _stretches(tokens, _places(tokens))
    return frozenset(stretch for stretch in stretches if any(token[0].isalpha() for token in stretch))
