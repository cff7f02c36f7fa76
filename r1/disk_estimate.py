"""How much a run writes: its checkpoints, which are nearly all of it. Traces, metrics and curves come on top."""

import shutil
from pathlib import Path

from r1.checkpoint import FOLDER, KEEP_LAST, complete_checkpoints
from r1.config import RunConfig
from r1.errors import UserError
from r1.files import nearest_existing
from r1.memory_estimate import BYTES, FLOAT32, ModelShape, model_shape
from r1.sizes import size


def checkpoint_bytes(config: RunConfig, shape: ModelShape) -> int:
    """float32 weights and two moments of what is trained, a reference that moves, and the policy in the engine's dtype in hf/."""
    trained = shape.trained_parameters if config.learner.lora_rank else shape.num_parameters
    has_reference = config.algorithm.kl_coef > 0 and config.algorithm.reference_every > 0
    reference = FLOAT32 * shape.num_parameters if has_reference else 0
    return 3 * FLOAT32 * trained + BYTES[config.dtype] * shape.num_parameters + reference


def checkpoints_at_once(config: RunConfig) -> int:
    """The most that lie on the disk at a time: the last three and the best, and the next one, which is written beside them."""
    every = config.checkpoint.every or config.num_steps
    return min(-(-config.num_steps // every), KEEP_LAST + 2)


def check_disk(config: RunConfig, run_dir: Path) -> None:
    """Raise `UserError` where the checkpoints that are still to come do not fit beside what is there."""
    above = nearest_existing(run_dir)
    # What a run left half-written when its disk was full is removed by the next save.
    partial = [file.stat().st_size for file in (run_dir / FOLDER).glob(".partial-*/**/*") if file.is_file()]
    free = shutil.disk_usage(above).free + sum(partial)
    each, count = checkpoint_bytes(config, model_shape(config.model.path, config.learner.lora_rank)), checkpoints_at_once(config)
    wanted = each * max(1, count - len(complete_checkpoints(run_dir)))
    if wanted > free:
        raise UserError(
            f"option 'run_dir': {str(above)!r} has {size(free)} free, this run wants about {size(wanted)} for its checkpoints "
            f"({count} at a time, {size(each)} each): make room, choose another folder, or raise checkpoint.every (0: only one)"
        )
