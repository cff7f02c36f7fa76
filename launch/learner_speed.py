"""What `launch.bench_learner` measures: seconds of the parts of an update, the model's FLOPs, and the machine's matmul peak.

Apart from the command, so that torch is imported after the learner's environment variables are set.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from r1.batching import MiniBatch, make_train_batch
from r1.learner import Learner
from r1.types import Completion, Prompt, ScoredGroup
from tasks.base import Problem

PARTS = ("forward: body", "forward: log-probabilities", "loss + backward", "clip + optimizer step", "publish weights")
PEAK_SECONDS = 0.5
"""Time for each shape of the matmul peak; at least three products."""


class Clock:
    """Adds up seconds by name; on a GPU it waits for the work that was given before it reads the time."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        start = self.now()
        yield
        self.seconds[name] += self.now() - start


def random_minibatch(
    vocabulary: int, rows: int, prompt_tokens: int, completion_tokens: int, max_tokens_per_microbatch: int
) -> MiniBatch:
    """One group of `rows` completions of one length, random tokens, advantages 1 and -1 in turn."""
    generator = torch.Generator().manual_seed(0)

    def random_tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(vocabulary, (count,), generator=generator).tolist())

    problem = Problem(problem_id="random", question="", reference={})
    prompt = Prompt(group_id=0, task="", problem=problem, text="", prefill="", token_ids=random_tokens(prompt_tokens))
    completions = tuple(
        Completion(
            group_id=0,
            sample_id=sample_id,
            token_ids=random_tokens(completion_tokens),
            rollout_logprobs=(0.0,) * completion_tokens,
            text="",
            finish_reason="stop",
            policy_version=0,
        )
        for sample_id in range(rows)
    )
    advantages = tuple(1.0 - 2.0 * (row % 2) for row in range(rows))
    group = ScoredGroup(prompt=prompt, completions=completions, scores=(), advantages=advantages)
    batch = make_train_batch(
        [group],
        step=1,
        policy_version=0,
        num_minibatches=1,
        max_tokens_per_microbatch=max_tokens_per_microbatch,
        max_completion_tokens=completion_tokens,
    )
    return batch.minibatches[0]


def measure_update(learner: Learner, minibatch: MiniBatch) -> dict[str, float]:
    """Run one update and one publish; return the seconds of each of PARTS.

    Hooks read the clock around the body and behind the head; what is left of forward and backward is the backward pass, with
    the loss, which is arithmetic on [B, T].
    """
    clock = Clock(learner.device)
    body_part, head_part, backward_part, step_part, publish_part = PARTS
    mark = 0.0

    def begin(*_: Any) -> None:
        nonlocal mark
        mark = clock.now()

    def end(part: str) -> None:
        clock.seconds[part] += clock.now() - mark
        begin()

    body = learner.model.base_model
    hooks = (
        body.register_forward_pre_hook(begin),
        body.register_forward_hook(lambda *_: end(body_part)),
        learner.policy.register_forward_hook(lambda *_: end(head_part)),
    )
    with clock.of("forward and backward"):
        metrics = learner._forward_backward(minibatch, None)
    for hook in hooks:
        hook.remove()
    clock.seconds[backward_part] = clock.seconds["forward and backward"] - clock.seconds[body_part] - clock.seconds[head_part]
    with clock.of(step_part):
        learner._optim_step(1, metrics["loss"], has_tokens=True)
    with clock.of(publish_part):
        learner.publish_weights()
    return {part: clock.seconds[part] for part in PARTS}


def model_flops(model: Any, lengths: Sequence[int], num_loss_tokens: int) -> float:
    """Floating-point operations that forward and backward of a dense model need, a multiply-add counting as two.

        6 N_body tokens + 6 N_head loss_tokens + 12 L D sum_rows T (T + 1) / 2

    N_body: the matrices of the layers; neither embeddings, which are looked up, nor the head. N_head = D_hidden x V: only the
    tokens that count in the loss go through it. Attention: Q K^T and P V are 2 x 2 D a pair of tokens, three times that with
    the backward pass, D = heads x head size; a token sees itself and what stands to its left.
    No credit for recomputation, element-wise work, the optimizer, or padding.

    lengths: [B] tokens of each row.
    """
    config = model.config.get_text_config()
    head = model.get_output_embeddings().weight
    looked_up = {id(p) for module in model.modules() if isinstance(module, torch.nn.Embedding) for p in module.parameters()}
    body = sum(p.numel() for p in model.parameters() if p.ndim == 2 and id(p) not in looked_up and p is not head)
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = config.num_attention_heads * head_size
    num_pairs = sum(length * (length + 1) / 2 for length in lengths)
    linear = 6 * body * sum(lengths) + 6 * head.numel() * num_loss_tokens
    return float(linear + 12 * config.num_hidden_layers * width * num_pairs)


@torch.no_grad()
def matmul_peak(model: Any, num_tokens: int, dtype: torch.dtype) -> float:
    """The most FLOP/s that one matrix product reaches on the model's device, with the shapes of its layers and its head."""
    clock = Clock(model.device)
    shapes = {tuple(p.shape) for p in model.parameters() if p.ndim == 2}
    best = 0.0
    for outputs, inputs in sorted(shapes):
        # No more rows of logits than the learner holds.
        rows = min(num_tokens, 1024) if outputs > 16 * inputs else num_tokens
        left = torch.randn(rows, inputs, device=model.device, dtype=dtype)
        right = torch.randn(outputs, inputs, device=model.device, dtype=dtype)
        out = left @ right.T
        begin, runs = clock.now(), 0
        while runs < 3 or clock.now() - begin < PEAK_SECONDS:
            start = clock.now()
            torch.mm(left, right.T, out=out)
            best = max(best, 2 * rows * inputs * outputs / (clock.now() - start))
            runs += 1
    return best
