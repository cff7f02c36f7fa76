"""What a learner keeps on disk to go on exactly: written beside the training, each rank its own part.

    FOLDER/learner/   torch.distributed.checkpoint: weights, optimizer moments, counters, random states
    FOLDER/hf/        the policy as Hugging Face files

Tensors lie under the name of their parameter, cut up as the ranks held them; any number of ranks can read them back.
"""

import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException  # a BaseException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from r1.errors import RunError, UserError
from r1.files import flush_folder
from r1.hf_export import export, full_state
from r1.ranks import Ranks

# A single rank saves without a process group, on purpose.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")

_FOLDER = "learner"
_OPTIMIZER_STATE = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps for each parameter that ever had a gradient: its update count, and two moments of its shape."""


class StateWriter:
    """Writes a learner's state and export while it goes on learning: both are copied first, and files are a thread's work.

    One at a time: `finish` what was started before the next `start`. The copy takes as much CPU memory as the rank's
    weights and moments, and the export that of the whole policy in float32 on the first rank.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        # The thread's messages to the other ranks must not meet those of an update.
        self._group = ranks.new_cpu_group()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="export")
        self._pending: list[Future[Any]] = []

    def start(
        self, folder: Path, tensors: Mapping[str, torch.Tensor], model: Any, dtype: torch.dtype, tokenizer_path: str
    ) -> None:
        """Copy everything and begin to write it into `folder`, which exists. All ranks call it.

        tensors: see `learner_tensors`. model: exported in `dtype`, with the tokenizer of `tokenizer_path`.
        """
        assert not self._pending, "the last state is still being written"
        weights = full_state(model, self._ranks)
        saved = async_save(
            dict(tensors), checkpoint_id=folder / _FOLDER, process_group=self._group, no_dist=self._ranks.num_ranks == 1
        )
        assert isinstance(saved, Future)
        self._pending.append(saved)
        if self._ranks.is_first:
            self._pending.append(self._thread.submit(_export, model, weights, dtype, tokenizer_path, folder / "hf"))

    def finish(self, *, wait: bool) -> bool:
        """Whether all is written and flushed to disk on this rank; `RunError` if it cannot be. wait: until it is."""
        if not wait and not all(future.done() for future in self._pending):
            return False
        pending, self._pending = self._pending, []
        try:
            for future in pending:
                future.result()
        except (CheckpointException, OSError, SafetensorError) as error:
            raise RunError(f"cannot write the checkpoint: {_reason(error)}; is the disk full?") from error
        return True


def _export(model: Any, weights: Mapping[str, torch.Tensor], dtype: torch.dtype, tokenizer_path: str, folder: Path) -> None:
    export(model, weights, dtype, tokenizer_path, folder)
    flush_folder(folder)


def learner_tensors(
    policy: nn.Module,
    reference: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    ranks: Ranks,
    counters: Mapping[str, int],
) -> dict[str, torch.Tensor]:
    """Everything that a learner needs to go on, by name: the tensors themselves where they exist, no copies."""
    tensors = _of_module("policy", policy)
    if reference is not None:
        tensors |= _of_module("reference", reference)
    for name, parameter in policy.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{name}.{key}"] = value
    tensors |= {f"counters.{name}": torch.tensor(value) for name, value in counters.items()}
    tensors[_rng_name(ranks)] = torch.get_rng_state()
    return tensors


def load_learner_tensors(
    folder: Path,
    policy: nn.Module,
    reference: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    ranks: Ranks,
    counters: Mapping[str, int],
) -> dict[str, int]:
    """Put what was written back into the modules and the optimizer, each rank its own part; returns the counters.

    Raises `UserError` when the checkpoint is of another model, or cannot be read: nothing of use is in the modules then.
    """
    known = _saved_shapes(folder)
    tensors = _of_module("policy", policy)
    others = [name for name, tensor in tensors.items() if known.get(name) != tuple(tensor.shape)]
    if others:
        raise UserError(
            f"option '--resume': {str(folder)!r} does not hold {len(others)} of {len(tensors)} weights in their shape, e.g. "
            f"{others[0].removeprefix('policy.model.')!r}; go on with the model options of the run that wrote it"
        )
    # A run may begin to use a reference policy, or cease to; one that never changes is loaded from model.path.
    if reference is not None:
        tensors |= {name: tensor for name, tensor in _of_module("reference", reference).items() if name in known}
    for name, parameter in policy.named_parameters():
        if f"optimizer.{name}.step" in known:
            optimizer.state[parameter] = _empty_state(parameter, optimizer)
            tensors |= {f"optimizer.{name}.{key}": optimizer.state[parameter][key] for key in _OPTIMIZER_STATE}
    restored = {name: torch.tensor(0) for name in counters}
    tensors |= {f"counters.{name}": tensor for name, tensor in restored.items()}
    # A rank that the saving run did not have keeps its fresh random state.
    rng = {name: torch.get_rng_state() for name in [_rng_name(ranks)] if name in known}
    try:
        load(tensors | rng, checkpoint_id=folder / _FOLDER, no_dist=ranks.num_ranks == 1)
    except CheckpointException as error:
        raise _unreadable(folder, error) from error
    for state in rng.values():
        torch.set_rng_state(state)
    return {name: int(tensor) for name, tensor in restored.items()}


def _saved_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    damage = (OSError, EOFError, UnpicklingError, ValueError, ImportError, AttributeError, LookupError, TypeError)
    try:
        metadata = FileSystemReader(folder / _FOLDER).read_metadata().state_dict_metadata
    except damage as error:  # what unpickling any bytes may raise
        raise _unreadable(folder, error) from error
    return {name: tuple(one.size) for name, one in metadata.items() if isinstance(one, TensorStorageMetadata)}


def _unreadable(folder: Path, error: BaseException) -> UserError:
    return UserError(f"option '--resume': {str(folder)!r} cannot be read ({_reason(error)}); remove that folder")


def _reason(error: BaseException) -> str:
    """What the first failed rank met: a CheckpointException's own text is a page of tracebacks."""
    if isinstance(error, CheckpointException):
        error = next(iter(error.failures.values()))[0]
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


def _of_module(prefix: str, module: nn.Module) -> dict[str, torch.Tensor]:
    """What of a module is not in model.path: all parameters, or an adapter's alone, and persistent buffers.

    Detached; a tied weight once, under its first name.
    """
    state = module.state_dict(keep_vars=True)
    is_adapted = any(".lora_" in name for name in state)
    seen: set[int] = set()
    tensors = {}
    for name, tensor in state.items():
        is_frozen_base = is_adapted and isinstance(tensor, nn.Parameter) and ".lora_" not in name
        if id(tensor) not in seen and not is_frozen_base:
            seen.add(id(tensor))
            tensors[f"{prefix}.{name}"] = tensor.detach()
    return tensors


def _empty_state(parameter: nn.Parameter, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    # Where AdamW itself puts the count: on the parameter's device for its fused kernel, else on the CPU.
    device = parameter.device if optimizer.defaults.get("fused") else "cpu"
    step = torch.zeros((), device=device)
    return {"step": step, "exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}


def _rng_name(ranks: Ranks) -> str:
    return f"rng.rank_{ranks.rank}"
