"""The learner: model + optimizer, the GRPO update, and the weights that it publishes.

Knows nothing of Ray: `r1.runtime.learner_group` runs it in an actor, tests run it in the process.
"""

import math
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1.algorithm import AGGREGATIONS, KL_ESTIMATORS, LOSSES
from r1.algorithm.logprobs import token_logprobs
from r1.algorithm.losses import LossInputs, LossOptions
from r1.batching import MicroBatch, MiniBatch, TrainBatch
from r1.config import RunConfig
from r1.errors import RunError, SyncError
from r1.shm_weights import ShmPublisher
from r1.types import WeightManifest

MAX_SKIPPED_IN_A_ROW = 3
"""Updates with a non-finite loss or gradient after which the run stops: a single one can be bad luck."""


class Learner:
    """Holds the policy in float32 and updates it; `policy_version` counts the updates."""

    def __init__(self, config: RunConfig, publish_path: str) -> None:
        """publish_path: the shared-memory file for `publish_weights`."""
        # For models with dropout; nothing else here is random.
        torch.manual_seed(config.seed)
        self.config = config
        self.policy_version = 0
        self.num_updates = 0
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = self._load_model().train()
        self.reference = self._load_model().eval().requires_grad_(False) if config.algorithm.kl_coef > 0 else None
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learner.learning_rate, weight_decay=config.learner.weight_decay
        )
        self._publisher = ShmPublisher(publish_path, getattr(torch, config.rollout.dtype))
        self._skipped_in_a_row = 0

    def ready(self) -> int:
        """Answers once the model is loaded: its process id."""
        return os.getpid()

    def update(self, batch: TrainBatch) -> dict[str, float]:
        """Run one optimizer update per mini-batch and return the step's metrics.

        Refuses (SyncError) to learn from tokens that another policy than this one sampled: mean
        |old - rollout| log-probability must stay under `sync.max_logprob_diff`. The check comes before the
        first optimizer step, so that nothing is learnt from a bad sync.
        """
        if batch.policy_version != self.policy_version:
            raise SyncError(
                f"step {batch.step}: sampled by version {batch.policy_version}, the learner holds {self.policy_version}"
            )
        old_logprobs: list[list[torch.Tensor]] | None = None
        if len(batch.minibatches) > 1:  # with one, old equals policy and no extra forward pass is needed
            old_logprobs = [self._old_logprobs(minibatch) for minibatch in batch.minibatches]
            self._check_mismatch(batch.step, self._mean_mismatch(batch, old_logprobs))
        per_update = []
        for index, minibatch in enumerate(batch.minibatches):
            metrics = self._forward_backward(minibatch, old_logprobs[index] if old_logprobs else None)
            if old_logprobs is None:
                self._check_mismatch(batch.step, metrics["mismatch"])
            metrics |= self._optim_step(batch.step, metrics["loss"])
            per_update.append(metrics)
        self.policy_version += 1
        return _merge(per_update)

    def publish_weights(self) -> WeightManifest:
        """Write the current weights where the engines read them (cast to the engine's dtype)."""
        return self._publisher.publish(self.policy_version, self.model.named_parameters())

    def save(self, folder: str | Path) -> None:
        """Write all that `load` needs to go on exactly, and the policy as Hugging Face files in `folder`/hf."""
        folder = Path(folder)
        state = {
            "policy_version": self.policy_version,
            "num_updates": self.num_updates,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, folder / "learner.pt")
        self.export(folder / "hf")

    def load(self, folder: str | Path) -> None:
        """Restore what `save` wrote."""
        state = torch.load(Path(folder) / "learner.pt", map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.policy_version, self.num_updates = state["policy_version"], state["num_updates"]

    def export(self, folder: str | Path) -> None:
        """Write the policy in the engine's dtype, with its tokenizer, as transformers and vLLM load it."""
        dtype = getattr(torch, self.config.rollout.dtype)
        weights = {
            name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in self.model.state_dict().items()
        }
        self.model.config.dtype = dtype
        self.model.save_pretrained(folder, state_dict=weights)
        AutoTokenizer.from_pretrained(self.config.model.path).save_pretrained(folder)

    def close(self) -> None:
        self._publisher.close()

    def _load_model(self) -> Any:
        model = AutoModelForCausalLM.from_pretrained(self.config.model.path, dtype=torch.float32)
        return model.to(self.device)

    def _forward_backward(self, minibatch: MiniBatch, old_logprobs: list[torch.Tensor] | None) -> dict[str, float]:
        """Accumulate the gradient of a whole mini-batch; return the loss and metrics averaged over its tokens."""
        sums: dict[str, float] = defaultdict(float)
        maxima: dict[str, float] = defaultdict(float)
        for index, micro in enumerate(self._microbatches(minibatch)):
            policy_BT, entropy_BT = self._logprobs(self.model, micro)
            if not torch.isfinite(policy_BT).all():
                raise RunError(
                    f"policy version {self.policy_version}: the policy's log-probabilities are not finite, its weights have "
                    "diverged; go on from the last checkpoint with a lower learner.learning_rate"
                )
            old_BT = policy_BT.detach() if old_logprobs is None else old_logprobs[index]
            output = LOSSES[self.config.algorithm.loss](
                LossInputs(
                    policy_logprobs_BT=policy_BT,
                    old_logprobs_BT=old_BT,
                    advantages_BT=micro.advantages_BT,
                    loss_mask_BT=micro.loss_mask_BT,
                ),
                LossOptions(clip_low=self.config.algorithm.clip_low, clip_high=self.config.algorithm.clip_high),
            )
            loss_BT, metrics_BT = output.loss_BT, dict(output.metrics_BT) | {"entropy": entropy_BT}
            if self.reference is not None:
                with torch.no_grad():
                    ref_BT, _ = self._logprobs(self.reference, micro)
                kl_BT = KL_ESTIMATORS[self.config.algorithm.kl_estimator](policy_BT, ref_BT)
                loss_BT = loss_BT + self.config.algorithm.kl_coef * kl_BT
                metrics_BT["kl"] = kl_BT.detach()
            weights_BT = AGGREGATIONS[self.config.algorithm.aggregation](micro.loss_mask_BT, minibatch.counts)
            loss = (weights_BT * loss_BT).sum()
            torch.autograd.backward(loss)
            difference_BT = (old_BT - micro.rollout_logprobs_BT) * micro.loss_mask_BT
            metrics_BT["mismatch"] = difference_BT.abs()
            metrics_BT["mismatch_kl"] = torch.exp(difference_BT) - difference_BT - 1
            sums["loss"] += loss.item()
            for name, value_BT in metrics_BT.items():
                sums[name] += value_BT[micro.loss_mask_BT].sum().item() / minibatch.counts.num_loss_tokens
            maxima["mismatch_max"] = max(maxima["mismatch_max"], difference_BT.abs().max().item())
        return {**sums, **maxima}

    def _optim_step(self, step: int, loss: float) -> dict[str, float]:
        """Clip, step and clear the gradient; skip the update when it is not finite, and stop after a few in a row."""
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.learner.max_grad_norm).item()
        learning_rate = self._learning_rate()
        skipped = not (math.isfinite(norm) and math.isfinite(loss))
        if skipped:
            self._skipped_in_a_row += 1
        else:
            self._skipped_in_a_row = 0
            for group in self.optimizer.param_groups:
                # A loaded optimizer brings its old options along.
                group["lr"], group["weight_decay"] = learning_rate, self.config.learner.weight_decay
            self.optimizer.step()
            self.num_updates += 1
        self.optimizer.zero_grad(set_to_none=True)
        if self._skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise RunError(
                f"step {step}: loss {loss} and gradient norm {norm} for {MAX_SKIPPED_IN_A_ROW} updates in a row; "
                "lower learner.learning_rate"
            )
        return {"grad_norm": norm, "learning_rate": learning_rate, "skipped_updates": float(skipped)}

    def _learning_rate(self) -> float:
        """Linear warm-up from 0, then constant."""
        warmup = self.config.learner.warmup_steps
        return self.config.learner.learning_rate * min(1.0, (self.num_updates + 1) / warmup if warmup else 1.0)

    def _mean_mismatch(self, batch: TrainBatch, old_logprobs: list[list[torch.Tensor]]) -> float:
        total, num_tokens = 0.0, 0
        for minibatch, of_minibatch in zip(batch.minibatches, old_logprobs, strict=True):
            num_tokens += minibatch.counts.num_loss_tokens
            for micro, old_BT in zip(self._microbatches(minibatch), of_minibatch, strict=True):
                total += ((old_BT - micro.rollout_logprobs_BT).abs() * micro.loss_mask_BT).sum().item()
        return total / num_tokens

    def _check_mismatch(self, step: int, mismatch: float) -> None:
        bound = self.config.sync.max_logprob_diff
        # Not "mismatch > bound": a NaN must fail as well.
        if self.config.sync.verify == "on" and not mismatch <= bound:
            raise SyncError(
                f"step {step}, policy version {self.policy_version}: mean |old - rollout| log-probability is {mismatch:.2e}, "
                f"above sync.max_logprob_diff = {bound:.0e}: the engine did not sample with the learner's weights"
            )

    @torch.no_grad()
    def _old_logprobs(self, minibatch: MiniBatch) -> list[torch.Tensor]:
        return [self._logprobs(self.model, micro)[0] for micro in self._microbatches(minibatch)]

    def _microbatches(self, minibatch: MiniBatch) -> Iterator[MicroBatch]:
        for micro in minibatch.microbatches[0]:
            yield MicroBatch(**{name: getattr(micro, name).to(self.device) for name in MicroBatch.__slots__})

    def _logprobs(self, model: Any, micro: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """(log-probabilities, entropies) of the labels, [B, T] each, 0.0 where the loss mask is False."""
        compute_dtype = getattr(torch, self.config.learner.dtype)
        with torch.autocast(self.device.type, dtype=compute_dtype, enabled=compute_dtype != torch.float32):
            hidden_BTD = model.base_model(
                input_ids=micro.token_ids_BT, attention_mask=micro.attention_mask_BT.long(), use_cache=False
            ).last_hidden_state
            mask = micro.loss_mask_BT
            logprobs_N, entropies_N = token_logprobs(
                hidden_BTD[mask], model.get_output_embeddings().weight, micro.labels_BT[mask], self.config.rollout.temperature
            )
        zeros = torch.zeros(mask.shape, device=mask.device)
        return zeros.masked_scatter(mask, logprobs_N), zeros.masked_scatter(mask, entropies_N)


def _merge(per_update: list[dict[str, float]]) -> dict[str, float]:
    """Average over a step's updates; maxima stay maxima and counts are added up."""
    merged = {}
    for name in per_update[0]:
        values = [metrics[name] for metrics in per_update]
        if name.endswith("_max"):
            merged[name] = max(values)
        elif name == "skipped_updates":
            merged[name] = sum(values)
        else:
            merged[name] = sum(values) / len(values)
    return merged
