"""End-of-sequence ids and text, the same for every engine."""

from collections.abc import Sequence
from typing import Any

from transformers import GenerationConfig


def eos_token_ids(model_path: str, tokenizer: Any) -> tuple[int, ...]:
    """All ids that end a completion: the tokenizer's and every one that the generation config lists.

    Chat models often list two (end of turn, end of text); a trainer that knows only one of them takes
    finished completions for truncated ones.
    """
    try:
        configured = GenerationConfig.from_pretrained(model_path).eos_token_id
    except OSError:  # a model folder need not have generation_config.json
        configured = None
    ids = set(configured if isinstance(configured, list) else [configured]) | {tokenizer.eos_token_id}
    return tuple(sorted(i for i in ids if i is not None))


def text_of(tokenizer: Any, token_ids: Sequence[int], eos_ids: Sequence[int], stop: Sequence[str] = ()) -> str:
    """Decode a completion without its final end-of-sequence token, up to the first of the texts that stop it.

    A closing tag stays: it belongs to the answer. Special tokens in the middle stay visible.
    """
    body = token_ids[:-1] if token_ids and token_ids[-1] in eos_ids else token_ids
    text: str = tokenizer.decode(body, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    ends = [text.find(one) + (len(one) if one.startswith("</") else 0) for one in stop if one in text]
    return text[: min(ends, default=len(text))]
