"""An engine on plain transformers: where vLLM has no wheel (a Mac, say), and for debugging. Slow, and simple.

One prompt at a time, its whole group as one batch, so that no row ever needs padding on the left.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoTokenizer, DynamicCache

from r1.errors import SyncError, UserError
from r1.policy_model import load_model
from r1.rollout.engine import EngineOptions, WholeGroups
from r1.rollout.tokens import eos_token_ids, text_of
from r1.seeds import sample_seed
from r1.shm_weights import read_tensors
from r1.sync_tensors import load_sync_tensors
from r1.types import Completion, GroupRequest, RolloutGroup, WeightManifest


class TransformersEngine(WholeGroups):
    """A `RolloutEngine` that samples with the model's own forward pass."""

    def __init__(self, options: EngineOptions) -> None:
        super().__init__()
        if options.tensor_parallel_size > 1:
            raise UserError(
                "option 'rollout.tensor_parallel_size': the transformers engine is one process, got "
                f"{options.tensor_parallel_size}; set it to 1, or take rollout.engine=r1.rollout.vllm_engine:VllmEngine"
            )
        self._options = options
        self._tokenizer = AutoTokenizer.from_pretrained(options.model_path, trust_remote_code=False)
        self._eos_token_ids = eos_token_ids(options.model_path, self._tokenizer)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model: Any = load_model(options.model_path, dtype=getattr(torch, options.dtype)).to(self._device).eval()
        self.vocab_size = self._model.config.get_text_config().vocab_size
        self._manifest: WeightManifest | None = None
        self._received: list[tuple[str, torch.Tensor]] = []

    def receive_weights(self, manifest: WeightManifest, *, verify: bool) -> None:
        self._manifest, self._received = manifest, read_tensors(manifest, verify=verify)

    def load_weights(self) -> None:
        assert self._manifest is not None, "receive_weights comes first"
        try:
            load_sync_tensors(self._model, self._received)
        except ValueError as error:
            raise SyncError(
                f"weight sync, version {self._manifest.policy_version}: not the weights of this model: {error}"
            ) from error
        self._received = []
        self.policy_version = self._manifest.policy_version

    def reset_prefix_cache(self) -> None:
        """Nothing to forget: no key-value block outlives its group."""

    def verify_weights(self) -> None:
        """Nothing to add: weights are copied in place and used as they are."""

    def close(self) -> None:
        self._model = None

    @torch.inference_mode()
    def sample_group(self, request: GroupRequest) -> RolloutGroup:
        prompt, samples = request.prompt, range(request.group_size)
        seeds = [sample_seed(request.seed, request.step, prompt.group_id, sample_id) for sample_id in samples]
        generators = [torch.Generator(self._device).manual_seed(seed) for seed in seeds]
        tokens: list[list[int]] = [[] for _ in seeds]
        logprobs: list[list[float]] = [[] for _ in seeds]
        stopped = [False] * len(seeds)
        cache = DynamicCache(config=self._model.config)
        inputs = torch.tensor([prompt.token_ids] * len(seeds), device=self._device)
        for _ in range(self._options.max_completion_tokens):
            logits = self._model(input_ids=inputs, past_key_values=cache, use_cache=True).logits[:, -1].float()
            distribution = torch.log_softmax(logits / (self._options.temperature or 1.0), dim=-1)
            chosen = [
                int(torch.multinomial(row.exp(), 1, generator=generator) if self._options.temperature else row.argmax())
                for row, generator in zip(distribution, generators, strict=True)
            ]
            for i, token in enumerate(chosen):
                if not stopped[i]:
                    tokens[i].append(token)
                    logprobs[i].append(distribution[i, token].item())
                    stopped[i] = token in self._eos_token_ids or self._ends_in(prompt.stop, tokens[i])
            if all(stopped):
                break
            inputs = torch.tensor(chosen, device=self._device)[:, None]
        completions = tuple(
            Completion(
                group_id=prompt.group_id,
                sample_id=sample_id,
                token_ids=tuple(tokens[sample_id]),
                rollout_logprobs=tuple(logprobs[sample_id]),
                text=text_of(self._tokenizer, tokens[sample_id], self._eos_token_ids, prompt.stop),
                finish_reason="stop" if stopped[sample_id] else "length",
                policy_version=self.policy_version,
            )
            for sample_id in samples
        )
        return RolloutGroup(prompt=prompt, completions=completions)

    def _ends_in(self, stop: Sequence[str], token_ids: Sequence[int]) -> bool:
        return bool(stop) and any(one in self._tokenizer.decode(token_ids) for one in stop)
