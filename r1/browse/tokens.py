"""Which characters of a completion each of its tokens became, for colouring: decoded with the run's own tokenizer."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1.errors import UserError

MAX_UNDECODED = 256
"""More tokens than this that end in the middle of a character are no text; each of them costs a decoding of them all."""

_INCOMPLETE = "\ufffd"
"""What decoders put where bytes are not (yet) a character."""


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """A piece of the completion and the tokens that it was decoded from: two or more share a character of several bytes."""

    start: int
    """First character in the completion."""
    end: int
    """Behind the last."""
    first_token: int
    """Index of the first token."""
    last_token: int
    """Index of the last, the same for most."""


def load_tokenizer(run: Path) -> Any:
    """Return the run's tokenizer (`tokenizers.Tokenizer`); raises `UserError` that says where it was looked for."""
    from tokenizers import Tokenizer

    candidates, sought = tokenizer_files(run)
    for path in candidates:
        if path.is_file():
            try:
                return Tokenizer.from_file(str(path))
            except Exception as error:  # the Rust side raises plain Exception for a file that it cannot read
                raise UserError(f"cannot read the tokenizer {str(path)!r}: {error}") from error
    raise UserError(f"no tokenizer.json: {sought}, not in a checkpoint of the run")


def tokenizer_files(run: Path) -> tuple[list[Path], str]:
    """Return where the tokenizer may be, the best place first; and what to say of the model's folder if it is nowhere."""
    candidates: list[Path] = []
    model, sought = _model_of(run)
    if model is not None:
        candidates.append(Path(model).expanduser() / "tokenizer.json")
    candidates += sorted(run.glob("checkpoints/*/hf/tokenizer.json"), reverse=True)
    if model is not None and model.count("/") == 1 and not model.startswith((".", "/", "~")):
        # A name on the hub: only what an earlier download has left, nothing is fetched.
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(model, "tokenizer.json")
        candidates += [Path(cached)] if isinstance(cached, str) else []
    return candidates, sought


def _model_of(run: Path) -> tuple[str | None, str]:
    """The model.path of the run's config.json, None where it does not tell, and what to say when nothing is found there."""
    saved = run / "config.json"
    try:
        model = json.loads(saved.read_text(encoding="utf-8"))["model"]["path"]
    except FileNotFoundError:
        return None, "the run has no config.json that names the model folder"
    except (ValueError, LookupError, TypeError) as error:
        return None, f"{str(saved)!r} is damaged: {type(error).__name__}: {error}"
    if not isinstance(model, str):
        return None, f"{str(saved)!r} is damaged: model.path is {model!r}"
    return model, f"not in the model folder {model!r}"


def token_spans(tokenizer: Any, token_ids: Sequence[int], text: str) -> list[TokenSpan]:
    """Align tokens with the completion that they were decoded to, which may end before them (end of sequence, stop texts).

    Raises `UserError` when they do not decode to it: the colours would stand in wrong places.
    """
    spans: list[TokenSpan] = []
    position = 0
    for piece, first, last in _pieces(lambda ids: str(tokenizer.decode(ids, skip_special_tokens=False)), token_ids):
        # What the stored text leaves out, at its end, counts as decoded right.
        if not (text.startswith(piece, position) or piece.startswith(text[position:])):
            raise UserError(f"the run's tokenizer decodes token {first + 1} otherwise than the stored text: {piece!r}")
        end = min(position + len(piece), len(text))
        if end > position:
            spans.append(TokenSpan(position, end, first, last))
        position = end
    if position < len(text):
        raise UserError(f"the run's tokenizer decodes the tokens to {position:,} of the {len(text):,} stored characters")
    return spans


def _pieces(decode: Callable[[Sequence[int]], str], ids: Sequence[int]) -> list[tuple[str, int, int]]:
    """Decode token by token: (text, first token, last token).

    A token is decoded together with the ones before it, as its text can depend on them (SentencePiece drops the space of
    a first word); not with all of them, which would take quadratic time. Tokens that end in the middle of a character wait
    for the next one.
    """
    pieces: list[tuple[str, int, int]] = []
    before, read = 0, 0  # the context begins at `before`, what is not decoded yet at `read`
    for end in range(1, len(ids) + 1):
        known, whole = decode(ids[before:read]), decode(ids[before:end])
        if whole.endswith(_INCOMPLETE) and end < len(ids):
            if end - read > MAX_UNDECODED:
                raise UserError(f"{MAX_UNDECODED} tokens from token {read + 1} on are no text that can be split")
            continue
        pieces.append((whole[len(known) :], read, end - 1))
        before, read = read, end
    return pieces
