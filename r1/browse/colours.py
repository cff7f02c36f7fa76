"""What the `c` key colours a completion by: values per token, their scale, and the styles of its steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from r1.browse.document import Span
from r1.browse.lines import GroupLine
from r1.browse.tokens import TokenSpan, load_tokenizer, token_spans
from r1.errors import UserError
from r1.trace_schema import TraceRow

if TYPE_CHECKING:
    from rich.text import Text

Colouring = Literal["none", "advantage", "mismatch", "entropy", "probability"]
"""In the order of the key."""
COLOURINGS: tuple[Colouring, ...] = get_args(Colouring)

# From the 256 colours that every terminal has, so that the steps stay apart over ssh. Both scales can be told apart by
# colour-blind people: the first grows lighter as it goes on, the second goes from blue to red.
_NOTABLE = ("", "on #5f005f", "on #87005f", "on #af005f", "#000000 on #d75f5f", "#000000 on #ff875f", "#000000 on #ffd75f")
_NEGATIVE = ("", "on #5f0000", "on #870000", "on #af0000", "on #d70000")
_POSITIVE = ("", "on #00005f", "on #0000af", "on #005faf", "on #0087d7")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """Values from `plain`, which stays uncoloured, to `notable`, the last step of the colours."""

    title: str
    """What the values are."""
    plain: float
    notable: float
    unit: str
    spec: str = ".2f"
    is_signed: bool = False
    """From -notable to notable instead."""

    def style(self, value: float) -> str:
        """The style of a value; "" for one that is not finite."""
        width = self.notable - self.plain
        if not math.isfinite(value) or width == 0:
            return ""
        share = min(1.0, abs(value - self.plain) / abs(width))
        steps = (_POSITIVE if value > 0 else _NEGATIVE) if self.is_signed else _NOTABLE
        # Rounded, so that only a small share of the scale's length stays uncoloured.
        return steps[round(share * (len(steps) - 1))]

    def legend(self) -> "Text":
        """The scale in one line: title, first value, a swatch for each step, last value, unit."""
        from rich.text import Text

        first = -self.notable if self.is_signed else self.plain
        steps = (*reversed(_NEGATIVE), *_POSITIVE[1:]) if self.is_signed else _NOTABLE
        spec = f"+{self.spec}" if self.is_signed else self.spec
        swatches = [("  ", style) for style in steps]
        return Text.assemble(f"{self.title}  {first:{spec}} ", *swatches, f" {self.notable:{spec}} {self.unit}".rstrip())


class Painter:
    """Colours the completions of one run; keeps its tokenizer, and why there is none."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._tokenizer: Any = None
        self._failure: UserError | None = None

    def paint(
        self, colouring: Colouring, group: GroupLine, row: TraceRow
    ) -> tuple[list[Span], Scale]:
        """Return the coloured stretches of a completion and their scale; `UserError` says why that is not possible.

        Belongs into a thread: decoding 32,000 tokens takes 0.1 s, and the tokenizer has to be loaded first.
        """
        if colouring == "advantage":
            scale = advantage_scale([one.advantage for one in group.completions])
            style = scale.style(row.advantage or 0.0)
            return ([Span(0, len(row.completion), style)] if style else []), scale
        values = token_values(colouring, row)
        spans = token_spans(self._load_tokenizer(), row.token_ids, row.completion)
        # The end-of-sequence token is not in the text: its value should not decide what the others are compared with.
        scale = scale_of(colouring, values[: spans[-1].last_token + 1 if spans else 0])
        return coloured_spans(spans, values, scale), scale

    def _load_tokenizer(self) -> Any:
        if self._failure is not None:
            raise self._failure
        if self._tokenizer is None:
            try:
                self._tokenizer = load_tokenizer(self._run)
            except UserError as error:
                self._failure = error
                raise
        return self._tokenizer


def advantage_scale(advantages: Sequence[float | None]) -> Scale:
    """One scale for all completions of a group; raises `UserError` when none has an advantage."""
    known = [abs(value) for value in advantages if value is not None]
    if not known:
        raise UserError("held out, nothing is learnt from it")
    return Scale(title="advantage, of every token", plain=0.0, notable=max(known), unit="(of this group)", is_signed=True)


def token_values(colouring: Colouring, row: TraceRow) -> list[float]:
    """Return a value for each token, [L]; raises `UserError` when the columns they are made of are not stored."""
    if colouring == "entropy":
        _check_stored(row, "entropies")
        return list(row.entropies)
    _check_stored(row, "rollout_logprobs")
    if colouring == "probability":
        return [math.exp(value) for value in row.rollout_logprobs]
    _check_stored(row, "old_logprobs")
    return [abs(old - rollout) for old, rollout in zip(row.old_logprobs, row.rollout_logprobs, strict=True)]


def scale_of(colouring: Colouring, values: Sequence[float]) -> Scale:
    """The scale of the values that are shown: that of a probability is always the whole, others end at the largest."""
    if colouring == "probability":
        return Scale(title="sampled with probability", plain=1.0, notable=0.0, unit="")
    title = "entropy of the policy" if colouring == "entropy" else "|old - rollout| log-probability"
    largest = max((value for value in values if math.isfinite(value)), default=0.0)
    # Mismatches of 1e-7 are as usual as those of 1e-2.
    spec = ".2f" if largest >= 0.05 or largest == 0 else ".1e"
    return Scale(title=title, plain=0.0, notable=largest, unit="nats", spec=spec)


def coloured_spans(tokens: Sequence[TokenSpan], values: Sequence[float], scale: Scale) -> list[Span]:
    """Return the styled stretches of a completion; of tokens that share a character, the more notable value counts."""
    spans: list[Span] = []
    for token in tokens:
        shared = [value for value in values[token.first_token : token.last_token + 1] if math.isfinite(value)]
        style = scale.style(max(shared, key=lambda value: abs(value - scale.plain))) if shared else ""
        if not style:
            continue
        if spans and spans[-1].style == style and spans[-1].end == token.start:
            spans[-1] = Span(spans[-1].start, token.end, style)
        else:
            spans.append(Span(token.start, token.end, style))
    return spans


def _check_stored(row: TraceRow, column: str) -> None:
    if not getattr(row, column):
        # The last two columns are the learner's, which sees no held-out completion, and no group that left the loss.
        unseen = "it is held out" if row.split == "heldout" else "its group was not learnt from"
        is_unseen = column != "rollout_logprobs" and (row.split == "heldout" or not row.is_learnt)
        raise UserError(f"no {column} stored: {unseen if is_unseen else 'an older run, or one that keeps text alone'}")
