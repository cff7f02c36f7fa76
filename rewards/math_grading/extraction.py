"""Where the final answer stands in a completion. Strict: no answer is better than a guess about free text."""

import re
from typing import Literal, get_args

AnswerForm = Literal["any", "tags", "box", "hash", "line"]
"""any: the <answer> block if there is an answer tag, else the last box. tags, box: only that. hash: "#### 72" on the
last line (GSM8K's own mark). line: "Answer: 72" on the last line (DAPO's prompt)."""

MAX_LINE_CHARS = 2000
"""A longer last line is no answer, and would make the pattern for "Answer:" slow."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)  # \{ and \} are printed braces, not groups
# What a tokenizer may leave behind the text: <|im_end|>, </s>. It says nothing, so it may stand behind an answer.
_SPECIAL_TOKENS = re.compile(r"(?:\s|<\|[^<>|\s]{1,40}\|>|</s>|<eos>|<end_of_turn>)*")
_ANSWER_LINE = re.compile(r"[*#>-]*\s*(?:the\s+)?(?:final\s+)?answer\s*(?:is\s*)?\**\s*:\s*\**\s*(.+)", re.IGNORECASE)
_LEAD_IN = re.compile(
    r"\**(?:(?:so|thus|hence|therefore),?\s+)?(?:the\s+)?(?:final\s+)?answer\s*(?:is\s*:?|:|=)\**\s*", re.IGNORECASE
)


def final_answer(completion: str, form: AnswerForm = "any") -> str | None:
    """Return the final answer's text, or None when the completion does not end in one of the wanted form.

    >>> final_answer("<think>is it 71?</think> <answer>72</answer>")
    '72'
    >>> final_answer(r"So \\boxed{71}, no: \\boxed{72}."), final_answer("The answer is 72."), final_answer("<answer>72")
    ('72', None, None)
    """
    if form not in get_args(AnswerForm):
        raise ValueError(f"form: no answer form {form!r}; choose one of {', '.join(get_args(AnswerForm))}")
    conclusion = completion.rpartition("</think>")[2]
    if "<think>" in conclusion:  # still thinking
        return None
    if form in ("hash", "line"):
        return _from_last_line(conclusion, form)
    if "<answer>" in conclusion or "</answer>" in conclusion:
        return _from_tags(conclusion, needs_box=form == "box")
    return None if form == "tags" else last_box(conclusion)


def last_box(text: str) -> str | None:
    """Return the content of the last \\boxed{} or \\fbox{}; None when there is none or it is never closed.

    A box within a box belongs to the outer one.

    >>> last_box(r"\\boxed{1} or rather \\boxed{\\frac{1}{2}}."), last_box(r"\\boxed{1} or \\boxed{2")
    ('\\\\frac{1}{2}', None)
    """
    content, _, is_open = _boxes(text)
    return None if is_open else content or None


def is_answering(text: str, form: AnswerForm = "any") -> bool:
    """Whether a text that breaks off does so within its final answer, or right behind it: then it needs no other beginning.

    A mention of the form further up is none. any: as tags.

    >>> is_answering(r"\\boxed{7", "box"), is_answering(r"\\boxed{72}.", "box"), is_answering(r"In \\boxed{} later: 8*9", "box")
    (True, True, False)
    >>> is_answering("<answer>7"), is_answering("<answer>72</answer> no,"), is_answering("#### 7", "hash")
    (True, False, True)
    """
    conclusion = text.rpartition("</think>")[2]
    if form == "box":
        content, end, is_open = _boxes(conclusion)
        return is_open or (bool(content) and not any(character.isalnum() for character in conclusion[end:]))
    if form in ("hash", "line"):  # whether more on the last line would be the answer
        return final_answer(conclusion.rstrip() + "1", form) is not None
    return conclusion.rfind("<answer>") > conclusion.rfind("</answer>") or final_answer(conclusion, "tags") is not None


def _boxes(text: str) -> tuple[str | None, int, bool]:
    """Return the content of the last closed box, None where there is none; the position behind it; whether one is open."""
    content, end = None, 0
    open_braces: list[int | None] = []  # where the content of a box begins, None for other braces
    num_open_boxes = 0
    for match in _BRACE.finditer(text):
        if match[0] == "}":
            start = open_braces.pop() if open_braces else None
            num_open_boxes -= start is not None
            if start is not None and num_open_boxes == 0:
                content, end = text[start : match.start()].strip(), match.end()
        elif match[0].endswith("{") and match[0] != r"\{":
            is_box = match[0] != "{"
            open_braces.append(match.end() if is_box else None)
            num_open_boxes += is_box
    return content, end, num_open_boxes > 0


def _from_tags(conclusion: str, *, needs_box: bool) -> str | None:
    if conclusion.count("<answer>") != 1 or conclusion.count("</answer>") != 1:
        return None
    _, _, rest = conclusion.partition("<answer>")
    content, closed, trailing = rest.partition("</answer>")
    if not closed or not _SPECIAL_TOKENS.fullmatch(trailing):
        return None
    if needs_box or _BOX.search(content):
        return last_box(content)
    content = content.strip()
    return without_lead_in(content) or None


def without_lead_in(text: str) -> str:
    """Take "The answer is" off the beginning of a text.

    >>> without_lead_in("So the final answer is: 72")
    '72'
    """
    lead_in = _LEAD_IN.match(text)
    return text[lead_in.end() if lead_in else 0 :]


def _from_last_line(conclusion: str, form: AnswerForm) -> str | None:
    lines = conclusion.strip().splitlines()
    if not lines or len(lines[-1]) > MAX_LINE_CHARS:
        return None
    if form == "hash":
        answer = lines[-1].rpartition("####")[2].strip() if "####" in lines[-1] else None
    else:
        match = _ANSWER_LINE.fullmatch(lines[-1].strip())
        answer = match[1].removesuffix("**").strip() if match else None
    if answer is None:
        return None
    answer = re.sub(r"(?:<\|[^<>|\s]{1,40}\|>|</s>)+$", "", answer).strip()
    return last_box(answer) if _BOX.search(answer) else answer or None
