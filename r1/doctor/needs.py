"""What a configuration asks of the machines: sizes by the estimates of --dry-run, and the places it names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1.config import OtherTask, RunConfig, TaskConfig
from r1.doctor.versions import PACKAGES
from r1.storage import is_url, scratch_folder

# torch and transformers come with the estimates, which are imported where a size is asked for.

PROCESS_BYTES = 3 * 2**29
"""Of an engine or a learner rank before it holds a weight: Python, torch and vLLM (1 to 2 GiB, r1/memory_estimate.py)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """Sizes in bytes."""

    dtype: str
    num_engines: int
    """Processes: rollout workers x tensor-parallel size."""
    num_ranks: int
    engine: float
    """One engine's process on a CPU."""
    rank: float
    """One learner rank's process on a CPU, at its peak."""
    gpu: float
    """The smallest GPU that holds a rank or an engine."""
    weights_file: float
    """What a weight sync writes into /dev/shm of each node."""
    checkpoint: float
    num_checkpoints: int
    """The most at a time."""

    @property
    def memory(self) -> float:
        """Of all processes of a run on CPUs."""
        return self.num_engines * self.engine + self.num_ranks * self.rank

    @property
    def disk(self) -> float:
        return self.num_checkpoints * self.checkpoint


def needs_of(config: RunConfig) -> Needs:
    """Raises `UserError` for a model that cannot be opened."""
    from r1.disk_estimate import checkpoint_bytes, checkpoints_at_once
    from r1.dry_run import smallest_gpu
    from r1.memory_estimate import BYTES, engine_memory, learner_memory, model_shape
    from r1.model_files import open_model
    from r1.rollout.kv_cache import CPU_LIMIT_BYTES

    open_model(config.model.path)
    shape = model_shape(config.model.path, config.learner.lora_rank)
    learner, engine = learner_memory(shape, config), engine_memory(shape, config)
    return Needs(
        dtype=config.dtype,
        num_engines=config.rollout.num_workers * config.rollout.tensor_parallel_size,
        num_ranks=config.learner.num_ranks,
        engine=PROCESS_BYTES + engine.weights + engine.working + min(engine.cache_wanted, CPU_LIMIT_BYTES),
        rank=PROCESS_BYTES + learner.peak,
        gpu=smallest_gpu(learner, engine, colocated=config.rollout.placement == "colocated"),
        weights_file=BYTES[config.dtype] * shape.num_parameters,
        checkpoint=checkpoint_bytes(config, shape),
        num_checkpoints=checkpoints_at_once(config),
    )


def request_for(config: RunConfig | None, run_dir: Path | None = None) -> dict[str, Any]:
    """What each machine is asked about (`r1.doctor.facts.gather`). run_dir: where the run writes, if it is known already."""
    if config is None:
        return {"packages": PACKAGES}
    from tasks.rows import is_file

    task = config.task
    named: dict[str, TaskConfig | OtherTask] = {task.name: task, **task.mix}
    places = [place for other in named.values() for place in (other.path, other.heldout_path) if place]
    rewards = [name.rpartition(":")[0] for name in task.rewards or ()]
    where = str(run_dir or config.run_dir or f"runs/{config.name}")
    return {
        "packages": PACKAGES,
        "model": config.model.path,
        "files": [place for place in places if is_file(place)],
        "data_sets": _data_sets(named, [place for place in places if not is_file(place)]),
        "reward_files": [path for path in rewards if path],
        # What goes to a URL is written on this machine first.
        "run_dir": str(scratch_folder(where) if is_url(where) else Path(where).absolute()),
    }


def _data_sets(named: Mapping[str, TaskConfig | OtherTask], places: Sequence[str]) -> list[str]:
    """Names on the hub: those that are given, and those of tasks that are given none."""
    from tasks import TASKS
    from tasks.rows import split_hub_name

    given = [split_hub_name(place)[0] for place in places]
    tasks = [TASKS.get(name.partition(":")[0]) for name, options in named.items() if _is_published(options)]
    return list(dict.fromkeys([*given, *(task.hub for task in tasks if task and task.hub)]))


def _is_published(options: TaskConfig | OtherTask) -> bool:
    """Whether problems of the task's own data set are read: a task that is only evaluated reads no training problems."""
    is_only_evaluated = isinstance(options, OtherTask) and options.weight == 0
    return not (options.path or (is_only_evaluated and options.heldout_path))
