"""The problems of a run as prompts: loaded, rendered, tokenised and filtered once; then a pure function of the step."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from r1.errors import UserError
from r1.prompts import Template, render
from r1.seeds import derive_seed
from r1.types import Progress, Prompt, PromptBatch
from tasks.base import Problem, Task


@dataclass(frozen=True, kw_only=True)
class PromptStream:
    """An endless, seeded walk over the prompts, epoch after epoch in a new order.

    Which prompts a step gets depends on the seed and on how many were drawn before: that number is a checkpoint's cursor.
    """

    prompts: Sequence[Prompt]
    num_skipped: int
    """Problems left out because their prompt is longer than `max_prompt_tokens`."""
    seed: int

    def batch(self, progress: Progress, *, num_prompts: int, group_size: int) -> PromptBatch:
        """The prompts of the step after `progress`: the next `num_prompts` of the walk."""
        positions = [divmod(progress.num_prompts_drawn + i, len(self.prompts)) for i in range(num_prompts)]
        chosen = [self.prompts[_order(self.seed, epoch, len(self.prompts))[index]] for epoch, index in positions]
        return self._batch(chosen, progress.step + 1, progress.policy_version, group_size, self.seed)

    def heldout_batch(self, step: int, policy_version: int, num_problems: int) -> PromptBatch:
        """The first `num_problems` prompts, one completion each; always the same ones, with seeds of their own."""
        return self._batch(self.prompts[:num_problems], step, policy_version, 1, derive_seed(self.seed, "heldout"))

    def _batch(self, chosen: Sequence[Prompt], step: int, policy_version: int, group_size: int, seed: int) -> PromptBatch:
        prompts = tuple(replace(prompt, group_id=group_id) for group_id, prompt in enumerate(chosen))
        return PromptBatch(step=step, prompts=prompts, group_size=group_size, policy_version=policy_version, seed=seed)


@lru_cache(maxsize=2)  # a step may cross the border of an epoch; shuffling 400,000 takes 0.4 s
def _order(seed: int, epoch: int, num_prompts: int) -> list[int]:
    order = list(range(num_prompts))
    random.Random(derive_seed(seed, "epoch", epoch)).shuffle(order)
    return order


def make_prompt_stream(
    problems: Iterable[Problem], task: Task, template: Template, tokenizer: Any, *, max_prompt_tokens: int, seed: int
) -> PromptStream:
    """Render and tokenise all problems; too long ones are skipped and counted, and it is an error if none is left."""
    problems = list(problems)
    if not problems:
        raise UserError(f"option 'task.path': the task {task.name!r} has no problems there")
    render_chat = None
    if tokenizer.chat_template:

        def render_chat(messages: list[dict[str, str]]) -> str:
            text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            return text

    texts = [render(template, task, problem, render_chat) for problem in problems]
    # A chat template has written its own special tokens; a base model gets those that its tokenizer adds.
    try:
        encoded = tokenizer(texts, add_special_tokens=not template.is_chat).input_ids
    except Exception as error:  # tokenizers raises bare Exceptions, for a character that it has no token for, say
        raise UserError(
            f"option 'task.template': the model's tokenizer cannot encode the prompts ({error}); the first is {texts[0][:60]!r}"
        ) from error
    prompts = [
        Prompt(
            group_id=0,
            task=task.name,
            problem=problem,
            text=text,
            prefill=template.prefill,
            token_ids=tuple(ids),
            answer_form=template.answer_form,
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
