"""Which completions of a step are stored, and how much of each: what the option `logging.traces` says."""

from dataclasses import dataclass

from r1.errors import UserError
from r1.seeds import derive_seed

CONTENTS = ("tokens", "text")


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceChoice:
    """What a run keeps of its training steps; of held-out evaluations it keeps all completions.

    >>> TraceChoice.parse("text:0.1")
    TraceChoice(with_tokens=False, share=0.1)
    >>> TraceChoice.parse("tokens").keeps(seed=0, step=1, group_id=7)
    True
    """

    with_tokens: bool = True
    """Whether ids, log-probabilities and entropies are stored token by token, for held-out completions as well."""
    share: float = 1.0
    """0 to 1: of the groups of a step, drawn by (seed, step, group_id). A group is stored whole or not at all."""

    @classmethod
    def parse(cls, option: str) -> "TraceChoice":
        """Read "tokens", "text", or either with a share; raises `UserError`."""
        content, colon, text = option.partition(":")
        try:
            share = float(text) if colon else 1.0
        except ValueError:
            share = -1.0
        if content not in CONTENTS or not 0 <= share <= 1:
            raise UserError(
                f"option 'logging.traces': must be tokens or text, with a share of 0 to 1 or without: text:0.1, got {option!r}"
            )
        return cls(with_tokens=content == "tokens", share=share)

    def show_command(self, run: str, last_step: int) -> str:
        """The command that shows completions of a run's last step, which a share may have left without any.

        >>> TraceChoice.parse("text").show_command("runs/a", 9), TraceChoice.parse("text:0.1").show_command("runs/a", 9)
        ('r1 traces show runs/a --step 9', 'r1 traces show runs/a')
        """
        return f"r1 traces show {run}" + (f" --step {last_step}" if self.share >= 1 else "")

    def keeps(self, *, seed: int, step: int, group_id: int) -> bool:
        """Whether the completions of this group are stored."""
        return self.share >= 1 or derive_seed(seed, "traces", step, group_id) % 2**32 < self.share * 2**32
