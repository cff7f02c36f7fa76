"""What one machine says of itself: dicts of builtins, gathered here and judged elsewhere (r1/doctor/checks.py).

On a cluster these functions travel to the nodes by value, where there may be nothing of r1: they import the standard library,
psutil where it is there, and reach.py with tasks/hub.py, which do no more and go with them.
"""

import contextlib
import hashlib
import importlib.util
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from r1.doctor.reach import asks_for_token, data_sets_here, model_here, why_storage_fails

OURS = ("r1", "rewards", "tasks", "launch")
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
DASHBOARD_PORT = 8265
RAY_PORTS = (6379, DASHBOARD_PORT)
"""Where `ray start --head` listens: the cluster's address, and the dashboard with its job server."""
RAY_WORDS = ("gcs_server", "ray-dashboard", "ray/dashboard", "ray::")
"""In the command line of a process of Ray's that listens there."""
NVIDIA_SMI_LIMIT_S = 10


def gather(request: Mapping[str, Any]) -> dict[str, Any]:
    """Everything about this machine.

    request: what the run wants to find here (r1/doctor/needs.py): packages, and perhaps model, files, data_sets, reward_files,
        run_dir, token, storage (a URL, and the name of what the driver has left there).
    """
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "packages": {name: _version(name) for name in request["packages"]},
        "origins": {name: _origins(name) for name in OURS},
        "code": _code_digest(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu_flags": _cpu_flags(),
        **_gpus(),
        **_memory(),
        "shm": _usage("/dev/shm"),
        "disk": _disk(request.get("run_dir") or "runs"),
        "ray_disk": _usage(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()),
        "open_files": _open_files(),
        "ports": {port: _listeners(port) for port in RAY_PORTS},
        "dashboard_asks_token": _dashboard_asks_token(),
        "model": model_here(request["model"]) if request.get("model") else None,
        "files": {path: os.access(os.path.expanduser(path), os.R_OK) for path in request.get("files", ())},
        "data_sets": data_sets_here(request.get("data_sets", ())),
        "reward_files": {path: os.access(path, os.R_OK) for path in request.get("reward_files", ())},
        "storage": _storage(*request["storage"]) if request.get("storage") else None,
        "token": _read(request["token"]) if request.get("token") else None,
    }


class Probe:
    """What a node runs to answer."""

    def facts(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return gather(request)

    def clock(self) -> float:
        return time.time()


def _open_files() -> int:
    """How many a process of Ray's may have open: it raises the soft limit to the hard one, to 65,536 at most."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _origins(name: str) -> list[str]:
    """The folders that hold a package of that name, the one that is imported first."""
    spec = importlib.util.find_spec(name)
    found = [Path(spec.origin).parent.parent] if spec is not None and spec.origin else []
    for entry in sys.path:
        folder = Path(entry or os.getcwd())
        if (folder / name / "__init__.py").is_file():
            found.append(folder)
    return list(dict.fromkeys(str(folder.resolve()) for folder in found))


def _code_digest() -> str | None:
    """One short word for all Python files of r1 and its neighbours: two nodes with the same one run the same code."""
    digest = hashlib.sha256()
    for name in OURS:
        origins = _origins(name)
        if not origins:
            return None
        folder = Path(origins[0])
        for path in sorted((folder / name).rglob("*.py")):
            digest.update(f"{path.relative_to(folder)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _cpu_flags() -> list[str] | None:
    """Those of CPU_FLAGS that the processor has; None where the system does not tell."""
    text = _read("/proc/cpuinfo")
    if text is None:
        return None
    has = {word for line in text.splitlines() if line.lower().startswith(("flags", "features")) for word in line.split()}
    return [flag for flag in CPU_FLAGS if flag in has]


def _gpus() -> dict[str, Any]:
    """gpus: those of nvidia-smi that CUDA_VISIBLE_DEVICES leaves; gpu_error: why it failed, where there is one."""
    if shutil.which("nvidia-smi") is None:
        return {"gpus": [], "gpu_error": None}
    query = ["nvidia-smi", "--query-gpu=index,uuid,name,driver_version,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=NVIDIA_SMI_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"gpus": [], "gpu_error": f"{type(error).__name__}: {error}"}
    if answer.returncode:
        lines = (answer.stdout + answer.stderr).strip().splitlines()
        return {"gpus": [], "gpu_error": lines[0] if lines else f"nvidia-smi ended with {answer.returncode}"}
    gpus = {}
    for line in answer.stdout.strip().splitlines():
        index, uuid, name, driver, total, free = line.split(", ")
        gpus[index, uuid] = {"name": name, "driver": driver, "total": _mib(total), "free": _mib(free)}
    return {"gpus": [gpus[known] for known in _visible(list(gpus))], "gpu_error": None}


def _visible(gpus: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """(index, UUID) of the GPUs that CUDA_VISIBLE_DEVICES leaves: as in CUDA, a name that is none hides itself and all after it.

    Indices are taken for nvidia-smi's own, which CUDA's are on a machine of equal GPUs. Parts of a GPU (MIG) count as before.
    """
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is None or "MIG-" in names:
        return gpus
    found = []
    for name in map(str.strip, names.split(",")):
        named = [gpu for gpu in gpus if name == gpu[0] or (name.startswith("GPU-") and gpu[1].startswith(name))]
        if len(named) != 1:
            break
        found += named
    return found


def _mib(text: str) -> int | None:
    """Bytes; None where there is no number: GPUs that share the host's memory say [N/A]."""
    return int(text) * 2**20 if text.strip().isdecimal() else None


def _memory() -> dict[str, int | None]:
    """Bytes of memory, and of it free: of the machine, or of the container where that is less."""
    try:
        import psutil
    except ImportError:
        return {"memory": None, "memory_free": None}
    found = psutil.virtual_memory()
    total, free = int(found.total), int(found.available)
    limit, used = _read("/sys/fs/cgroup/memory.max"), _read("/sys/fs/cgroup/memory.current")
    if limit and used and limit.strip().isdecimal():
        # What a container counts as used includes its page cache, which is given up when somebody needs it.
        lines = (_read("/sys/fs/cgroup/memory.stat") or "").splitlines()
        cached = sum(int(line.split()[1]) for line in lines if line.startswith("file "))
        total, free = min(total, int(limit)), min(free, int(limit) - int(used) + cached)
    return {"memory": total, "memory_free": free}


def _nearest(path: str) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    absolute = Path(path).absolute()
    return next(folder for folder in (absolute, *absolute.parents) if folder.exists())


def _usage(path: str) -> dict[str, int] | None:
    """Bytes of the file system that holds the path, or that would; None where there is none, or it may not be looked at."""
    if path == "/dev/shm" and not Path(path).is_dir():
        return None
    with contextlib.suppress(OSError):
        usage = shutil.disk_usage(_nearest(path))
        return {"total": usage.total, "free": usage.free}
    return None


def _disk(path: str) -> dict[str, Any]:
    """The folder that holds the path, or would; why: it cannot even be looked for, or None."""
    try:
        above = _nearest(path)
        usage = shutil.disk_usage(above)
    except OSError as error:  # a folder above that may not be entered, a name that is too long
        return {"path": path, "writable": False, "total": 0, "free": 0, "why": error.strerror}
    writable = os.access(above, os.W_OK | os.X_OK)
    return {"path": str(above), "writable": writable, "total": usage.total, "free": usage.free, "why": None}


def _listeners(port: int) -> list[dict[str, str]] | None:
    """Who listens on a port, and on which of this machine's addresses; None where the system does not tell."""
    try:
        import psutil
    except ImportError:
        return None
    found = []
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                found.append({"address": connection.laddr.ip, "owner": _owner(connection.pid)})
    except psutil.AccessDenied:  # macOS tells only root
        return None
    return found


def _owner(pid: int | None) -> str:
    """ "ray", or the name of another process."""
    import psutil

    if pid is None:
        return "a process of another user"
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        command = " ".join(process.cmdline())
        return "ray" if any(word in command for word in RAY_WORDS) else process.name()
    return "a process that has ended"


def _dashboard_asks_token() -> bool | None:
    """Of Ray's dashboard on this machine; None where there is none, or it does not answer."""
    reached = [one["address"] for one in _listeners(DASHBOARD_PORT) or [] if one["owner"] == "ray"]
    return asks_for_token(reached[0], DASHBOARD_PORT) if reached else None


def _storage(url: str, name: str) -> dict[str, Any]:
    return {"url": url, "why": why_storage_fails(url, name)}


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:  # not there, or not for us
        return None
