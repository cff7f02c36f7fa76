"""The problems of a task as prompts: rendered, tokenised and filtered once; then a pure function of how many were drawn."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from r1.errors import UserError
from r1.prompts import Template, prefill_of, render
from r1.seeds import derive_seed
from r1.types import Prompt
from tasks.base import Problem, Task

UNMEASURED = 0.5
"""The pass rate that an easy-first order takes for a problem that has none."""
ORDERS_KEPT = 2
"""A step may cross the border of an epoch; shuffling 400,000 prompts takes 0.4 s."""


@dataclass(kw_only=True)
class PromptStream:
    """An endless, seeded walk over the prompts of a task, epoch after epoch in a new order.

    Which prompt is drawn depends on the seed and on how many were drawn before: that number is a checkpoint's cursor.
    """

    prompts: Sequence[Prompt]
    seed: int
    num_skipped: int = 0
    """Problems left out because their prompt is longer than `max_prompt_tokens`."""
    pass_rates: Mapping[str, float] | None = None
    """problem_id -> measured pass rate: each epoch then begins with the easiest; None: no such order."""
    _orders: dict[int, list[int]] = field(default_factory=dict, repr=False)
    """epoch -> its order"""

    def drawn(self, index: int) -> Prompt:
        """The prompt that is drawn after `index` others."""
        epoch, position = divmod(index, len(self.prompts))
        if epoch not in self._orders:
            self._orders = dict(list(self._orders.items())[1 - ORDERS_KEPT :])
            self._orders[epoch] = self._order(epoch)
        return self.prompts[self._orders[epoch][position]]

    def _order(self, epoch: int) -> list[int]:
        order = list(range(len(self.prompts)))
        random.Random(derive_seed(self.seed, "epoch", epoch)).shuffle(order)
        rates = self.pass_rates
        if rates is not None:  # those that share a rate stay in the epoch's own order
            order.sort(key=lambda i: -rates.get(self.prompts[i].problem.problem_id, UNMEASURED))
        return order


def make_prompt_stream(
    problems: Sequence[Problem],
    task: Task,
    template: Template,
    tokenizer: Any,
    *,
    max_prompt_tokens: int,
    seed: int,
    examples: Sequence[Problem] = (),
) -> PromptStream:
    """Render and tokenise all problems; too long ones are skipped and counted, and it is an error if none is left.

    examples: what a few-shot template shows; they are no problems of the stream.
    """
    shown = {one.problem_id for one in examples}
    problems = [problem for problem in problems if problem.problem_id not in shown]
    if not problems:
        raise UserError(f"option 'task.path': the task {task.name!r} has no problems there")
    render_chat = chat_renderer(tokenizer)
    texts = [render(template, task, problem, render_chat, examples) for problem in problems]
    encoded = encode(texts, template, tokenizer)
    prompts = [
        Prompt(
            group_id=0,
            task=task.name,
            problem=problem,
            text=text,
            prefill=prefill_of(template, text),
            token_ids=tuple(ids),
            answer_form=template.answer_form,
            stop=template.stop,
        )
        for problem, text, ids in zip(problems, texts, encoded, strict=True)
        if 0 < len(ids) <= max_prompt_tokens
    ]
    if not prompts:
        shortest = min(len(ids) for ids in encoded)
        raise UserError(
            f"option 'rollout.max_prompt_tokens': all {len(problems)} prompts are longer than {max_prompt_tokens} tokens, "
            f"the shortest has {shortest}; raise it to at least {shortest}"
        )
    return PromptStream(prompts=prompts, num_skipped=len(problems) - len(prompts), seed=seed)


def encode(texts: Sequence[str], template: Template, tokenizer: Any) -> list[list[int]]:
    """Tokenise prompts; raises `UserError` for characters that the tokenizer does not have."""
    try:
        # A chat template has written its own special tokens; a base model gets those that its tokenizer adds.
        encoded: list[list[int]] = tokenizer(list(texts), add_special_tokens=not template.is_chat).input_ids
        return encoded
    except Exception as error:  # tokenizers raises bare Exceptions
        raise UserError(
            f"option 'task.template': the model's tokenizer cannot encode the prompts ({error}); the first is {texts[0][:60]!r}"
        ) from error


def chat_renderer(tokenizer: Any) -> Callable[[list[dict[str, str]]], str] | None:
    """The tokenizer's chat template; None where it has none."""
    if not tokenizer.chat_template:
        return None

    def render_chat(messages: list[dict[str, str]]) -> str:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text

    return render_chat


def worked_examples(template: Template, task: Task, problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """The first problems that are worked out, as many as the template shows."""
    examples = tuple(islice((problem for problem in problems if problem.solution), template.num_examples))
    if len(examples) < template.num_examples:
        raise UserError(
            f"option 'task.template': few_shot wants {template.num_examples} worked examples, the problems of {task.name!r} have "
            f"{len(examples)}; choose another template, or another task: gsm8k and math are worked out"
        )
    return examples
