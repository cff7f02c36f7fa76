"""Whether the thinking keeps to one language, judged by the scripts that its words are written in."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from rewards.blocks import TAGS, ordinary_characters, thinking

_LATIN = "cs da de en es fi fr hu id it ms nl no pl pt ro sv sw tr vi"
SCRIPTS: Mapping[str, frozenset[str]] = {
    **{language: frozenset({"LATIN"}) for language in _LATIN.split()},
    **{language: frozenset({"CYRILLIC"}) for language in ("bg", "ru", "uk")},
    **{language: frozenset({"ARABIC"}) for language in ("ar", "fa", "ur")},
    "bn": frozenset({"BENGALI"}),
    "el": frozenset({"GREEK"}),
    "he": frozenset({"HEBREW"}),
    "hi": frozenset({"DEVANAGARI"}),
    "ja": frozenset({"CJK", "HIRAGANA", "KATAKANA"}),
    "ko": frozenset({"HANGUL"}),
    "ta": frozenset({"TAMIL"}),
    "th": frozenset({"THAI"}),
    "zh": frozenset({"CJK"}),
}
"""Language -> the scripts of its words, by the first word of their characters' Unicode names."""

CHARACTER_SCRIPTS = frozenset({"CJK", "HIRAGANA", "KATAKANA", "THAI"})
"""Scripts without spaces between words: each character counts as a word."""

MAX_SPAN_CHARS = 1000
"""A formula or a piece of code is at most this long; an opening sign without an end so near opens nothing."""

_TAG = re.compile("|".join(TAGS))
_LATEX_COMMAND = re.compile(r"\\[A-Za-z]+")
# What opens a neutral span -> what closes it. In this order: ``` before `, $$ before $.
_SPANS = {"```": "```", "`": "`", "$$": "$$", "$": "$", "\\(": "\\)", "\\[": "\\]"}
_OPENING = re.compile("|".join(map(re.escape, _SPANS)))
# The scripts of formulas and code. Words of other scripts count inside them too, or $...$ would hide a whole language.
_SCRIPTS_OF_FORMULAS = frozenset({"LATIN", "GREEK"})


def language_consistency(completion: str, reference: Mapping[str, Any]) -> float:
    """Return the share, 0 to 1, of the thinking's words that are in the wanted language's script.

    Source: DeepSeek-R1 (arXiv 2501.12948), section 2.3.2: the proportion of target-language words in the chain of
    thought, there added to accuracy against the mixing of languages. The language is reference["language"], a two-letter
    code of `SCRIPTS`, "en" where there is none; another code is a ValueError.

    A word is a run of letters of one script; where a script has no spaces, each character. Left out of the count:
    numbers, punctuation, single Latin or Greek letters (x, π), LaTeX commands, and Latin and Greek inside formulas and
    code ($...$, \\(...\\), `...`). A thinking without a word is 0: saying nothing shall not be paid.

    What it cannot tell: languages that share a script. French thinking is as good as English ("en", "fr" and the others
    with Latin script give the same value), Chinese passes for Japanese, and Japanese is Chinese as far as it is written in
    ideographs. A Latin abbreviation outside of formulas (sin, cm) counts as a word of a Latin language.

    >>> language_consistency("<think>so 2x = 10, 所以 x is 5</think><answer>5</answer>", {})  # so, is; 所 and 以
    0.5
    >>> language_consistency("<think>所以 $x = \\\\text{five}$</think>", {"language": "zh"})
    1.0
    """
    language = reference.get("language", "en")
    if language not in SCRIPTS:
        raise ValueError(f"reference['language']: no language {language!r}; choose one of {', '.join(sorted(SCRIPTS))}")
    wanted = SCRIPTS[language]
    text = _TAG.sub(" ", ordinary_characters(thinking(completion)))
    scripts = list(scripts_of_words(text))
    return sum(script in wanted for script in scripts) / len(scripts) if scripts else 0.0


def scripts_of_words(text: str) -> Iterator[str]:
    """Yield the script of each word that counts."""
    for part, is_formula in _parts(text):
        for script, num_letters in _words(_LATEX_COMMAND.sub(" ", part)):
            if script in CHARACTER_SCRIPTS:
                yield from [script] * num_letters
            elif not (script in _SCRIPTS_OF_FORMULAS and (is_formula or num_letters == 1)):
                yield script


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the text in pieces, with whether each is a formula or code.

    >>> list(_parts("let $x$ be $5"))
    [('let ', False), ('x', True), (' be ', False), ('$', False), ('5', False)]
    """
    position = 0
    ends: dict[str, int] = {}  # closing sign -> its next place, -1 for none: looked for once, not from each opening sign
    while opening := _OPENING.search(text, position):
        start, closing = opening.end(), _SPANS[opening[0]]
        yield text[position : opening.start()], False
        if 0 <= ends.get(closing, 0) < start:
            ends[closing] = text.find(closing, start)
        end = ends[closing]
        # $ and ` close on their line: a price or an apostrophe shall not swallow the next paragraph.
        if end < 0 or end > start + MAX_SPAN_CHARS or (len(closing) == 1 and "\n" in text[start:end]):
            yield opening[0], False
            position = start
        else:
            yield text[start:end], True
            position = end + len(closing)
    yield text[position:], False


def _words(text: str) -> Iterator[tuple[str, int]]:
    """Yield (script, number of letters) for each run of letters of one script; accents and vowel signs are no letters.

    >>> list(_words("Pi是3,14"))
    [('LATIN', 2), ('CJK', 1)]
    """
    current, num_letters = "", 0
    for character in text:
        kind = unicodedata.category(character)[0]
        if kind == "M":  # stands on the letter before it
            continue
        script = _script(character) if kind == "L" else ""
        if script != current and current:
            yield current, num_letters
        num_letters = num_letters + 1 if script == current else 1
        current = script
    if current:
        yield current, num_letters


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    """Return the script of a letter by its name.

    >>> _script("é"), _script("ー"), _script("々")
    ('LATIN', 'KATAKANA', 'CJK')
    """
    first = unicodedata.name(letter, "UNKNOWN").split()[0].partition("-")[0]
    return "CJK" if first == "IDEOGRAPHIC" else first
