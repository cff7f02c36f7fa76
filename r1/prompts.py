"""Templates: problem -> prompt text; and a completion split into its thinking and its answer."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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
    """Format string with {question} and {instructions}."""
    prefill: str = ""
    """Put at the end of the prompt as the beginning of the answer; rewards see it before the completion."""
    is_chat: bool = False
    """Wrap `text` as one user message by the model's own chat template."""
    answer_form: AnswerForm = "any"
    """Where the text asks for the final answer: "tags" where it names <answer>, "any" where it says nothing of it."""


_R1_ZERO = (
    "The user asks a question and the assistant solves it. The assistant first works the problem out step by step, "
    "then states the result. The working stands inside <think> </think> and the result inside <answer> </answer>.\n"
    "User: {instructions}{question}\nAssistant: "
)

TEMPLATES: Mapping[str, Template] = {
    "plain": Template(text="{question}"),
    "r1_zero": Template(text=_R1_ZERO, answer_form="tags"),
    "r1_zero_prefill": Template(text=_R1_ZERO, prefill="<think>", answer_form="tags"),
    "chat": Template(text="{instructions}{question}", is_chat=True),
    "chat_prefill": Template(text="{instructions}{question}", is_chat=True, prefill="<think>"),
}


def get_template(name: str) -> Template:
    """Look a template up by name; a wrong name is a `UserError` that lists the right ones."""
    if name not in TEMPLATES:
        raise UserError(f"option 'task.template': no template {name!r}; choose one of {', '.join(TEMPLATES)}")
    return TEMPLATES[name]


def render(template: Template, task: Task, problem: Problem, render_chat: RenderChat | None = None) -> str:
    """Return the prompt text of a problem, prefill included."""
    instructions = f"{task.instructions}\n\n" if task.instructions else ""
    body = template.text.format(question=problem.question, instructions=instructions)
    if template.is_chat:
        if render_chat is None:
            raise UserError("option 'task.template': the model's tokenizer has no chat template; use 'r1_zero' or 'plain'")
        body = render_chat([{"role": "user", "content": body}])
    return body + template.prefill


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
