"""Whether the final answer is the letter of the right choice."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.math_grading.extraction import final_answer

MAX_CHARS = 1000
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_GOLD = re.compile(r"[A-Z]")
# \text{...} and its relatives around anything without braces: (B), or the letter with its text.
_WRAPPER = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathsf|mbox|boxed|fbox)\s*\{([^{}]*)\}")
_LATEX_SPACE = re.compile(r"\\[ ,;:!]|~|\\q?quad")
# (B), [B], B), B., B: or B alone, then perhaps a text. A letter without a sign behind it must stand alone: "A cat".
_LETTER = re.compile(r"(?:[(\[]\s*([A-Za-z])\s*[)\]]\s*[.:]?|([A-Za-z])\s*[).:])\s*(.*)|([A-Za-z])", re.DOTALL)
# Another choice in the text: any lone capital; b to j, as x is a variable and a an article; a and i with a bracket.
_ANOTHER_LETTER = re.compile(r"(?<![A-Za-z'’])(?:[A-Zb-hj](?![A-Za-z])|[ai]\s*[)\]])")


def multiple_choice(completion: str, reference: Mapping[str, Any]) -> float | None:
    """Return 1.0 when the final answer is the gold letter and no other, else 0.0.

    reference: {"answer": "B"}, and where the texts are known "choices": {"A": "41", "B": "42"} or ["41", "42"].
    None when the gold is not one letter A to Z, or not among the choices.

    The final answer stands where `math_answer` looks for it (docs/math_grading.md, section 1; `answer_form` says which
    form). Accepted: B, b, (B), [B], B., B), \\text{B}, \\textbf{(B)}, $B$, **B**, and a letter with its text: "B) 42".
    Several letters are no answer. The text must be that of its choice; where the choices are not known, it must not hold
    another lone letter, since "B) or C)" is a hedge. The text without a letter is not accepted.

    >>> multiple_choice(r"<think>6*7=42</think> <answer>(B)</answer>", {"answer": "B"})
    1.0
    >>> multiple_choice(r"<answer>A or B</answer>", {"answer": "B"}), multiple_choice("<answer>B</answer>", {"answer": "BC"})
    (0.0, None)
    """
    gold, choices = str(reference["answer"]).strip(), _by_letter(reference.get("choices"))
    if not _GOLD.fullmatch(gold) or (choices and gold not in choices):
        return None
    return float(answered(completion, reference) == gold)


def answered(completion: str, reference: Mapping[str, Any]) -> str | None:
    """Return the letter that the completion chooses; None when it chooses none, several, or one with another's text.

    >>> answered("<answer>(b) 42</answer>", {}), answered("<answer>A cat</answer>", {}), answered("<answer>B) or C)</answer>", {})
    ('B', None, None)
    """
    answer = final_answer(completion, reference.get("answer_form", "any"))
    match = _LETTER.fullmatch(_bare(answer)) if answer is not None and len(answer) <= MAX_CHARS else None
    if match is None:
        return None
    letter, text = (match[1] or match[2] or match[4]).upper(), (match[3] or "").strip()
    choices = _by_letter(reference.get("choices"))
    if choices:
        is_clear = not text or (letter in choices and _bare(text).casefold() == _bare(choices[letter]).casefold())
    else:
        is_clear = not _ANOTHER_LETTER.search(text)
    return letter if is_clear else None


def _by_letter(choices: Any) -> Mapping[str, str]:
    """Return letter -> text; {} when there are no choices.

    >>> _by_letter(["41", 42])
    {'A': '41', 'B': '42'}
    """
    if isinstance(choices, Mapping):
        return {str(letter).strip(): str(text) for letter, text in choices.items()}
    if isinstance(choices, Sequence) and not isinstance(choices, str):
        return dict(zip(LETTERS, map(str, choices), strict=False))
    return {}


def _bare(text: str) -> str:
    r"""Take off what is for the eye only: \text{}, $...$, **...**, LaTeX spaces, a full stop at the end.

    >>> _bare(r"\textbf{(B)}\ 42"), _bare("$B$."), _bare("**B**")
    ('(B) 42', 'B', 'B')
    """
    for _ in range(3):  # \textbf{(\text{B})}: from the inside out
        text = _WRAPPER.sub(r"\1", text)
    text = _LATEX_SPACE.sub(" ", text).replace("\\(", "").replace("\\)", "").replace("$", "").replace("**", "")
    return " ".join(text.split()).removesuffix(".").strip()
