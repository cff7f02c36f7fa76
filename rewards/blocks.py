"""A completion's <think> and <answer> blocks, read strictly, and its characters. For reward functions; no reward itself."""

import unicodedata

from rewards.math_grading.extraction import AnswerForm, final_answer

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
"""In the order in which they belong."""

# Letters and symbols that no font draws: the Hangul fillers and the empty Braille cell.
_BLANKS = frozenset("\u115f\u1160\u3164\uffa0\u2800")


def has_visible_text(text: str) -> bool:
    """Whether anything in it can be seen: white space, control and zero-width characters and lone accents cannot.

    >>> has_visible_text(" 7 "), has_visible_text("\\n\\u200b\\u2060\\ufe0f")
    (True, False)
    """
    # First letters of the categories: C control and format characters, Z spaces, M marks that need a letter.
    return any(unicodedata.category(character)[0] not in "CZM" and character not in _BLANKS for character in text)


def is_still_thinking(text: str) -> bool:
    """Whether the last <think> of a text has not been closed.

    >>> is_still_thinking("<think>2+2"), is_still_thinking("<think>2+2</think>"), is_still_thinking("4")
    (True, False, False)
    """
    return text.rfind("<think>") > text.rfind("</think>")


def final_block(completion: str) -> str | None:
    """Return the content of the only <answer> block, or None unless the completion ends in it, after any thinking.

    >>> final_block("<think>7+5=12</think><answer> 12 </answer>")
    ' 12 '
    >>> final_block("<think>7+5=12 <answer>12</answer>"), final_block("<answer>12</answer> or <answer>13</answer>")
    (None, None)
    """
    if completion.count("<answer>") != 1 or completion.count("</answer>") != 1:
        return None
    before, _, rest = completion.partition("<answer>")
    content, closed, after = rest.partition("</answer>")
    if not closed or after.strip() or is_still_thinking(before) or "<think>" in content or "</think>" in content:
        return None
    return content


def answer_block(completion: str, form: AnswerForm) -> str | None:
    """Return the final answer where the prompt asks for it: `final_block`, or what stands in a box or on the last line.

    >>> answer_block("<answer>12</answer>", "any"), answer_block(r"So \\boxed{12}.", "box"), answer_block("12", "line")
    ('12', '12', None)
    """
    return final_block(completion) if form in ("any", "tags") else final_answer(completion, form)


def thinking(completion: str) -> str:
    """Return the text from the first <think> to the last </think>; both may be missing.

    Where there is no <think>, it begins at the start, as after a prefill that was cut off. Without a </think> it ends
    where the <answer> begins, or at the end.

    >>> thinking("<think>7+5=12</think><answer>12</answer>"), thinking("7+5=12<answer>12</answer>"), thinking("<think>7+")
    ('7+5=12', '7+5=12', '7+')
    """
    head, closed, _ = completion.rpartition("</think>")
    text = head if closed else completion.partition("<answer>")[0]
    before, opened, after = text.partition("<think>")
    return after if opened else before


def ordinary_characters(text: str) -> str:
    """Replace full-width, half-width, mathematical and other forms of characters by the ordinary ones.

    Character by character: normalising a whole text puts its accents in order, in time quadratic in a run of them
    (200,000 accents took 46 s).

    >>> ordinary_characters("ｓｏ 𝟏 ﬁ")
    'so 1 fi'
    """
    return text.translate(_ORDINARY)


class _Ordinary(dict[int, str]):
    def __missing__(self, code: int) -> str:
        ordinary = unicodedata.normalize("NFKC", chr(code))
        # U+FDFA would become 18 characters.
        self[code] = ordinary if len(ordinary) <= 4 else chr(code)
        return self[code]


_ORDINARY = _Ordinary()
