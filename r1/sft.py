"""Next-token training of a causal language model: cold start, distillation, the tiny base model."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from r1.errors import RunError

IGNORED_LABEL = -100


@dataclass(frozen=True, kw_only=True, slots=True)
class SftExample:
    """One prompt with the completion to imitate.

    >>> SftExample(prompt_token_ids=(5, 6), completion_token_ids=(7, 1)).completion_token_ids
    (7, 1)
    """

    prompt_token_ids: tuple[int, ...]
    """Read, never learnt; at least one token, since the first token of a text has nothing before it to predict it."""
    completion_token_ids: tuple[int, ...]
    """Learnt, the end-of-sequence token included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SftBatch:
    """Examples padded to one width: B examples, T tokens."""

    token_ids_BT: Tensor
    """[B, T] padded at the right."""
    labels_BT: Tensor
    """[B, T] already shifted: the token that follows position t, or IGNORED_LABEL where it carries no loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SftOptions:
    """How to train.

    >>> SftOptions(num_steps=100, learning_rate=3e-3, num_warmup_steps=10).learning_rate_at(10)
    0.003
    """

    num_steps: int
    learning_rate: float
    """The peak, reached after the warm-up; a cosine then falls to zero after the last step."""
    num_warmup_steps: int = 0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0: linear up, then half a cosine down."""
        if step < self.num_warmup_steps:
            return self.learning_rate * (step + 1) / (self.num_warmup_steps + 1)
        decayed = (step - self.num_warmup_steps) / (self.num_steps - self.num_warmup_steps)
        return self.learning_rate * (1.0 + math.cos(math.pi * decayed)) / 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SftStep:
    """What one optimizer step did."""

    step: int
    """1 for the first."""
    loss: float
    """Mean negative log-probability of a learnt token, in nats, before the update."""
    grad_norm: float
    """Before clipping."""
    learning_rate: float
    num_loss_tokens: int


def pad_examples(examples: Sequence[SftExample], pad_token_id: int) -> SftBatch:
    """Shift and pad examples into one batch; only completion tokens become labels."""
    width = max(len(example.prompt_token_ids) + len(example.completion_token_ids) for example in examples) - 1
    token_ids_BT = torch.full((len(examples), width), pad_token_id)
    labels_BT = torch.full((len(examples), width), IGNORED_LABEL)
    for row, example in enumerate(examples):
        assert example.prompt_token_ids, "an example needs a prompt token to predict its first completion token from"
        token_ids = torch.tensor(example.prompt_token_ids + example.completion_token_ids)
        first, last = len(example.prompt_token_ids) - 1, len(token_ids) - 1
        token_ids_BT[row, :last] = token_ids[:-1]
        labels_BT[row, first:last] = token_ids[first + 1 :]
    return SftBatch(token_ids_BT=token_ids_BT, labels_BT=labels_BT)


def next_token_loss(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """-(1/N) sum of log softmax(logits)[label] over the N labels that are not ignored; a scalar, in fp32."""
    if logits_BTV.shape[:2] != labels_BT.shape:
        raise ValueError(f"logits {tuple(logits_BTV.shape)} and labels {tuple(labels_BT.shape)} do not agree in B and T")
    return F.cross_entropy(logits_BTV.flatten(0, 1).float(), labels_BT.flatten(), ignore_index=IGNORED_LABEL)


def train_on_next_tokens(model: nn.Module, batches: Iterable[SftBatch], options: SftOptions) -> Iterator[SftStep]:
    """Train a Hugging Face causal model with AdamW, one batch an optimizer step, and yield a report of each.

    Consumes `options.num_steps` batches, fewer when they run out, and works only while it is iterated. Padding at
    the right needs no attention mask: in a causal model no learnt position can see it.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    device = next(model.parameters()).device
    model.train()
    for step, batch in zip(range(options.num_steps), batches, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate_at(step)
        labels_BT = batch.labels_BT.to(device)
        loss = next_token_loss(model(input_ids=batch.token_ids_BT.to(device), use_cache=False).logits, labels_BT)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        grad_norm = float(nn.utils.clip_grad_norm_(model.parameters(), options.max_grad_norm))
        if not math.isfinite(grad_norm):
            raise RunError(f"next-token training: gradient norm {grad_norm} in step {step + 1}; lower the learning rate")
        optimizer.step()
        yield SftStep(
            step=step + 1,
            loss=loss.item(),
            grad_norm=grad_norm,
            learning_rate=options.learning_rate_at(step),
            num_loss_tokens=int((labels_BT != IGNORED_LABEL).sum()),
        )
