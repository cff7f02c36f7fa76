"""launch/cluster/slurm.sh as Slurm would run it, with srun and scontrol that stay on this machine, and a real Ray."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import ROOT

SCRIPT = ROOT / "launch/cluster/slurm.sh"

# The nodes are all here: each gets what Slurm would tell it.
SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
for ((node = 0; node < SLURM_NNODES; node++)); do SLURM_NODEID=$node "$@" & pids+=" $!"; done
trap 'kill -TERM $pids' TERM
wait || true
wait
"""
SCONTROL = """#!/usr/bin/env bash
if [[ $1 == show ]]; then echo 127.0.0.1; else echo "$@" > "$SLURM_SUBMIT_DIR/scontrol"; fi
"""
# The training, replaced by a look at the cluster; all else is the real Python.
PYTHON = """#!/usr/bin/env bash
if [[ $1 == -m && $2 == launch.train ]]; then exec {python} {train} "${{@:3}}"; else exec {python} "$@"; fi
"""
TRAIN = """
import logging, os, signal, sys, time
import ray

def stop(*_):
    print("checkpoint", flush=True)
    os._exit(143)

ray.init(logging_level=logging.ERROR)
signal.signal(signal.SIGTERM, stop)  # after ray.init, which sets one of its own
print("arguments", *sys.argv[1:])
print("nodes", len(ray.nodes()), "CPUs", ray.cluster_resources()["CPU"])
print("token", os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"]), flush=True)
while "--once" not in sys.argv:
    time.sleep(1)
"""


def executable(path, text):
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def allocation(tmp_path):
    """The environment of a job of two nodes, submitted from a folder with a configuration."""
    folder = tmp_path / "bin"
    folder.mkdir()
    executable(folder / "srun", SRUN)
    executable(folder / "scontrol", SCONTROL)
    (folder / "train.py").write_text(TRAIN)
    executable(folder / "python", PYTHON.format(python=sys.executable, train=folder / "train.py"))
    (folder / "ray").symlink_to(Path(sys.executable).parent / "ray")
    (tmp_path / "config.toml").write_text("")
    job_id = str(os.getpid())
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_"))}
    slurm = {"SLURM_JOB_ID": job_id, "SLURM_JOB_NODELIST": "here[0-1]", "SLURM_NNODES": "2", "SLURM_CPUS_ON_NODE": "1"}
    yield {
        **kept,
        **slurm,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "R1_PYTHON": str(folder / "python"),
        "R1_RAY_LOGS": str(tmp_path / "ray_logs"),
    }
    for folder in Path("/tmp").glob(f"r1-{job_id}-*"):
        shutil.rmtree(folder, ignore_errors=True)


def port_of(job_id):
    return 20000 + int(job_id) % 1000 * 10


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_it_is_shell():
    subprocess.run(["bash", "-n", SCRIPT], check=True)


def test_without_a_config_it_says_how_to_call_it():
    result = subprocess.run([SCRIPT], capture_output=True, text=True)
    assert result.returncode == 2
    assert "sbatch [--nodes=N ...] launch/cluster/slurm.sh CONFIG.toml [section.option=value ...]" in result.stdout
    assert "R1_PYTHON" in result.stdout
    assert "SBATCH" not in result.stdout


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SLURM_SUBMIT_DIR", "/", "config file 'config.toml' does not exist in /"),
        ("R1_PYTHON", "/none/python", "no Python at '/none/python'"),
    ],
)
def test_what_is_missing_is_named_before_ray_is_started(allocation, variable, value, message):
    result = subprocess.run([SCRIPT, "config.toml"], env={**allocation, variable: value}, capture_output=True, text=True)
    assert result.returncode == 2
    assert message in result.stderr


# What Ray does, done by nothing: a node that sleeps, a wait for the nodes that is over at once, a driver that ends as it is told.
FAST_RAY = """#!/usr/bin/env bash
exec sleep 60
"""
FAST_PYTHON = """#!/usr/bin/env bash
case $1 in
    -c) echo token ;;
    -) cat > /dev/null ;;
    -m) trap 'exit "$ON_TERM"' TERM; echo begun > "$SLURM_SUBMIT_DIR/begun"; while :; do sleep 0.05; done ;;
esac
"""


@pytest.mark.parametrize(
    ("number", "on_term", "requeued"),
    [
        (signal.SIGUSR1, 143, True),
        (signal.SIGUSR1, 0, False),  # it had just finished
        (signal.SIGTERM, 143, False),  # somebody wants it to end
    ],
)
def test_a_signal_is_passed_on_and_only_the_end_of_the_time_queues_the_job_again(allocation, tmp_path, number, on_term, requeued):
    (tmp_path / "bin/ray").unlink()
    executable(tmp_path / "bin/ray", FAST_RAY)
    executable(tmp_path / "bin/python", FAST_PYTHON)
    environment = {**allocation, "SLURM_NNODES": "1", "ON_TERM": str(on_term)}
    del environment["R1_RAY_LOGS"]
    job = subprocess.Popen([SCRIPT, "config.toml"], env=environment, start_new_session=True)
    try:
        while not (tmp_path / "begun").exists():
            assert job.poll() is None
            time.sleep(0.02)
        job.send_signal(number)
        assert job.wait(timeout=30) == on_term
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
    assert (tmp_path / "scontrol").exists() == requeued


@pytest.mark.slow
@pytest.mark.ray
def test_two_nodes_join_and_the_end_of_the_time_is_a_checkpoint_and_another_turn(allocation, tmp_path):
    log = tmp_path / "log"
    with log.open("w") as file:
        job = subprocess.Popen(
            [SCRIPT, "config.toml", "num_steps=3"], env=allocation, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while "token" not in log.read_text():
            assert job.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        port = port_of(allocation["SLURM_JOB_ID"])
        assert is_open(port)
        job.send_signal(signal.SIGUSR1)  # as --signal=B:USR1@600 has Slurm do: to the batch shell alone
        assert job.wait(timeout=60) == 143, log.read_text()
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
    text = log.read_text()
    assert "Ray runs on 2 node(s)" in text
    assert "arguments config.toml num_steps=3 --continue" in text
    assert "nodes 2 CPUs 2.0" in text
    assert "token token 64" in text
    assert text.index("checkpoint") < text.index("queued again")
    assert (tmp_path / "scontrol").read_text() == f"requeue {allocation['SLURM_JOB_ID']}\n"
    # Nothing is left: no Ray, none of its files but the logs that were asked for.
    assert not is_open(port)
    assert not list(Path("/tmp").glob(f"r1-{allocation['SLURM_JOB_ID']}-*"))
    assert sorted(path.name[-2:] for path in (tmp_path / "ray_logs").iterdir()) == ["-0", "-1"]
