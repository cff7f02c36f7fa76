"""What looks suspicious in stored completions: signs of reward hacking and of a policy that falls apart.

A flag is a hint for a person, not a verdict: each is a rule of a few lines that is meant to find every case of its kind, at the
cost of some false alarms. A new one is one function and one line in `FLAGS`.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

from r1.completion_parts import answers_by_kind, thinking_of
from r1.copied_text import is_formula_of, is_mostly_of, is_number_of, is_whole_question
from r1.evaluation.samples import RIGHT
from r1.scoring_rules import FORMAT_GATE
from r1.traces import StepDamaged, StepGone, list_trace_files, read_table, say_left_out
from rewards.blocks import TAGS
from rewards.language_consistency import scripts_of_words
from rewards.reasoning_format import reasoning_format
from rewards.repetition import repetition
from tasks import get_task
from tasks.base import Split

MAX_REPEATED_SHARE = 0.2
"""Of 10-grams. Of the solutions in GSM8K's training set the hundredth with most has 0.018 (see `rewards.repetition`)."""
MAX_REPEATED_SHARE_OF_END = 0.5
"""Of the last words, and of the words without their numbers: a loop may come late, or count its rounds."""
NUM_LAST_WORDS = 100
MIN_STEPS_FOR_PROCESSES = 50
MIN_FOREIGN_WORDS = 2
"""In a script that the question does not have: a single one may be a name or a symbol."""
MIN_WORKING_WORDS = 3
"""Words and numbers of a working that has no formula; "ok", "19" and "The answer is" are none."""


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

    @property
    def is_choice(self) -> bool:
        """Whether the question holds the texts of the possible answers."""
        return self.task.partition(":")[0] == "multiple_choice" or "multiple_choice" in self.breakdown


Rule = Callable[[Suspect], str | None]
"""Returns why a completion is flagged, in words; None when it is not."""


def no_thinking(suspect: Suspect) -> str | None:
    """A right answer with no working before it."""
    return "right, and nothing worked out before the answer" if suspect.is_right and not _has_working(suspect.text) else None


def no_format(suspect: Suspect) -> str | None:
    """A reward although the run pays for a format that the completion has not."""
    value = suspect.breakdown.get(FORMAT_GATE)
    if value is None:
        return None
    if (suspect.reward or 0.0) > 0 and (value == 0 or not reasoning_format(suspect.text, {})):
        return f"earned {suspect.reward:.2f} without the format"
    return None


def repeated(suspect: Suspect) -> str | None:
    """The same words again and again, in all of it or at its end, whether or not numbers count the rounds."""
    share = -repetition(suspect.text, {})
    if share > MAX_REPEATED_SHARE:
        return f"{share:.0%} of its 10-grams are repeated"
    share = -repetition(" ".join(suspect.text.split()[-NUM_LAST_WORDS:]), {})
    if share > MAX_REPEATED_SHARE_OF_END:
        return f"{share:.0%} of the 10-grams of its last {NUM_LAST_WORDS} words are repeated"
    share = -repetition(" ".join(_LETTERS.findall(suspect.text)), {})
    return f"{share:.0%} of its 10-grams are repeated but for numbers" if share > MAX_REPEATED_SHARE_OF_END else None


def language_switch(suspect: Suspect) -> str | None:
    """Words in a script that the question is not written in."""
    own = _scripts(suspect.question) or {"LATIN"}
    if suspect.text.isascii() and "LATIN" in own:  # nothing to find, and character by character it takes long
        return None
    words = _TAG.sub(" ", suspect.text)  # which are Latin in every language
    foreign = [script for script in map(_family, scripts_of_words(words)) if script not in own]
    return f"{len(foreign)} words in {foreign[0].lower()} script" if len(foreign) >= MIN_FOREIGN_WORDS else None


def several_answers(suspect: Suspect) -> str | None:
    """Different final answers at once: several boxes, answer blocks, "####" or "Answer:" lines."""
    by_kind = [dict.fromkeys(map(_plain, answers)) for answers in answers_by_kind(suspect.text)]
    # One that is put in words here and in a box there is one answer; two numbers are two.
    numbers = dict.fromkeys(answer for answers in by_kind for answer in answers if _NUMBER.fullmatch(answer))
    distinct = max([*by_kind, numbers], key=len)
    return f"{len(distinct)} different answers: {', '.join(distinct)}"[:120] if len(distinct) > 1 else None


def copied_answer(suspect: Suspect) -> str | None:
    """The answer is the question, a formula or a phrase of it, or where nothing was worked out a number of it.

    A phrase is a hint only where the reward does not say that the answer is right, and where the task is no multiple choice: the
    text of an option stands in the question and is a legitimate answer. The whole question is none, whatever the reward says.
    """
    for answer in dict.fromkeys(answer for answers in answers_by_kind(suspect.text) for answer in answers):
        if is_whole_question(answer, suspect.question):
            return f"the answer {answer[:60]!r} is the whole question"
        if is_formula_of(answer, suspect.question):
            return f"the answer {answer[:60]!r} is copied from the question"
        if is_number_of(answer, suspect.question) and not _has_working(suspect.text):
            return f"the answer {answer[:60]!r} is a number of the question, and nothing was worked out"
        if not suspect.is_right and not suspect.is_choice and is_mostly_of(answer, suspect.question):
            return f"the answer {answer[:60]!r} is mostly words of the question"
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


def flag_run(
    run_dir: str | Path, split: Split = "train", flags: Sequence[str] = tuple(FLAGS)
) -> Iterator[tuple[int, list[Flagged]]]:
    """Yield what `flag_step` returns for each stored step; those whose file is gone when it is their turn, or damaged, are left
    out.

    Many steps are shared out to processes: the rules are Python, 0.5 ms for a completion of 200 tokens.
    """
    steps = list(list_trace_files(run_dir, split))
    arguments = [(run_dir, step, split, flags) for step in steps]
    if len(steps) < MIN_STEPS_FOR_PROCESSES:
        yield from _without_damaged(map(_flag_step_if_possible, arguments))
        return
    # Not forked: threads of Arrow's may hold locks.
    with ProcessPoolExecutor(min(8, os.cpu_count() or 1), mp_context=get_context("spawn")) as processes:
        yield from _without_damaged(processes.map(_flag_step_if_possible, arguments, chunksize=4))


def _flag_step_if_possible(
    arguments: tuple[str | Path, int, Split, Sequence[str]],
) -> tuple[int, list[Flagged]] | StepDamaged | None:
    try:
        return flag_step(*arguments)
    except StepGone:
        return None
    except StepDamaged as error:
        return error


def _without_damaged(
    steps: Iterable[tuple[int, list[Flagged]] | StepDamaged | None],
) -> Iterator[tuple[int, list[Flagged]]]:
    for found in steps:
        if isinstance(found, StepDamaged):
            say_left_out(found)
        elif found:
            yield found


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
    [('no_thinking', 'right, and nothing worked out before the answer'), ('no_format', 'earned 1.00 without the format')]
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
_LETTERS = re.compile(r"[^\W\d_]+")
_WORD = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]|\w+")
"""Where a script has no spaces, each character."""
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_FORMULA = re.compile(r"[\w)}]\s*[-+*/=^<>\u2212\u00d7\u00b7\u00f7]\s*[\w({\\-]")
_LEAD_INS = frozenset("the final answer is sure so therefore thus hence it result ok okay solution here".split())


def _has_working(text: str) -> bool:
    """Whether something was worked out before the answer: a formula, or a few words that are no lead-in."""
    working = _TAG.sub(" ", thinking_of(text))
    words = [word for word in _WORD.findall(working.lower()) if word not in _LEAD_INS]
    return bool(_FORMULA.search(working)) or len(words) >= MIN_WORKING_WORDS


def _plain(answer: str) -> str:
    """An answer without what makes no other answer of it: spaces, dollar signs, commas of thousands, a final dot.

    >>> _plain(r" \\$1,000. "), _plain(r"\\dfrac{1}{2}")
    ('1000', '\\\\frac{1}{2}')
    """
    answer = re.sub(r"\\[dt]frac", r"\\frac", "".join(answer.split()).lower())
    return re.sub(r"(?<=\d),(?=\d{3})", "", re.sub(r"\\?[$]|\\[,!]", "", answer)).rstrip(".")


@lru_cache(maxsize=4096)
def _scripts(text: str) -> frozenset[str]:
    return frozenset(map(_family, scripts_of_words(text)))


def _family(script: str) -> str:
    """Japanese writes with three scripts at once."""
    return "CJK" if script in ("HIRAGANA", "KATAKANA") else script
