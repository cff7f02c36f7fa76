"""An engine that says what it is told to: for tests of everything around an engine."""

from collections.abc import Callable

from r1.rollout.engine import SleepingPart, WholeGroups
from r1.types import Completion, GroupRequest, RolloutGroup, WeightManifest


class ScriptedEngine(WholeGroups):
    """A `RolloutEngine` whose completions come from a function of the prompt text and the sample's number."""

    def __init__(self, script: Callable[[str, int], str]) -> None:
        super().__init__()
        self.vocab_size = 256
        self.calls: list[str] = []
        """Method names in the order of the calls, that of `wake_up` with its part."""
        self._script = script
        self._manifest: WeightManifest | None = None

    def sample_group(self, request: GroupRequest) -> RolloutGroup:
        self.calls.append("sample_group")
        prompt = request.prompt
        texts = [self._script(prompt.text, sample_id) for sample_id in range(request.group_size)]
        completions = tuple(self._completion(prompt.group_id, sample_id, text) for sample_id, text in enumerate(texts))
        return RolloutGroup(prompt=prompt, completions=completions)

    def sleep(self) -> None:
        self.calls.append("sleep")

    def wake_up(self, part: SleepingPart) -> None:
        self.calls.append(f"wake_up {part}")

    def receive_weights(self, manifest: WeightManifest, *, verify: bool) -> None:
        self.calls.append("receive_weights")
        self._manifest = manifest

    def load_weights(self) -> None:
        self.calls.append("load_weights")
        assert self._manifest is not None, "receive_weights comes first"
        self.policy_version = self._manifest.policy_version

    def reset_prefix_cache(self) -> None:
        self.calls.append("reset_prefix_cache")

    def verify_weights(self) -> None:
        self.calls.append("verify_weights")

    def close(self) -> None:
        self.calls.append("close")

    def _completion(self, group_id: int, sample_id: int, text: str) -> Completion:
        """One token a byte, each with log-probability -1."""
        token_ids = tuple(text.encode()) or (0,)
        return Completion(
            group_id=group_id,
            sample_id=sample_id,
            token_ids=token_ids,
            rollout_logprobs=(-1.0,) * len(token_ids),
            text=text,
            finish_reason="stop",
            policy_version=self.policy_version,
        )
