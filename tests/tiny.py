"""The shipped tiny model, ready for tests: a configuration, prompts, and completions that are right by construction."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1.config import RunConfig, load_config
from r1.rollout.engine import EngineOptions
from r1.types import Completion, Prompt, PromptBatch, ScoredGroup
from tasks.arithmetic import addition

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "launch/models/tiny_base"


def tiny_config(*overrides: str) -> RunConfig:
    """The quickstart on the shipped model, by absolute path, with overrides."""
    return load_config(ROOT / "launch/configs/quickstart.toml", [f"model.path={MODEL}", *overrides])


def engine_options(temperature: float = 1.0, max_prompt_tokens: int = 64, max_completion_tokens: int = 32) -> EngineOptions:
    return EngineOptions(
        model_path=str(MODEL),
        dtype="float32",
        max_prompt_tokens=max_prompt_tokens,
        max_completion_tokens=max_completion_tokens,
        temperature=temperature,
        max_num_seqs=64,
    )


def prompt(question: str, group_id: int = 0) -> Prompt:
    token_ids = tuple(AutoTokenizer.from_pretrained(MODEL)(question).input_ids)
    return Prompt(group_id=group_id, task="arithmetic", problem=addition(1, 1), text=question, prefill="", token_ids=token_ids)


def prompt_batch(questions: list[str], group_size: int = 4, policy_version: int = 0, step: int = 1, seed: int = 0) -> PromptBatch:
    prompts = tuple(prompt(question, group_id) for group_id, question in enumerate(questions))
    return PromptBatch(step=step, prompts=prompts, group_size=group_size, policy_version=policy_version, seed=seed)


def load_tiny_model() -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()


@torch.no_grad()
def logprobs_of(model: torch.nn.Module, prompt_ids: tuple[int, ...], completion_ids: tuple[int, ...], temperature: float = 1.0):
    """Independent of the learner: one unpadded row, full logits."""
    logits = model(torch.tensor([prompt_ids + completion_ids])).logits[0, len(prompt_ids) - 1 : -1].double() / temperature
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(completion_ids)[:, None])[:, 0]


def mean_difference(model: torch.nn.Module, groups: list, temperature: float = 1.0) -> float:
    """Mean |model - rollout| log-probability over all tokens of some rollout groups."""
    differences = [
        (logprobs_of(model, group.prompt.token_ids, c.token_ids, temperature) - torch.tensor(c.rollout_logprobs)).abs()
        for group in groups
        for c in group.completions
    ]
    return torch.cat(differences).mean().item()


def scored_group(question: str, texts: list[str], advantages: list[float], group_id: int = 0) -> ScoredGroup:
    """Completions written by hand, with the log-probabilities that the shipped model gives them."""
    tokenizer, model = AutoTokenizer.from_pretrained(MODEL), load_tiny_model()
    rendered = prompt(question, group_id)
    completions = []
    for sample_id, text in enumerate(texts):
        token_ids = (*tokenizer(text).input_ids, tokenizer.eos_token_id)
        completions.append(
            Completion(
                group_id=group_id,
                sample_id=sample_id,
                token_ids=token_ids,
                rollout_logprobs=tuple(logprobs_of(model, rendered.token_ids, token_ids).tolist()),
                text=text,
                finish_reason="stop",
                policy_version=0,
            )
        )
    return ScoredGroup(prompt=rendered, completions=tuple(completions), scores=(), advantages=tuple(advantages))
