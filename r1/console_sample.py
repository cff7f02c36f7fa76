"""One completion of a step, for the console: which one, and how it is cut to fit.

The text is a model's: it is shown as `printable` leaves it, never as markup, and a log gets it in one line, so that it
cannot pass for lines of the run.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.console import Console
from rich.text import Text

from r1.cli.printing import format_number, printable
from r1.prompts import split_completion
from r1.seeds import derive_seed
from r1.trace_choice import TraceChoice
from r1.types import Completion, Score, ScoredGroup

HEAD_CHARS, TAIL_CHARS = 1200, 600
"""What a panel looks at, of a long text: more than it has room for (12 lines of 100 cells), and quickly wrapped anew."""
LOG_CHARS = 400

_BLANK_LINES = re.compile(r"\n\s*\n")
_Span = tuple[int, int, str]
"""From, to, style."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSample:
    """A completion that was chosen, without the rest of its step."""

    step: int
    chosen: str
    """How: "best of 256"."""
    place: str
    """Where it is: "group 3, sample 5", as `r1 traces group` counts, and whether it is not stored."""
    question: str
    text: str
    """Prefill and completion, without blank lines."""
    verdict: str
    """Reward, its parts, advantage, length."""
    num_tokens: int


def choose_sample(step: int, groups: Sequence[ScoredGroup], seed: int, stored: TraceChoice) -> StepSample | None:
    """Take one of the best of an odd step, and any one of an even step; None where there is none.

    The best shows what is being rewarded and flatters the policy, one at random shows how it is. Which one is a function of
    (seed, step): a run that is repeated shows the same. What is stored makes no difference, but the sample says if it is not.
    """
    all_of_them = [(group, index) for group in groups for index in range(len(group.completions))]
    if not all_of_them:
        return None
    chosen, candidates = f"one at random of {len(all_of_them)}", all_of_them
    rewards = [group.scores[index].reward for group, index in all_of_them]
    best = max((reward for reward in rewards if reward is not None), default=None)
    if step % 2 and best is not None:
        candidates = [one for one, reward in zip(all_of_them, rewards, strict=True) if reward == best]
        chosen = f"best of {len(all_of_them)}"
    group, index = candidates[derive_seed(seed, "console", step) % len(candidates)]
    completion, group_id = group.completions[index], group.prompt.group_id
    is_stored = stored.keeps(seed=seed, step=step, group_id=group_id)
    return StepSample(
        step=step,
        chosen=chosen,
        place=f"group {group_id}, sample {completion.sample_id}{'' if is_stored else ', not stored'}",
        question=group.prompt.problem.question,
        text=_BLANK_LINES.sub("\n", group.prompt.prefill + completion.text),
        verdict=_verdict(completion, group.scores[index], group.advantages[index]),
        num_tokens=len(completion.token_ids),
    )


def sample_lines(sample: StepSample, console: Console, width: int, num_lines: int) -> list[Text]:
    """Question, verdict and text in at most `num_lines` lines (at least 4) of `width` cells; the text is cut in its middle."""
    question = Text.assemble(("question ", "dim"), _in_one_line(sample.question[:HEAD_CHARS], console))
    asked = question.wrap(console, width, overflow="fold")[: 2 if num_lines >= 8 else 1]
    verdict = Text(_in_one_line(sample.verdict, console), style="dim")
    verdict.truncate(width)
    return [*asked, verdict, *_cut(sample, console, width, num_lines - 1 - len(asked))]


def log_lines(sample: StepSample, console: Console) -> list[str]:
    """The same for a log, in two lines, whatever line breaks the text has."""
    text, question = sample.text, sample.question
    if len(text) > LOG_CHARS:
        more = _num_more_tokens(sample, LOG_CHARS)
        text = f"{text[: LOG_CHARS * 2 // 3]} {more} {text[-LOG_CHARS // 3 :]}"
    if len(question) > LOG_CHARS:
        question = f"{question[:LOG_CHARS]} ..."
    heading = f"sample of step {sample.step}, {sample.chosen}: {sample.verdict}; {sample.place}"
    return [_in_one_line(heading, console), f"  {_in_one_line(f'{question} -> {text}', console)}"]


def _verdict(completion: Completion, score: Score, advantage: float) -> str:
    parts = ", ".join(f"{name} {format_number(value)}" for name, value in score.breakdown.items())
    cut_off = ", cut off" if completion.finish_reason == "length" else ""
    error = f"; {score.error}" if score.error is not None else ""
    reward = f"reward {format_number(score.reward)}{f' ({parts})' if parts else ''}"
    return f"{reward}, advantage {advantage:+.2f}, {len(completion.token_ids)} tokens{cut_off}{error}"


def _cut(sample: StepSample, console: Console, width: int, num_lines: int) -> list[Text]:
    """At most `num_lines` lines, two thirds of them from the beginning: the answer stands at the end."""
    text, spans = sample.text, _spans(sample.text)
    fits = len(text) <= HEAD_CHARS + TAIL_CHARS
    head_end, tail_start = (len(text), 0) if fits else (HEAD_CHARS, len(text) - TAIL_CHARS)
    head = _piece(text, spans, 0, head_end, console).wrap(console, width, overflow="fold")
    if fits and len(head) <= num_lines:
        return list(head)
    num_tail = (num_lines - 1) // 3
    tail = _piece(text, spans, tail_start, len(text), console).wrap(console, width, overflow="fold")
    first, last = head[: num_lines - 1 - num_tail], tail[len(tail) - num_tail :]
    num_shown = sum(len(line.plain) for line in [*first, *last])
    return [*first, Text(_num_more_tokens(sample, num_shown), style="dim"), *last]


def _num_more_tokens(sample: StepSample, num_chars_shown: int) -> str:
    """In proportion to the characters: the console has no tokenizer."""
    num_more = round(sample.num_tokens * (1 - num_chars_shown / len(sample.text)))
    return f"... about {max(1, num_more):,} more tokens ..."


def _spans(text: str) -> list[_Span]:
    """Thinking in cyan, the answer in bold green; of two that overlap the later counts."""
    parts = split_completion(text)
    closed = text.rfind("</think>")
    thinking_end = closed if closed >= 0 else len(text)
    spans = [(thinking_end - len(parts.thinking), thinking_end, "cyan")]
    if parts.answer:
        start = text.find("<answer>", max(0, closed)) + len("<answer>")
        spans.append((start, start + len(parts.answer), "bold green"))
    return spans


def _piece(text: str, spans: Sequence[_Span], start: int, stop: int, console: Console) -> Text:
    """text[start:stop] as it is shown, in its colours; cleaning makes it longer, so the colours come first."""
    edges = sorted({start, stop, *(edge for span in spans for edge in span[:2] if start < edge < stop)})
    styled = Text()
    for begin, end in pairwise(edges):
        style = next((style for first, last, style in reversed(spans) if first <= begin < last), "")
        styled.append(_plain(text[begin:end], console), style)
    return styled


def _in_one_line(text: str, console: Console) -> str:
    return _plain(" ".join(text.split()), console)


def _plain(text: str, console: Console) -> str:
    """What a terminal cannot obey and its encoding can write: an odd character is no reason to end a run."""
    return printable(text).encode(console.encoding, "backslashreplace").decode(console.encoding)
