"""What a reward function is, and what it is given."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

AnswerForm = Literal["any", "tags", "box", "hash", "line"]
"""Where a template asks for the final answer; docs/math_grading.md, section 1."""


class RewardFn(Protocol):
    """Judges one completion on its own: plain Python, pure, no torch, no state.

    A reward function may run in any child process of any machine, in any order, so it must depend on
    its two arguments alone. Raising is allowed: errors are counted and shown, never turned into a 0.
    A module whose first call is slow may define `warm_up()` beside its function; the process that scores calls it
    once, before any completion's deadline starts to run.

    In a run the reference holds, beside the problem's own keys, facts of the sample. A problem whose reference has
    one of these keys itself keeps its own value.

        answer_form    an AnswerForm: what the prompt's template asks for
        num_tokens     sampled tokens of the completion, the end-of-sequence token included, the prefill not
        max_tokens     rollout.max_completion_tokens
        finish_reason  "stop", "length" (cut off at max_tokens) or "abort"
        question       the bare question, without instructions or template
    """

    def __call__(self, completion: str, reference: Mapping[str, Any]) -> float | None:
        """Return the reward, or None when this completion cannot be judged.

        completion: whatever the template prefilled for the assistant, followed by the sampled text.
        reference: the problem's `reference`, e.g. {"answer": "72"}, and the facts of the sample.
        None (the gold answer is unreadable, say) takes the sample out of its group's baseline; it is
        not the same as 0.0, which says that the completion is wrong.
        """
        ...
