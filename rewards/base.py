"""What a reward function is."""

from collections.abc import Mapping
from typing import Any, Protocol


class RewardFn(Protocol):
    """Judges one completion on its own: plain Python, pure, no torch, no state.

    A reward function may run in any child process of any machine, in any order, so it must depend on
    its two arguments alone. Raising is allowed: errors are counted and shown, never turned into a 0.
    A module whose first call is slow may define `warm_up()` beside its function; the process that scores calls it
    once, before any completion's deadline starts to run.
    """

    def __call__(self, completion: str, reference: Mapping[str, Any]) -> float | None:
        """Return the reward, or None when this completion cannot be judged.

        completion: whatever the template prefilled for the assistant, followed by the sampled text.
        reference: the problem's `reference`, e.g. {"answer": "72"}.
        None (the gold answer is unreadable, say) takes the sample out of its group's baseline; it is
        not the same as 0.0, which says that the completion is wrong.
        """
        ...
