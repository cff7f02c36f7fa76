"""Everything about a configuration that can be refused before a process is started or a file is written."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1.algorithm import ADVANTAGES, AGGREGATIONS, CORRECTIONS, KL_ESTIMATORS, LOSSES
from r1.config import RunConfig
from r1.errors import UserError
from r1.model_files import open_model
from r1.problem_sets import ProblemSets, load_problem_sets
from r1.prompts import get_template
from r1.scoring_rules import Rewarding
from r1.task_options import known_name, task_parts
from r1.tracker_backends import TRACKERS
from tasks.base import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What a run is made of, checked."""

    tasks: Mapping[str, Task]
    """By name, task.name first; with the rewards and the correctness of this run."""
    problems: ProblemSets

    @property
    def task(self) -> Task:
        """The one of task.name."""
        return next(iter(self.tasks.values()))

    def rewarding_by_task(self) -> dict[str, Rewarding]:
        """What the reward pool needs to know of each task."""
        return {name: Rewarding(weights=task.rewards, correctness=task.correctness) for name, task in self.tasks.items()}


def prepare(config: RunConfig) -> Prepared:
    """Check names, model folder and context length, and load the problems; raises `UserError`."""
    algorithm = config.algorithm
    known_name("algorithm.advantage", algorithm.advantage, ADVANTAGES)
    known_name("algorithm.loss", algorithm.loss, LOSSES)
    known_name("algorithm.aggregation", algorithm.aggregation, AGGREGATIONS)
    known_name("algorithm.kl_estimator", algorithm.kl_estimator, KL_ESTIMATORS)
    correction, _, cap = algorithm.correction.partition(":")
    known_name("algorithm.correction", correction, CORRECTIONS)
    if cap and float(cap) < 1:
        raise UserError(f"option 'algorithm.correction': the cap must be at least 1, got {cap}; try {correction}:2")
    get_template(config.task.template)
    check_engine(config.rollout.engine)
    _check_trackers(config.logging.trackers)
    parts = task_parts(config.task)
    tokenizer = load_tokenizer(config)
    problems = load_problem_sets(config, parts, tokenizer)
    return Prepared(tasks={part.task.name: part.task for part in parts}, problems=problems)


def check_engine(name: str) -> None:
    """Raise `UserError` unless the engine's module is there; it is not imported, since that takes seconds."""
    module, colon, _ = name.partition(":")
    if not colon or not _is_module(module):
        raise UserError(f"option 'rollout.engine': no module {module!r}; it must look like package.module:Class")


def load_tokenizer(config: RunConfig) -> Any:
    """Check that the model can be loaded and is long enough, and return its tokenizer."""
    model_config, tokenizer = open_model(config.model.path)
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


def _check_trackers(names: Sequence[str]) -> None:
    for name in names:
        known_name("logging.trackers", name, TRACKERS)
        tracker = TRACKERS[name]
        if not _is_module(tracker.package):
            raise UserError(
                f"option 'logging.trackers': the package {tracker.package} of {name!r} is not installed; "
                f"pip install 'r1[{name}]', or leave {name!r} out"
            )
        tracker.check()


def _is_module(name: str) -> bool:
    """Whether a module can be found, without importing it."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a parent that is no package; an empty name
        return False
    # Python takes any folder of that name for a package without an origin: the `wandb` that wandb writes, for one.
    return spec is not None and spec.origin is not None
