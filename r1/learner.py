"""The learner: model + optimizer, the update of a step, and the weights that it publishes.

Knows nothing of Ray: `r1.runtime.learner_group` runs one of these in each rank's actor, tests run them in the process.
With several ranks each holds a part of the weights (FSDP2) and works on its share of the batch; all must make the same
calls in the same order.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from r1.algorithm.importance import effective_share
from r1.attention import switch_to_packed_rows
from r1.batching import MicroBatch, MiniBatch, TrainBatch
from r1.config import RunConfig
from r1.device_weights import device_manifest
from r1.errors import RunError, SyncError
from r1.hf_export import export, full_state
from r1.learner_state import StateWriter, learner_tensors, load_learner_tensors
from r1.lora import adapter_off, with_adapter
from r1.policy import Policy
from r1.policy_loss import microbatch_loss
from r1.policy_model import load_model
from r1.ranks import join_ranks, whole
from r1.schedule import learning_rate
from r1.shm_weights import ShmPublisher
from r1.sync_tensors import sync_tensors
from r1.token_recorder import TokenRecorder
from r1.trace_choice import TraceChoice
from r1.types import WeightManifest

MAX_SKIPPED_IN_A_ROW = 3
"""Updates with a non-finite loss or gradient after which the run stops: a single one can be bad luck."""
MAX_GRAD_NORM = 1.0
"""Longer gradients are scaled to this norm; what all published recipes here use."""
WEIGHT_DECAY = 0.0
"""At the learning rates of RL it would do nothing: 0.1 x 1e-6 over 1,000 steps shrinks a weight by 1e-4."""


class Learner:
    """Holds the policy in float32 and updates it; `policy_version` counts the updates."""

    def __init__(
        self, config: RunConfig, publish_path: str, *, rank: int = 0, num_ranks: int = 1, meeting_point: str | None = None
    ) -> None:
        """publish_path: the shared-memory file for `publish_weights`. meeting_point: tcp://host:port, for several ranks."""
        # An adapter's start is drawn, by all ranks alike.
        torch.manual_seed(config.seed)
        self.config = config
        self.policy_version = 0
        self.num_updates = 0
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.ranks = join_ranks(rank, num_ranks, meeting_point, config.deadline_s)
        self.policy = self._load_policy()
        self.model = self.policy.model.train()
        if config.learner.gradient_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.reference: nn.Module | None = None
        # Without its adapter the policy is the model that it started from: a reference that needs no memory.
        if config.algorithm.kl_coef > 0 and (config.algorithm.reference_every or not config.learner.lora_rank):
            self.reference = self._load_policy().eval().requires_grad_(False)
        trained = [parameter for parameter in self.policy.parameters() if parameter.requires_grad]
        # fused: one pass over the memory instead of a dozen, 0.12 s instead of 0.87 s for 135M parameters on one core.
        self.optimizer = torch.optim.AdamW(
            trained, lr=config.learner.learning_rate, weight_decay=WEIGHT_DECAY, fused=True
        )
        self._publisher = ShmPublisher(publish_path, getattr(torch, config.dtype)) if self.ranks.is_first else None
        self._writer = StateWriter(self.ranks)
        self.tokens = TokenRecorder(is_on=TraceChoice.parse(config.logging.traces).with_tokens)
        self._skipped_in_a_row = 0
        self._may_be_stale = config.rollout.max_staleness > 0

    def _load_policy(self) -> Policy:
        """The configured model on its devices."""
        policy = Policy(with_adapter(load_model(self.config.model.path), self.config.learner.lora_rank))
        self.ranks.shard(policy, self.device)
        switch_to_packed_rows(policy, self.device.type, getattr(torch, self.config.dtype))
        return policy

    def update(self, batch: TrainBatch) -> dict[str, float]:
        """Run one optimizer update per mini-batch and return the step's metrics, the same on all ranks.

        Refuses (SyncError) to learn from tokens that another policy than this one sampled: mean
        |old - rollout| log-probability must stay under `sync.max_logprob_diff`. The check comes before the
        first optimizer step, so that nothing is learnt from a bad sync. Stale tokens, which `rollout.max_staleness`
        allows, are left out of it.
        """
        if batch.policy_version != self.policy_version:
            raise SyncError(
                f"step {batch.step}: a batch for policy version {batch.policy_version}, the learner holds {self.policy_version}"
            )
        self.tokens.clear()
        old_logprobs: list[list[torch.Tensor]] | None = None
        # With one mini-batch old equals policy, and no extra forward pass is needed.
        if len(batch.minibatches) > 1 and self.config.learner.old_logprobs == "recompute":
            old_logprobs = [self._old_logprobs(minibatch) for minibatch in batch.minibatches]
            self._check_mismatch(batch.step, self._mean_mismatch(batch, old_logprobs))
        per_update = []
        for index, minibatch in enumerate(batch.minibatches):
            metrics = self._forward_backward(minibatch, old_logprobs[index] if old_logprobs else None)
            fresh_mismatch = metrics.pop("fresh_mismatch") / max(metrics["fresh_share"], 1e-12)
            if old_logprobs is None and index == 0:
                self._check_mismatch(batch.step, fresh_mismatch if self._may_be_stale else metrics["mismatch"])
            metrics |= self._optim_step(batch.step, metrics["loss"], has_tokens=minibatch.counts.num_loss_tokens > 0)
            per_update.append(metrics)
        self.policy_version += 1
        every = self.config.algorithm.reference_every
        if self.reference is not None and every and self.policy_version % every == 0:
            self.reference.load_state_dict(self.policy.state_dict())
        return _merge(per_update)

    def publish_weights(self) -> WeightManifest | None:
        """Make the current weights ready for the engines, in their dtype; None but on the first rank.

        On a CPU they are written where engines read them. On a GPU they stay: the manifest describes what will be sent.
        """
        if self.device.type == "cpu":
            return self.publish_file()
        manifest = device_manifest(self.policy_version, self.wire_tensors())
        return manifest if self.ranks.is_first else None

    def publish_file(self) -> WeightManifest | None:
        """Write the current weights into the shared file; None but on the first rank."""
        tensors = self.wire_tensors()
        if self._publisher is None:
            for _ in tensors:  # gathering takes all ranks
                pass
            return None
        return self._publisher.publish(self.policy_version, tensors)

    @torch.no_grad()
    def wire_tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The weights as engines get them, gathered, in one order: all ranks go through them together."""
        dtype = getattr(torch, self.config.dtype)
        for name, tensor in sync_tensors(self.model, whole=whole):
            yield name, tensor.to(dtype) if tensor.is_floating_point() else tensor

    def start_save(self, folder: str | Path) -> None:
        """Begin to write into `folder` all that `load` needs to go on exactly, on any number of ranks, and the policy in hf/.

        Everything is copied before this returns; `finish_save` says when it is on disk.
        """
        # A reference that never changes is in model.path.
        reference = self.reference if self.config.algorithm.reference_every else None
        tensors = learner_tensors(self.policy, reference, self.optimizer, self.ranks, self._counters())
        dtype = getattr(torch, self.config.dtype)
        self._writer.start(Path(folder), tensors, self.model, dtype, self.config.model.path)

    def finish_save(self, *, wait: bool = True) -> bool:
        """Whether what `start_save` began is on disk; raises what went wrong with it. wait: until it is."""
        return self._writer.finish(wait=wait)

    def load(self, folder: str | Path) -> None:
        """Restore what `start_save` wrote."""
        counters = load_learner_tensors(Path(folder), self.policy, self.reference, self.optimizer, self.ranks, self._counters())
        self.policy_version, self.num_updates = counters["policy_version"], counters["num_updates"]
        self._skipped_in_a_row = counters["skipped_in_a_row"]

    def export(self, folder: str | Path) -> None:
        """Write the policy in the engine's dtype, with its tokenizer, as transformers and vLLM load it."""
        weights = full_state(self.model, self.ranks)
        if self.ranks.is_first:
            export(self.model, weights, getattr(torch, self.config.dtype), self.config.model.path, Path(folder))

    def _counters(self) -> dict[str, int]:
        return {
            "policy_version": self.policy_version,
            "num_updates": self.num_updates,
            "skipped_in_a_row": self._skipped_in_a_row,
        }

    def close(self) -> None:
        if self._publisher is not None:
            self._publisher.close()

    def _forward_backward(self, minibatch: MiniBatch, old_logprobs: list[torch.Tensor] | None) -> dict[str, float]:
        """Accumulate the gradient of a whole mini-batch; return the loss and metrics averaged over its tokens."""
        sums: dict[str, float] = defaultdict(float)
        maxima: dict[str, float] = defaultdict(float)
        for index, micro in enumerate(self._microbatches(minibatch)):
            policy_BT, entropy_BT = self._logprobs(self.policy, micro)
            sums["not_finite"] += float(not torch.isfinite(policy_BT).all())
            if old_logprobs is None:
                self.tokens.add(minibatch.samples[self.ranks.rank][index], micro, policy_BT, entropy_BT)
            part = microbatch_loss(
                self.config.algorithm,
                micro,
                minibatch.counts,
                policy_BT=policy_BT,
                own_BT=old_logprobs[index] if old_logprobs is not None else policy_BT.detach(),
                entropy_BT=entropy_BT,
                ref_BT=self._ref_logprobs(micro) if self.config.algorithm.kl_coef > 0 else None,
                is_ratio_to_rollout=self.config.learner.old_logprobs == "rollout",
            )
            # Ranks average their gradients; the parts of the loss are to be added up.
            torch.autograd.backward(part.loss * self.ranks.num_ranks)
            sums["loss"] += part.loss.item()
            for name, value in part.sums.items():
                sums[name] += value / max(1, minibatch.counts.num_loss_tokens)
            for name, value in part.maxima.items():
                maxima[name] = max(maxima[name], value)
        metrics = {**self.ranks.sum(sums), **self.ranks.max(maxima)}
        if metrics.pop("not_finite"):
            raise RunError(
                f"policy version {self.policy_version}: the policy's log-probabilities are not finite, its weights have "
                "diverged; go on from the last checkpoint with a lower learner.learning_rate"
            )
        if "correction_weight_square" in metrics:
            metrics["effective_share"] = effective_share(metrics["correction_weight"], metrics.pop("correction_weight_square"))
        return metrics

    def _optim_step(self, step: int, loss: float, *, has_tokens: bool) -> dict[str, float]:
        """Clip, step and clear the gradient; skip the update when it is not finite, and stop after a few in a row.

        has_tokens: False when nothing of the mini-batch counted: Adam's momentum alone shall not move the policy.
        """
        norm = whole(torch.nn.utils.clip_grad_norm_(self.policy.parameters(), MAX_GRAD_NORM)).item()
        rate = learning_rate(self.config, self.num_updates)
        skipped = not (math.isfinite(norm) and math.isfinite(loss))
        if skipped:
            self._skipped_in_a_row += 1
        elif has_tokens:
            self._skipped_in_a_row = 0
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            self.num_updates += 1
        self.optimizer.zero_grad(set_to_none=True)
        if self._skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise RunError(
                f"step {step}: loss {loss} and gradient norm {norm} for {MAX_SKIPPED_IN_A_ROW} updates in a row; "
                "lower learner.learning_rate"
            )
        return {"grad_norm": norm, "learning_rate": rate, "skipped_updates": float(skipped)}

    def _mean_mismatch(self, batch: TrainBatch, old_logprobs: list[list[torch.Tensor]]) -> float:
        total, num_tokens = 0.0, 0
        for minibatch, of_minibatch in zip(batch.minibatches, old_logprobs, strict=True):
            for micro, old_BT in zip(self._microbatches(minibatch), of_minibatch, strict=True):
                checked_BT = micro.fresh_BT if self._may_be_stale else micro.loss_mask_BT
                total += (old_BT - micro.rollout_logprobs_BT).abs()[checked_BT].sum().item()
                num_tokens += int(checked_BT.sum())
        sums = self.ranks.sum({"total": total, "num_tokens": float(num_tokens)})
        return sums["total"] / max(1, sums["num_tokens"])

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
        old_logprobs = []
        for index, micro in enumerate(self._microbatches(minibatch)):
            old_BT, entropies_BT = self._logprobs(self.policy, micro)
            self.tokens.add(minibatch.samples[self.ranks.rank][index], micro, old_BT, entropies_BT)
            old_logprobs.append(old_BT)
        return old_logprobs

    @torch.no_grad()
    def _ref_logprobs(self, micro: MicroBatch) -> torch.Tensor:
        if self.reference is not None:
            return self._logprobs(self.reference, micro)[0]
        with adapter_off(self.model):
            return self._logprobs(self.policy, micro)[0]

    def _microbatches(self, minibatch: MiniBatch) -> Iterator[MicroBatch]:
        for micro in minibatch.microbatches[self.ranks.rank]:
            yield MicroBatch(**{name: getattr(micro, name).to(self.device) for name in MicroBatch.__slots__})

    def _logprobs(self, model: nn.Module, micro: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """(log-probabilities, entropies) of the labels, [B, T] each, 0.0 where the loss mask is False."""
        compute_dtype = getattr(torch, self.config.dtype)
        entropy_gradient = self.config.algorithm.entropy_coef > 0 and torch.is_grad_enabled()
        # The cache would keep a cast of every gathered weight until the forward pass has ended: seen, all of the model on each
        # rank (20 layers of 2,000 x 2,000 on two: 156 MiB, its size in bfloat16), however finely FSDP shards it.
        cast = torch.autocast(
            self.device.type,
            dtype=compute_dtype,
            enabled=compute_dtype != torch.float32,
            cache_enabled=self.ranks.num_ranks == 1,
        )
        with cast:
            logprobs_BT, entropies_BT = model(micro, self.config.rollout.temperature, entropy_gradient)
        return logprobs_BT, entropies_BT


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
