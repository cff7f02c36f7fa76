"""launch/submit.sh against a real Ray head with its job server."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from processes import steps_of
from tiny import ROOT

from r1.checkpoint import latest_checkpoint

BIN = Path(sys.executable).parent


def test_without_a_config_it_says_how_to_call_it():
    result = subprocess.run([ROOT / "launch/submit.sh"], capture_output=True, text=True)
    assert result.returncode == 2
    assert "launch/submit.sh CONFIG.toml [section.option=value ...]" in result.stdout


def test_a_config_that_does_not_exist_is_refused_before_anything_is_sent():
    result = subprocess.run([ROOT / "launch/submit.sh", "none.toml"], capture_output=True, text=True)
    assert result.returncode == 2
    assert "config file 'none.toml' does not exist" in result.stderr


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def job_server():
    """A head node of its own; yields the address of its job server."""
    # Not pytest's tmp_path: Ray puts sockets there, whose paths may have 107 characters.
    folder = tempfile.mkdtemp(prefix="r1ray")
    dashboard_port = free_port()
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    ports = [f"--port={free_port()}", f"--dashboard-port={dashboard_port}"]
    head = subprocess.Popen(
        [BIN / "ray", "start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats", f"--temp-dir={folder}", *ports],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while True:
        assert head.poll() is None, "ray start ended"
        assert time.monotonic() < deadline, "no job server after 120 s"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", dashboard_port)) == 0:
                break
        time.sleep(0.5)
    yield f"http://127.0.0.1:{dashboard_port}"
    head.send_signal(signal.SIGTERM)
    head.wait(timeout=60)
    shutil.rmtree(folder, ignore_errors=True)  # Ray's processes may still be writing their last log line


@pytest.mark.slow
@pytest.mark.ray
def test_a_submitted_run_succeeds(job_server, tmp_path):
    run_dir = tmp_path / "run"
    overrides = [f"run_dir={run_dir}", "num_steps=2", "evaluate.num_completions=8"]
    result = subprocess.run(
        [ROOT / "launch/submit.sh", "launch/configs/quickstart.toml", *overrides],
        env={**os.environ, "RAY_API_SERVER_ADDRESS": job_server},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "succeeded" in result.stdout + result.stderr
    assert "step 2/2" in result.stdout  # the job's own log was followed
    assert [event["step"] for event in steps_of(run_dir)] == [1, 2]
    assert latest_checkpoint(run_dir)[1].step == 2
    # Bad input ends the job with its one line, and submit.sh with a failure.
    result = subprocess.run(
        [ROOT / "launch/submit.sh", "launch/configs/quickstart.toml", f"run_dir={run_dir}"],
        env={**os.environ, "RAY_API_SERVER_ADDRESS": job_server},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode != 0
    assert "exists already" in result.stdout
