"""What looks suspicious in stored completions: signs of reward hacking and of a policy that falls apart.

A flag is a hint for a person, not a verdict: each is a rule of a few lines that is meant to find every case of its kind, at the
cost of some false alarms. A new one is one function and one line in `FLAGS`.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from r1.evaluation.samples import RIGHT
from r1.prompts import split_completion
from r1.scoring_rules import FORMAT_GATE
from r1.traces import read_table
from rewards.blocks import TAGS
from rewards.language_consistency import scripts_of_words
from rewards.reasoning_format import reasoning_format
from rewards.repetition import repetition
from tasks import get_task
from tasks.base import Split

MAX_REPEATED_SHARE = 0.2
"""Of 10-grams. Of the solutions in GSM8K's training set the hundredth with most has 0.018 (see `rewards.repetition`)."""
MIN_FOREIGN_WORDS = 2
"""In a script that the question does not have: a single one may be a name or a symbol."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """What the rules look at."""

    text: str
    """Prefill and completion."""
    question: str
    task: str
    reward: float | None
    breakdown: Mapping[str, float | None]

    @property
    def is_right(self) -> bool:
        value = self.breakdown.get(correctness(self.task, tuple(self.breakdown)))
        return value is not None and value >= RIGHT


Rule = Callable[[Suspect], str | None]
"""Returns why a completion is flagged, in words; None when it is not."""


def no_thinking(suspect: Suspect) -> str | None:
    """A right answer with no working before it."""
    if suspect.is_right and not re.search(r"\w", working_of(suspect.text)):
        return "right, and nothing before the answer"
    return None


def no_format(suspect: Suspect) -> str | None:
    """A reward although the run pays for a format that the completion has not."""
    value = suspect.breakdown.get(FORMAT_GATE)
    if value is None:
        return None
    if (suspect.reward or 0.0) > 0 and (value == 0 or not reasoning_format(suspect.text, {})):
        return f"earned {suspect.reward:.2f} without the format"
    return None


def repeated(suspect: Suspect) -> str | None:
    """The same ten words again and again."""
    share = -repetition(suspect.text, {})
    return f"{share:.0%} of its 10-grams are repeated" if share > MAX_REPEATED_SHARE else None


def language_switch(suspect: Suspect) -> str | None:
    """Words in a script that the question is not written in."""
    own = _scripts(suspect.question) or {"LATIN"}
    if suspect.text.isascii() and "LATIN" in own:  # nothing to find, and character by character it takes long
        return None
    words = _TAG.sub(" ", suspect.text)  # which are Latin in every language
    foreign = [script for script in map(_family, scripts_of_words(words)) if script not in own]
    return f"{len(foreign)} words in {foreign[0].lower()} script" if len(foreign) >= MIN_FOREIGN_WORDS else None


def several_answers(suspect: Suspect) -> str | None:
    """Different final answers at once: several boxes or answer blocks."""
    # Behind the thinking, which may try as many as it likes.
    answers = final_answers(suspect.text.rpartition("</think>")[2])
    distinct = list(dict.fromkeys("".join(answer.split()) for answer in answers))
    return f"{len(distinct)} different answers: {', '.join(answers[:3])}"[:120] if len(distinct) > 1 else None


def copied_answer(suspect: Suspect) -> str | None:
    """The answer stands in the question, as a formula of more than a number; a number counts where nothing was worked out."""
    for answer in final_answers(suspect.text.rpartition("</think>")[2]):
        plain, question = _without_spaces(answer), _without_spaces(suspect.question)
        is_formula = bool(re.search(r"\d", plain) and re.search(r"\w\W+\w", plain)) and not _NUMBER.fullmatch(plain)
        if is_formula and plain in question:
            return f"the answer {answer.strip()[:60]!r} is copied from the question"
        is_bare = _NUMBER.fullmatch(plain) and not re.search(r"\w", working_of(suspect.text))
        if is_bare and re.search(rf"(?<![\d.]){re.escape(plain)}(?![\d.])", question):
            return f"the answer {plain!r} is a number of the question, and nothing was worked out"
    return None


FLAGS: Mapping[str, Rule] = {
    "no_thinking": no_thinking,
    "no_format": no_format,
    "repeated": repeated,
    "language_switch": language_switch,
    "several_answers": several_answers,
    "copied_answer": copied_answer,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Flagged:
    """One completion that a rule has found."""

    step: int
    group_id: int
    sample_id: int
    flag: str
    reason: str


def flag_step(
    run_dir: str | Path, step: int, split: Split = "train", flags: Sequence[str] = tuple(FLAGS)
) -> tuple[int, list[Flagged]]:
    """Return the number of completions that one step has stored, and what the rules find among them."""
    columns = ("group_id", "sample_id", "question", "prefill", "completion", "task", "reward", "breakdown")
    table = read_table(run_dir, step, split, columns)
    found = []
    for group_id, sample_id, question, prefill, completion, task, reward, parts in zip(
        *(column.to_pylist() for column in table.columns), strict=True
    ):
        breakdown = {part["name"]: part["value"] for part in parts}
        suspect = Suspect(text=prefill + completion, question=question, task=task, reward=reward, breakdown=breakdown)
        found += [
            Flagged(step=step, group_id=group_id, sample_id=sample_id, flag=flag, reason=reason)
            for flag, reason in flags_of(suspect, flags)
        ]
    return table.num_rows, found


def flags_of(suspect: Suspect, flags: Sequence[str] = tuple(FLAGS)) -> Iterator[tuple[str, str]]:
    """Yield (flag, reason) of the rules that find something.

    >>> list(flags_of(Suspect(text="<answer>19</answer>", question="12+7=", task="arithmetic", reward=1.0,
    ...                       breakdown={"accuracy": 1.0, "reasoning_format": 0.0})))
    [('no_thinking', 'right, and nothing before the answer'), ('no_format', 'earned 1.00 without the format')]
    """
    for flag in flags:
        reason = FLAGS[flag](suspect)
        if reason is not None:
            yield flag, reason


@lru_cache(maxsize=256)
def correctness(task: str, parts: tuple[str, ...]) -> str:
    """Return which reward part tells right from wrong: the task's own, where it is among them, else the first; "" without parts.

    >>> correctness("gsm8k", ("reasoning_format", "math_answer")), correctness("no_such_task", ("a", "b"))
    ('math_answer', 'a')
    """
    try:
        own = get_task(task).correctness
    except (KeyError, ValueError):  # a task of another r1
        own = ""
    return own if own in parts else next(iter(parts), "")


_TAG = re.compile("|".join(TAGS))
_FINAL = re.compile(r"<answer>|\\boxed\s*\{|####")
_BLOCK = re.compile(r"<answer>(.*?)(?:</answer>|(?=<answer>)|\Z)", re.DOTALL)
_BOX = re.compile(r"\\boxed\s*\{")
_NUMBER = re.compile(r"[-+]?\$?[\d,]*\.?\d+%?")


def working_of(text: str) -> str:
    """Return what stands before the final answer: the thinking, or without the tags all up to the first answer or the last line.

    >>> working_of("<think>7+5</think><answer>12</answer>"), working_of(r"7+5 is \\boxed{12}"), working_of("12")
    ('7+5', '7+5 is ', '')
    """
    if "<think>" in text or "</think>" in text:
        return split_completion(text).thinking
    final = _FINAL.search(text)
    return text[: final.start()] if final else text.strip().rpartition("\n")[0]


def final_answers(text: str) -> list[str]:
    r"""Return what stands in answer blocks, or where there is none in boxes.

    >>> final_answers(r"\boxed{3} or \boxed{\frac{1}{2}}"), final_answers("<answer>4</answer><answer>5</answer>")
    (['3', '\\frac{1}{2}'], ['4', '5'])
    """
    blocks = [match[1] for match in _BLOCK.finditer(text)]
    boxes = [_braced(text, match.end()) for match in _BOX.finditer(text)]
    return [block for block in blocks if not _BOX.search(block)] + boxes


def _braced(text: str, start: int) -> str:
    """From behind an opening brace to the one that closes it, or to the end."""
    depth = 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start:place]
    return text[start:]


def _without_spaces(text: str) -> str:
    return "".join(text.split()).strip("=?.").lower()


@lru_cache(maxsize=4096)
def _scripts(text: str) -> frozenset[str]:
    return frozenset(map(_family, scripts_of_words(text)))


def _family(script: str) -> str:
    """Japanese writes with three scripts at once."""
    return "CJK" if script in ("HIRAGANA", "KATAKANA") else script
