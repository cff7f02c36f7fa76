"""What a row's answer is as a gold: the answer itself, or what is in the box of a worked solution."""

import re
from typing import Any

from rewards.math_grading.extraction import last_box

_BOX = re.compile(r"\\(?:boxed|fbox)")
# Tables of LaTeX stand on several lines, and are answers.
_TABLE = re.compile(r"\\begin\{([a-z]*matrix|array|cases|aligned|gathered)\*?\}.*?\\end\{\1\*?\}", re.DOTALL)
# Not Mr. Smith, nor 1.5.
_SENTENCES = re.compile(r"(?:[a-z]{4}|[0-9)}$])[.!?] +[A-Z][a-z]")


def has_box(value: Any) -> bool:
    """Whether a text marks its answer with a box."""
    return isinstance(value, str) and _BOX.search(value) is not None


def gold_text(value: Any) -> str:
    r"""A gold as text: what its last box holds, if it has one; 27.0 and "145.0" are the whole numbers that tables of floats make
    of them. A worked solution is none: as a gold no answer would ever equal it, and all rewards of a run would be 0.

    >>> gold_text(27.0), gold_text("145.0"), gold_text(" $x^2$ "), gold_text(1.84), gold_text(r"So it is \boxed{5}.")
    ('27', '145', '$x^2$', '1.84', '5')
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"the answer must be text or a number, got {type(value).__name__}")
    text = str(value).strip()
    if has_box(text):
        boxed = last_box(text)
        if boxed is None:
            raise ValueError("the box of the answer is empty or never closed")
        text = " ".join(boxed.split())
    if "####" in text:
        raise ValueError(
            "the answer is a worked solution: use task.name=gsm8k, which takes the number behind its '####', or put the answer "
            "in a field of its own, which task.answer_field names"
        )
    text = _TABLE.sub(lambda table: " ".join(table[0].split()), text)
    if len(text.splitlines()) > 1 or _SENTENCES.search(text):
        raise ValueError(
            "the answer is of several lines or sentences, a worked solution: put its answer in \\boxed{}, or in a field of its "
            "own, which task.answer_field names"
        )
    whole, point, zeros = text.partition(".")
    return whole if point and whole.lstrip("-").isdecimal() and set(zeros) == {"0"} else text
