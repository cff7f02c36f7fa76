"""Sample completions by step, as HTML. All of a completion's text is shown; its thinking is folded."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1.cli.printing import format_number
from r1.report.choice import choose_rows, shown_steps
from r1.report.markup import Html, element, folded, joined
from r1.report.runs import ReportRun
from r1.trace_schema import FILE_PREFIX
from r1.traces import StepDamaged, TraceRow, is_empty, list_trace_files, read_rows, read_table, say_left_out
from tasks.base import Split


def sample_sections(runs: Sequence[ReportRun], count: int) -> Iterator[tuple[str, Html]]:
    """(key, section) for each chosen step of each run, in the order of time; the text of a key never changes in a run.

    count: training steps at most; the first and the last held-out evaluation come with them.
    """
    for index, run in enumerate(runs):
        # With a share of the groups, a training step's file may hold none of them.
        stored: dict[Split, list[int]] = {
            split: [step for step, path in list_trace_files(run.path, split).items() if split == "heldout" or not is_empty(path)]
            for split in FILE_PREFIX
        }
        chosen = [(step, split) for split, steps in stored.items() for step in shown_steps(split, steps, count)]
        # A held-out evaluation comes after the step that it has the number of.
        for step, split in sorted(chosen, key=lambda one: (one[0], one[1] == "heldout")):
            label = element("span", run.label, class_=f"run run-{index}") if len(runs) > 1 else None
            key = f"run{index}-{split}-{step}"
            try:
                about, content = _completions(run, key, step, split)
            except StepDamaged as error:
                say_left_out(error)
                # Another key: somebody may put the right file in its place.
                key, about, content = f"{key}-damaged", None, element("p", str(error), class_="none")
            name = f"Step {step}" if split == "train" else f"Held-out, {'before training' if step == 0 else f'after step {step}'}"
            yield key, element("section", element("h3", label, name, about), content, class_="step", data_key=key)


def _completions(run: ReportRun, key: str, step: int, split: Split) -> tuple[Html, Html]:
    """What is said of a step beside its name, and the cards of a few completions."""
    # The texts of a whole step may be many: only those that are shown are read.
    places = read_table(run.path, step, split, ("group_id", "sample_id", "reward")).to_pydict()
    keys, rewards = list(zip(places["group_id"], places["sample_id"], strict=True)), places["reward"]
    chosen = {keys[index]: why for index, why in choose_rows(rewards, keys).items()}
    rows = {(row.group_id, row.sample_id): row for row in read_rows(run.path, step, list(chosen), split)}
    known = [reward for reward in rewards if reward is not None]
    mean = format_number(sum(known) / len(known) if known else None)
    about = element("small", f"{len(rewards):,} completions, mean reward {mean}")
    # A run that goes back to a checkpoint may have written the file anew between the two readings.
    cards = [_card(rows[place], why, key) for place, why in chosen.items() if place in rows]
    return about, element("div", *cards, class_="cards")


def _card(row: TraceRow, why: str, section_key: str) -> Html:
    key = f"{section_key}-{row.group_id}-{row.sample_id}"
    parts = split_text(row.prefill + row.completion)
    is_bare = row.prompt_text.removesuffix(row.prefill) == row.question
    shown = [
        element("header", element("b", why, class_=f"why {why.split()[0]}"), _facts(row)),
        _text(row.question, "question"),
        None if is_bare else folded("whole prompt", _text(row.prompt_text, "prompt"), key=f"{key}-prompt"),
        _text(parts.before, "answer") if parts.before.strip() else None,
    ]
    if parts.thinking is not None:
        unclosed = "" if parts.is_closed else ", never closed"
        title = f"thinking, {len(parts.thinking):,} characters{unclosed}"
        shown.append(folded(title, _text(parts.thinking, "thinking"), key=f"{key}-thinking"))
    if parts.after.strip():
        shown.append(_answer(parts.after))
    elif parts.thinking is not None:
        shown.append(element("p", "nothing after the thinking", class_="none"))
    shown.append(element("p", "reference ", element("code", _reference(row.reference)), class_="reference"))
    if row.error is not None:
        shown.append(element("p", "error ", element("code", row.error), class_="reference"))
    return element("article", *shown, class_="sample")


def _facts(row: TraceRow) -> Html:
    facts = [
        ("reward", format_number(row.reward)),
        *((name, format_number(value)) for name, value in row.breakdown.items()),
        *([("advantage", format_number(row.advantage, "+.2f"))] if row.advantage is not None else []),
        ("tokens", f"{row.num_tokens:,}"),
        ("finish", row.finish_reason),
        ("group", f"{row.group_id}, sample {row.sample_id}"),
        ("problem", row.problem_id),
        *([("prefill", row.prefill)] if row.prefill else []),
    ]
    return element("ul", *(element("li", element("span", name), " ", value) for name, value in facts), class_="facts")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextParts:
    """A completion, prefill included, cut where a page folds it; the three texts together are the whole.

    Unlike r1.prompts.split_completion nothing falls away: what stands outside the tags is often why a reward is 0.
    """

    before: str
    thinking: str | None
    """With its tags; None where there are none."""
    is_closed: bool
    after: str


def split_text(text: str) -> TextParts:
    """Cut at the thinking.

    >>> parts = split_text("So: <think>2+2</think><answer>4</answer>")
    >>> parts.before, parts.thinking, parts.after
    ('So: ', '<think>2+2</think>', '<answer>4</answer>')
    """
    closing = text.rfind("</think>")
    opening = text.find("<think>")
    if closing < 0 and opening < 0:
        return TextParts(before="", thinking=None, is_closed=False, after=text)
    end = closing + len("</think>") if closing >= 0 else len(text)
    # A tag that opens behind the last closing one opens nothing: all before the closing one is thinking, as in split_completion.
    start = opening if 0 <= opening < end else 0
    return TextParts(before=text[:start], thinking=text[start:end], is_closed=closing >= 0, after=text[end:])


def _answer(text: str) -> Html:
    """What follows the thinking, with the content of <answer> marked."""
    start = text.find("<answer>")
    if start < 0:
        return _text(text, "answer")
    start += len("<answer>")
    end = text.find("</answer>", start)
    end = len(text) if end < 0 else end
    marked = joined([text[:start], element("mark", text[start:end]), text[end:]])
    return _text(marked, "answer")


def _text(text: str, kind: str) -> Html:
    # The box may scroll: a keyboard must be able to reach it.
    return element("pre", text, class_=f"text {kind}", tabindex="0", dir="auto")


def _reference(reference: Mapping[str, Any]) -> str:
    return str(reference["answer"]) if set(reference) == {"answer"} else json.dumps(reference, ensure_ascii=False)
