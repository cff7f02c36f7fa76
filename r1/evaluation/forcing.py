"""Answers forced after b tokens: budget forcing, Muennighoff et al. 2025, "s1: Simple test-time scaling" (arXiv 2501.19393).

A completion that is not finished after b tokens is cut there, its thinking is closed, the text with which an answer begins is
put behind it, and the engine goes on for a few tokens. Those that are finished by then stay as they are. Left out of the
paper: making a completion think longer than it would ("Wait").
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1.errors import UserError
from r1.evaluation.problems import Chunk
from r1.evaluation.settings import CLOSING_TOKENS, EvaluationSettings
from r1.seeds import derive_seed
from r1.traces import TraceRow, read_traces
from r1.types import Prompt
from rewards.base import AnswerForm
from rewards.blocks import is_still_thinking
from rewards.math_grading.extraction import is_answering

BEGINS: Mapping[AnswerForm, str] = {
    "any": "\n<answer>",
    "tags": "\n<answer>",
    "box": "\n\nFinal answer: \\boxed{",
    "hash": "\n#### ",
    "line": "\nAnswer: ",
}
"""Answer form -> what begins an answer."""


def closing_text(text: str, form: AnswerForm) -> str:
    """Return what makes a cut completion answer: "" where it is answering already, so that it only goes on.

    text: prefill + the tokens that it may have.

    >>> closing_text("<think>48/2=24, so", "tags"), closing_text("<think>72</think><ans", "box")
    ('</think>\\n<answer>', '\\n\\nFinal answer: \\\\boxed{')
    >>> closing_text("<think>72</think><answer>7", "tags")
    ''
    """
    if is_still_thinking(text):
        return "</think>" + BEGINS[form]
    return "" if is_answering(text, form) else BEGINS[form]


def forced_chunks(
    settings: EvaluationSettings, folder: Path, chunks: Sequence[Chunk], tokenizer: Any
) -> dict[int, list[Chunk]]:
    """Return budget -> the chunks of its forced answers, made of the finished chunks in `folder`: one for each of them.

    A chunk of which all completions are finished by then has none; the numbers are those that it would have otherwise.
    """
    forced: dict[int, list[Chunk]] = {budget: [] for budget in settings.token_budgets}
    for chunk in chunks:
        rows = read_traces(folder, chunk.number, "heldout")
        prompts = {prompt.group_id: prompt for prompt in chunk.prompts}
        for place, (budget, of_budget) in enumerate(forced.items()):
            cut = forced_prompts(prompts, rows, budget, tokenizer)
            if cut:
                name = chunk.task.task.name
                of_budget.append(
                    Chunk(
                        number=place * len(chunks) + chunk.number,
                        part=f"{name}, answers after {budget} tokens",
                        task=chunk.task,
                        prompts=cut,
                        group_size=1,
                        seed=derive_seed(settings.seed, "force", name, budget),
                    )
                )
    return forced


def forced_prompts(prompts: Mapping[int, Prompt], rows: Sequence[TraceRow], budget: int, tokenizer: Any) -> list[Prompt]:
    """Return, for each completion that is longer than the budget or was cut off, the prompt that makes it answer.

    prompts: by group_id. rows: of whole groups; the new group_id counts the completions of all problems, by group_id and
    sample_id. Raises `UserError` where the tokenizer cannot write the text that is put in.
    """
    num_samples = 1 + max((row.sample_id for row in rows), default=0)
    forced = []
    for row in rows:
        if len(row.token_ids) <= budget and row.finish_reason != "length":
            continue
        prompt, cut = prompts[row.group_id], row.token_ids[:budget]
        text = tokenizer.decode(cut, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        form: AnswerForm = prompt.problem.reference.get("answer_form", prompt.answer_form)
        closing = closing_text(prompt.prefill + text, form)
        forced.append(
            Prompt(
                group_id=row.group_id * num_samples + row.sample_id,
                task=prompt.task,
                problem=prompt.problem,
                text=prompt.text + text + closing,
                prefill=prompt.prefill + text + closing,
                token_ids=(*prompt.token_ids, *cut, *_encode(closing, tokenizer)),
                answer_form=prompt.answer_form,
                stop=prompt.stop,
            )
        )
    return forced


def _encode(closing: str, tokenizer: Any) -> list[int]:
    if not closing:
        return []
    try:
        ids: list[int] = tokenizer(closing, add_special_tokens=False).input_ids
    except Exception as error:  # tokenizers raises bare Exceptions, for a character that it has no token for, say
        raise UserError(
            f"option '--force-answers': the model's tokenizer cannot encode {closing!r} ({error}); leave --force-answers out"
        ) from error
    if len(ids) > CLOSING_TOKENS:
        raise UserError(
            f"option '--force-answers': {closing!r} has {len(ids)} tokens here, more than the {CLOSING_TOKENS} that there is "
            "room for; leave --force-answers out"
        )
    return ids
