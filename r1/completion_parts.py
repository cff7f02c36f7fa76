"""A completion's thinking and answers, read generously: for people who search and compare, not for rewards."""

import re
from collections.abc import Sequence
from functools import lru_cache

from r1.errors import UserError
from r1.prompts import get_template, split_completion
from rewards.base import AnswerForm
from rewards.math_grading.extraction import final_answer

MAX_ANSWER_CHARS = 500
"""A box that is never closed holds no more."""
_OPENING = re.compile(
    r"<answer>|\\(?:boxed|fbox)\s*\{|####|(?:^|\n)[*#> \t-]{0,20}(?:the\s+)?(?:final\s+)?answer\b[^\n:]{0,10}:", re.IGNORECASE
)
_BLOCK = re.compile(r"<answer>(.*?)(?:</answer>|(?=<answer>)|\Z)", re.DOTALL)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_HASH = re.compile(r"####[ \t]*([^\n#]+)")
_LINE = re.compile(
    r"^[*#> \t-]{0,20}(?:the\s+)?(?:final\s+)?answer\s*(?:is\s*)?\**\s*:\s*\**[ \t]*(.+)$", re.IGNORECASE | re.MULTILINE
)


def thinking_of(text: str) -> str:
    r"""Return what stands before the final answer of prefill + completion.

    The thinking where there are tags, up to an answer block that begins inside an unclosed one; without tags all up to the first
    box, ####, "Answer:" or, where there is none of them, the last line.

    >>> thinking_of("<think>7+5</think><answer>12</answer>"), thinking_of(r"7+5 is \boxed{12}"), thinking_of("12")
    ('7+5', '7+5 is ', '')
    """
    if "</think>" in text:
        return split_completion(text).thinking
    if "<think>" in text:
        text = text.partition("<think>")[2]
        opening = _OPENING.search(text)
        return text[: opening.start()] if opening else text
    opening = _OPENING.search(text)
    return text[: opening.start()] if opening else text.strip().rpartition("\n")[0]


def answer_of(text: str, form: AnswerForm) -> str:
    r"""Return the content of the answer block, or what the grader takes for the answer in that form; "" where there is none.

    >>> answer_of("<think>7+5</think><answer>12</answer>", "tags"), answer_of(r"7+5 is \boxed{12}", "box")
    ('12', '12')
    """
    return split_completion(text).answer or final_answer(text, form) or ""


@lru_cache(maxsize=64)
def form_of(template: str) -> AnswerForm:
    """Where a template asks for the answer; "any" where it is not known any more, e.g. a file that is gone."""
    try:
        return get_template(template).answer_form
    except UserError:
        return "any"


def answers_by_kind(text: str) -> list[list[str]]:
    r"""Return all final answers behind the thinking: blocks and boxes, "####" and "Answer:" lines, a list each.

    >>> answers_by_kind(r"<think>\boxed{1}</think>\boxed{3} or \boxed{\frac{1}{2}}")
    [['3', '\\frac{1}{2}'], [], []]
    """
    text = _without_closed_thinking(text)
    before, closed, after = text.partition("</think>")
    if closed and "<answer>" not in before:  # thinking whose beginning is not in the text
        text = after
    blocks = [match[1] for match in _BLOCK.finditer(text)]
    boxes = [_braced(text, match.end()) for match in _BOX.finditer(text)]
    found: Sequence[list[str]] = (
        [block for block in blocks if not _BOX.search(block)] + boxes,
        [match[1] for match in _HASH.finditer(text)],
        [match[1] for match in _LINE.finditer(text) if not _BOX.search(match[1])],
    )
    return [[answer.strip() for answer in answers if answer.strip()] for answers in found]


def _without_closed_thinking(text: str) -> str:
    """Leave out what stands between a <think> and the next </think>, both included."""
    kept: list[str] = []
    while True:
        before, opened, rest = text.partition("<think>")
        _, closed, after = rest.partition("</think>")
        if not closed:
            return "".join([*kept, before, opened, rest])
        kept.append(before)
        text = after


def _braced(text: str, start: int) -> str:
    """From behind an opening brace to the one that closes it, or as far as an answer may go."""
    depth, end = 1, min(len(text), start + MAX_ANSWER_CHARS)
    for place in range(start, end):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start:place]
    return text[start:end]
