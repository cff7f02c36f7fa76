"""Templates: problem -> prompt text; and a completion split into its thinking and its answer."""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from r1.errors import UserError
from rewards.base import AnswerForm
from tasks.base import Problem, Task

RenderChat = Callable[[list[dict[str, str]]], str]
"""A tokenizer's chat template: messages -> text that ends where the assistant begins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """How a problem becomes the text that the policy continues.

    >>> TEMPLATES["r1_zero_prefill"].prefill
    '<think>'
    """

    text: str
    """With {question}, {answer} (what is asked for: "the final number"), {instructions} and {examples}; other braces are text."""
    prefill: str = ""
    """Put at the end of the prompt as the beginning of the answer; rewards see it before the completion."""
    is_chat: bool = False
    """Wrap `text` as one user message by the model's own chat template."""
    answer_form: AnswerForm = "any"
    """Where the text asks for the final answer: "tags" where it names <answer>, "any" where it says nothing of it."""
    num_examples: int = 0
    """Worked examples: the first of the training problems that are worked out in the data."""
    example: str = ""
    """One of them, with {question}, {solution} and {answer}, the gold."""
    stop: tuple[str, ...] = ()
    """What ends a completion besides the end of sequence; rewards see it where it is a closing tag."""

    @property
    def asks_for_thinking(self) -> bool:
        """Whether the model is told of the tags that `reasoning_format` wants; where it is not, that reward is always 0."""
        return "<think>" in self.text or "<think>" in self.prefill


# The structure of R1-Zero's (arXiv 2501.12948, table 1): a conversation, what goes into which tags, nothing begun for the
# assistant. The wording is ours; for the paper's own, see docs/tasks.md.
_R1_ZERO = (
    "The user asks a question and the assistant solves it. The assistant first works the problem out step by step, "
    "then states {answer}. The working stands inside <think> </think> and the result inside <answer> </answer>.\n"
    "User: {instructions}{question}\nAssistant: "
)
_CHAT = (
    "{instructions}Think the problem through step by step inside <think> </think>. "
    "Then give {answer}, and nothing else, inside <answer> </answer>.\n\n{question}"
)
_BOXED = "{instructions}{question}\n\nReason step by step, and put {answer} in \\boxed{}."
# Qwen2.5's turns (ChatML), whatever the tokenizer's own template says: base models of that family know them.
_QWEN_BOXED = (
    "<|im_start|>system\nReason step by step, and put {answer} in \\boxed{}.<|im_end|>\n"
    "<|im_start|>user\n{instructions}{question}<|im_end|>\n<|im_start|>assistant\n"
)
# A base model goes on behind its answer, with a turn of the user's say, and whatever stands there spoils the answer.
# Open-Reasoner-Zero (arXiv 2503.24290) and Dr. GRPO (2503.20783) stop there as well.
_ANSWERED = ("</answer>",)
# Qwen2.5's base models close a turn with this, and have another token for the end of sequence.
_END_OF_TURN = ("<|im_end|>",)
_EXAMPLE = "Question: {question}\nAnswer: {solution}\n#### {answer}\n\n"

TEMPLATES: Mapping[str, Template] = {
    "plain": Template(text="{question}"),
    "r1_zero": Template(text=_R1_ZERO, answer_form="tags", stop=_ANSWERED),
    "r1_zero_prefill": Template(text=_R1_ZERO, prefill="<think>", answer_form="tags", stop=_ANSWERED),
    "chat": Template(text=_CHAT, is_chat=True, answer_form="tags", stop=_END_OF_TURN),
    "chat_prefill": Template(text=_CHAT, is_chat=True, prefill="<think>", answer_form="tags", stop=_END_OF_TURN),
    "boxed_chat": Template(text=_BOXED, is_chat=True, answer_form="box", stop=_END_OF_TURN),
    "qwen_boxed": Template(text=_QWEN_BOXED, answer_form="box", stop=_END_OF_TURN),
    # Wei et al. 2022, arXiv 2201.11903: worked examples, in GSM8K's own notation.
    "few_shot": Template(
        text="{examples}Question: {instructions}{question}\nAnswer:",
        example=_EXAMPLE,
        num_examples=4,
        answer_form="hash",
        stop=("\nQuestion:",),
    ),
    # Kojima et al. 2022, arXiv 2205.11916; they take the answer out with a second prompt, this asks for it in the first.
    "zero_shot_cot": Template(
        text=(
            "Question: {instructions}{question}\n"
            'End with a line that reads "Answer: " and {answer}.\nAnswer: Let\'s think step by step.\n'
        ),
        answer_form="line",
        stop=("\nQuestion:",),
    ),
}

_NUM_EXAMPLES = re.compile(r"[1-9][0-9]{0,3}")
_TEMPLATE_FILES = (".txt", ".toml")
_OPENED = re.compile(r"<think>\s*\Z")
_PLACE = re.compile(r"\{(question|answer|instructions|examples|solution)\}")


def get_template(name: str) -> Template:
    """Look a template up by name, NAME:EXAMPLES, or the path of a .txt or .toml file; a wrong one is a `UserError`.

    >>> get_template("few_shot:8").num_examples
    8
    """
    if name.endswith(_TEMPLATE_FILES):
        return _read_template(Path(name))
    base, colon, argument = name.partition(":")
    if base not in TEMPLATES:
        raise UserError(
            f"option 'task.template': no template {name!r}; choose one of {', '.join(TEMPLATES)}, or give a .txt or .toml file"
        )
    template = TEMPLATES[base]
    if not colon:
        return template
    if not template.num_examples or not _NUM_EXAMPLES.fullmatch(argument):
        raise UserError(
            f"option 'task.template': {name[:60]!r}: only few_shot takes an argument, its number of examples, from 1 to 9999: "
            "few_shot:8"
        )
    return replace(template, num_examples=int(argument))


def _read_template(path: Path) -> Template:
    """A .txt file is the text, but for the line break that editors put at its end; a .toml file has `text`, and any of prefill,
    chat, answer_form and stop.

    Without an answer_form it is tags where the text names <answer>, else box where it names \\boxed.
    """
    where = f"option 'task.template': {str(path)!r}"
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows' editors begin with a mark
        fields: dict[str, Any] = tomllib.loads(text) if path.suffix == ".toml" else {"text": text.removesuffix("\n")}
    except OSError as error:
        raise UserError(f"{where}: {error.strerror}; give a .txt or .toml file that is there") from error
    except ValueError as error:  # tomllib.TOMLDecodeError, UnicodeDecodeError
        raise UserError(f"{where} cannot be read: {error}") from error
    kinds = {"text": str, "prefill": str, "chat": bool, "answer_form": str, "stop": list}
    for key, value in fields.items():
        if key not in kinds or not isinstance(value, kinds[key]):
            rule = f"must be {kinds[key].__name__}" if key in kinds else f"is none of {', '.join(kinds)}"
            raise UserError(f"{where}: {key!r} {rule}, got {value!r}")
    if "{question}" not in fields.get("text", ""):
        raise UserError(f"{where}: the text has no {{question}}; put it where the problem belongs")
    if fields.get("answer_form", "any") not in get_args(AnswerForm):
        raise UserError(f"{where}: 'answer_form' must be one of {', '.join(get_args(AnswerForm))}, got {fields['answer_form']!r}")
    return Template(
        text=fields["text"],
        prefill=fields.get("prefill", ""),
        is_chat=fields.get("chat", False),
        answer_form=fields.get("answer_form") or _form_of(fields["text"]),
        stop=tuple(fields.get("stop", ())),
    )


def _form_of(text: str) -> AnswerForm:
    """Where a text that does not say so asks for the answer."""
    return "tags" if "<answer>" in text else "box" if "\\boxed" in text else "any"


def render(
    template: Template,
    task: Task,
    problem: Problem,
    render_chat: RenderChat | None = None,
    examples: Sequence[Problem] = (),
) -> str:
    """Return the prompt text of a problem, prefill included. examples: `template.num_examples` of them."""
    shown = "".join(
        _fill(
            template.example,
            {"question": one.question, "solution": one.solution, "answer": str(one.reference["answer"])},
        )
        for one in examples
    )
    instructions = f"{task.instructions}\n\n" if task.instructions else ""
    places = {"question": problem.question, "instructions": instructions, "answer": task.answer, "examples": shown}
    body = _fill(template.text, places)
    if template.is_chat:
        if render_chat is None:
            raise UserError("option 'task.template': the model's tokenizer has no chat template; use 'r1_zero' or 'plain'")
        body = render_chat([{"role": "user", "content": body}])
        if template.prefill and body.rstrip().endswith(template.prefill):
            return body
    return body + template.prefill


def prefill_of(template: Template, text: str) -> str:
    r"""What of a rendered prompt the assistant has said already: rewards read it in front of the completion.

    The template's prefill, or the <think> in which some models' own chat templates end (R1-Distill's, QwQ's).

    >>> prefill_of(TEMPLATES["chat"], "<|Assistant|><think>\n"), prefill_of(TEMPLATES["plain"], "Write <think>")
    ('<think>\n', '')
    """
    opened = _OPENED.search(text) if template.is_chat else None
    return opened[0] if opened else template.prefill


def _fill(text: str, places: Mapping[str, str]) -> str:
    r"""Put texts in their places, once: what is put in is not looked at, and \boxed{} stays as it is.

    >>> _fill(r"{question} in \boxed{}", {"question": "{answer}?"})
    '{answer}? in \\boxed{}'
    """
    return _PLACE.sub(lambda match: places.get(match[1], match[0]), text)


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitCompletion:
    """A completion's parts, for showing; the rewards do their own, strict reading."""

    thinking: str
    """Text between <think> and </think>; all text after <think> when it is never closed."""
    answer: str
    """Text inside <answer> after the thinking; "" when there is none."""


_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL)


def split_completion(text: str) -> SplitCompletion:
    """Split prefill + completion for display.

    >>> split_completion("<think>2+2 is 4</think><answer>4</answer>")
    SplitCompletion(thinking='2+2 is 4', answer='4')
    """
    head, closed, tail = text.rpartition("</think>")
    thinking = head if closed else (text if "<think>" in text else "")
    match = _ANSWER.search(tail if closed else text)
    return SplitCompletion(
        thinking=thinking.partition("<think>")[2] if "<think>" in thinking else thinking, answer=match[1] if match else ""
    )


def problem_fields(problem: Problem) -> dict[str, Any]:
    """The problem as plain JSON values, for traces."""
    return {"problem_id": problem.problem_id, "question": problem.question, "reference": dict(problem.reference)}
