"""An engine that says what it is told to: for tests of everything around an engine."""

from collections.abc import Callable

from r1.rollout.engine import check_version
from r1.types import Completion, PromptBatch, RolloutGroup, WeightManifest


class ScriptedEngine:
    """A `RolloutEngine` whose completions come from a function of the prompt text and the sample's number."""

    def __init__(self, script: Callable[[str, int], str]) -> None:
        self.policy_version = 0
        self.calls: list[str] = []
        """Method names in the order of the calls."""
        self._script = script
        self._manifest: WeightManifest | None = None

    def generate(self, batch: PromptBatch) -> list[RolloutGroup]:
        self.calls.append("generate")
        check_version(batch, self.policy_version)
        groups = []
        for prompt in batch.prompts:
            texts = [self._script(prompt.text, sample_id) for sample_id in range(batch.group_size)]
            completions = tuple(self._completion(prompt.group_id, sample_id, text) for sample_id, text in enumerate(texts))
            groups.append(RolloutGroup(prompt=prompt, completions=completions))
        return groups

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
