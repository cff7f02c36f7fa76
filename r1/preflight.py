"""Everything about a configuration that can be refused before a process is started or a file is written."""

import difflib
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from r1.algorithm import ADVANTAGES, AGGREGATIONS, CORRECTIONS, KL_ESTIMATORS, LOSSES
from r1.config import RunConfig, TaskConfig
from r1.errors import UserError
from r1.prompt_stream import PromptStream, make_prompt_stream
from r1.prompts import get_template
from r1.seeds import derive_seed
from rewards import REWARDS
from tasks import TASKS
from tasks.base import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What a run is made of, checked."""

    task: Task
    """With the rewards and the correctness of this run, whether they are its own or the configuration's."""
    train: PromptStream
    heldout: PromptStream | None
    """None when evaluation is off."""


def prepare(config: RunConfig) -> Prepared:
    """Check names, model folder and context length, and load the problems; raises `UserError`."""
    algorithm = config.algorithm
    _known("algorithm.advantage", algorithm.advantage, ADVANTAGES)
    _known("algorithm.loss", algorithm.loss, LOSSES)
    _known("algorithm.aggregation", algorithm.aggregation, AGGREGATIONS)
    _known("algorithm.kl_estimator", algorithm.kl_estimator, KL_ESTIMATORS)
    _known("algorithm.correction", algorithm.correction, CORRECTIONS)
    _known("task.name", config.task.name, TASKS)
    get_template(config.task.template)
    engine_module = config.rollout.engine.partition(":")[0]
    if ":" not in config.rollout.engine or not _is_module(engine_module):
        raise UserError(f"option 'rollout.engine': no module {engine_module!r}; it must look like package.module:Class")
    if config.logging.wandb and not _is_module("wandb"):
        raise UserError("option 'logging.wandb': the package wandb is not installed; pip install wandb, or set it to false")
    task = rewarded_as_configured(TASKS[config.task.name], config.task)
    tokenizer = load_tokenizer(config)
    train = _stream(config, task, tokenizer, "train", config.seed)
    heldout = (
        _stream(config, task, tokenizer, "heldout", derive_seed(config.seed, "heldout")) if config.evaluate.num_problems else None
    )
    return Prepared(task=task, train=train, heldout=heldout)


def rewarded_as_configured(task: Task, options: TaskConfig) -> Task:
    """Return the task with the rewards and the correctness that the configuration sets, checked.

    >>> options = TaskConfig(name="gsm8k", rewards={"math_answer": 1.0, "tag_count": 0.2})
    >>> rewarded_as_configured(TASKS["gsm8k"], options).rewards
    {'math_answer': 1.0, 'tag_count': 0.2}
    """
    rewards = options.rewards or task.rewards
    for name in rewards:
        path, colon, _ = name.rpartition(":")
        if not colon:
            _known("task.rewards", name, REWARDS)
        elif not Path(path).is_file():
            raise UserError(f"option 'task.rewards': {name!r}: no file {path!r}; give path/to/file.py:function")
    correctness = options.correctness or task.correctness
    if correctness not in rewards:
        whose = "" if options.correctness else ", the task's own,"
        raise UserError(
            f"option 'task.correctness' must be one of the rewards {', '.join(rewards)}: {correctness!r}{whose} is not; "
            f"pass task.correctness={next(iter(rewards))}, say, or add it to task.rewards"
        )
    return replace(task, rewards=rewards, correctness=correctness)


def load_tokenizer(config: RunConfig) -> Any:
    """Check that the model can be loaded and is long enough, and return its tokenizer."""
    path = config.model.path
    folder = Path(path)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"option 'model.path': {path!r} has no config.json; give a folder with Hugging Face files")
        if not any(folder.glob("*.safetensors")):
            raise UserError(
                f"option 'model.path': {path!r} has no weights (*.safetensors); save the model there with save_pretrained"
            )
    elif folder.exists() or path.startswith((".", "/", "~", "models/")) or path.count("/") > 1:
        fetch = ", or fetch it: python -m launch.get_smollm2" if "SmolLM2" in path else ""
        raise UserError(
            f"option 'model.path': {path!r} is not a folder; give a folder with Hugging Face files or a hub name{fetch}"
        )
    try:
        model_config = AutoConfig.from_pretrained(path)
        tokenizer = AutoTokenizer.from_pretrained(path)
    except Exception as error:  # transformers passes on whatever its parsers meet in a broken file
        raise UserError(
            f"option 'model.path': cannot load {path!r} ({_first_line(error)}); "
            "give a folder with Hugging Face files or a hub name"
        ) from error
    num_heads = getattr(model_config.get_text_config(), "num_attention_heads", None)
    tensor_parallel_size = config.rollout.tensor_parallel_size
    if num_heads and num_heads % tensor_parallel_size:
        sizes = ", ".join(str(size) for size in range(1, num_heads + 1) if num_heads % size == 0)
        raise UserError(
            f"rollout.tensor_parallel_size must divide the model's {num_heads} attention heads, got {tensor_parallel_size}; "
            f"use one of {sizes}"
        )
    context = getattr(model_config.get_text_config(), "max_position_embeddings", None)
    wanted = config.rollout.max_prompt_tokens + config.rollout.max_completion_tokens
    if context and wanted > context:
        room = context - config.rollout.max_prompt_tokens
        remedy = f"lower max_completion_tokens to at most {room}" if room > 0 else f"lower max_prompt_tokens below {context}"
        raise UserError(
            "rollout.max_prompt_tokens + rollout.max_completion_tokens must fit the model's context: "
            f"{wanted} > {context}; {remedy}"
        )
    return tokenizer


def _stream(config: RunConfig, task: Task, tokenizer: Any, split: Any, seed: int) -> PromptStream:
    try:
        problems = list(task.load(split, seed, config.task.path, config.task.heldout_path))
    except (ValueError, OSError) as error:  # what a task says of a bad file or name; a file that may not be read
        raise UserError(f"{error}" if isinstance(error, ValueError) else f"option 'task.path': {error}") from error
    return make_prompt_stream(
        problems,
        task,
        get_template(config.task.template),
        tokenizer,
        max_prompt_tokens=config.rollout.max_prompt_tokens,
        seed=seed,
    )


def _known(option: str, name: str, known: Iterable[str]) -> None:
    known = list(known)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(known)}"
        raise UserError(f"option {option!r}: no {name!r} here; {remedy}")


def _is_module(name: str) -> bool:
    """Whether a module can be found, without importing it."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # a parent that is no package; an empty name
        return False


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
