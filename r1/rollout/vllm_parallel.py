"""Several processes that share one engine's weights (tensor parallelism): how they are started, end, and hold their share.

vLLM's workers are children of the process that the engine is in, on the GPUs that Ray gave it (executor "mp"). In a placement
group vLLM would rather start Ray actors of its own, which nobody here knows and kills.
"""

import ctypes
import multiprocessing.util
import os
import signal
from collections.abc import Sequence
from multiprocessing.synchronize import SemLock
from pathlib import Path
from typing import Any

import torch
from vllm import LLM
from vllm.model_executor.layers.linear import ColumnParallelLinear, LinearBase, QKVParallelLinear, RowParallelLinear
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

from r1.rollout.engine import EngineOptions

PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""


def parallel_options(options: EngineOptions) -> dict[str, Any]:
    """vLLM's options for engines of several processes; none for one, which computes in the caller's process."""
    if options.tensor_parallel_size == 1:
        return {}
    return {"tensor_parallel_size": options.tensor_parallel_size, "distributed_executor_backend": "mp"}


def leave_nothing_behind(llm: LLM) -> None:
    """Called once all processes are up: whatever ends this one, its workers end as well, and no shared file stays."""
    llm.collective_rpc(_end_with_parent)
    _unlink_shared_files()


def _end_with_parent(worker: Any) -> None:
    """In each of vLLM's workers: the kernel shall kill it when the engine's process dies, however that dies.

    vLLM notices by itself only between two calls, after 5 to 8 s here; a worker that is stopped or waits for its siblings
    within NCCL would stay for ever, with its GPU.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() == 1:  # it died just before
        os.kill(os.getpid(), signal.SIGKILL)
    _unlink_shared_files()


def _unlink_shared_files() -> None:
    """Remove the names of what this process shares in /dev/shm; what all have mapped lives as long as they do.

    Python removes them at the end of a process, which one that is killed never reaches, and Ray ends Python's resource tracker
    with it: 25 to 250 MB a file were left. A process that does end by itself complains that they are gone, to its log.
    """
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "/dev/shm/psm_" in line and not line.endswith("(deleted)"):
            Path(line.split(maxsplit=5)[5]).unlink(missing_ok=True)
    # Locks, which show no name there: done now is what Python would do at its end.
    for finalizer in list(multiprocessing.util._finalizer_registry.values()):  # type: ignore[attr-defined]
        if finalizer._callback is SemLock._cleanup:  # type: ignore[attr-defined]
            finalizer()


@torch.no_grad()
def held_share(layer: torch.nn.Module, parts: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """What this process holds of a layer whose published weights are `parts`, each [rows, columns]; None where unknown.

    A fused layer is its parts' shares in a row: each part is cut, not the row. As vLLM's weight loaders cut them:
    row-parallel layers by columns, column-parallel ones by rows, q, k and v by whole heads (k and v of fewer heads than
    processes are held several times), embeddings by rows of the vocabulary.
    """
    whole = torch.cat(list(parts)) if len(parts) > 1 else parts[0]
    if getattr(layer, "tp_size", 1) == 1:
        return whole
    if isinstance(layer, VocabParallelEmbedding):
        held = layer.shard_indices
        rows: torch.Tensor = whole[held.org_vocab_start_index : held.org_vocab_end_index]
        return rows
    if not isinstance(layer, LinearBase):
        return None
    rank: int = layer.tp_rank
    size: int = layer.tp_size
    if isinstance(layer, RowParallelLinear):
        return whole.tensor_split(size, dim=1)[rank]
    if isinstance(layer, QKVParallelLinear):
        num_rows = [layer.total_num_heads * layer.head_size]
        num_rows += [layer.total_num_kv_heads * layer.head_size, layer.total_num_kv_heads * layer.v_head_size]
        if sum(num_rows) != len(whole):
            return None
        q, k, v = torch.split(whole, num_rows)
        num_kv_shares, kv_rank = size // layer.num_kv_head_replicas, rank // layer.num_kv_head_replicas
        return torch.cat([q.chunk(size)[rank], k.chunk(num_kv_shares)[kv_rank], v.chunk(num_kv_shares)[kv_rank]])
    if isinstance(layer, ColumnParallelLinear):
        # Files of some families hold the parts of a fused layer in one tensor already.
        sizes = getattr(layer, "output_sizes", None) or [layer.output_size]
        if sum(sizes) != len(whole):
            return None
        return torch.cat([part.chunk(size)[rank] for part in torch.split(whole, list(sizes))])
    return whole
