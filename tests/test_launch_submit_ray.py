"""launch/submit.sh and a real Ray head with its job server."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from processes import QUICKSTART, steps_of
from tiny import ROOT

from r1.checkpoint import latest_checkpoint
from r1.config import load_config
from r1.run_choice import choose_run

pytestmark = [pytest.mark.slow, pytest.mark.ray]
BIN = Path(sys.executable).parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def job_server():
    """A head node of its own; yields the address of its job server."""
    # Not pytest's tmp_path: Ray puts sockets there, whose paths may have 107 characters.
    folder = tempfile.mkdtemp(prefix="r1ray")
    dashboard_port = free_port()
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    # The agent's default port is fixed: beside another cluster on this machine it would not come up, and no job would run.
    ports = [
        f"--port={free_port()}",
        f"--dashboard-port={dashboard_port}",
        f"--dashboard-agent-listen-port={free_port()}",
        f"--ray-client-server-port={free_port()}",
    ]
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


class Submitted:
    """launch/submit.sh in a process of its own, whose output is read as it comes."""

    def __init__(self, address, *arguments):
        self.process = subprocess.Popen(
            [ROOT / "launch/submit.sh", QUICKSTART, *arguments],
            env={**os.environ, "RAY_API_SERVER_ADDRESS": address},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        self._reader = threading.Thread(target=lambda: self.lines.extend(iter(self.process.stdout.readline, "")), daemon=True)
        self._reader.start()

    def wait_for(self, text, timeout_s=300):
        """The first line that has the text."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = [line for line in list(self.lines) if text in line]
            if found:
                return found[0]
            assert self.process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.1)

    def wait(self):
        code = self.process.wait(timeout=300)
        self._reader.join()
        return code

    @property
    def text(self):
        return "".join(self.lines)


@pytest.mark.timeout(900)
def test_a_submitted_run_is_stopped_and_the_same_command_ends_it(job_server, tmp_path):
    options = ["num_steps=12", "rollout.num_prompts=4", "evaluate.num_completions=8", "checkpoint.every=0"]
    arguments = [*options, "--runs", str(tmp_path)]
    first = Submitted(job_server, *arguments)
    stop = first.wait_for("stop it, with a checkpoint: ").partition(": ")[2]
    first.wait_for("step 2/12")  # the job's own log is followed
    subprocess.run(stop, shell=True, cwd=ROOT, check=True, capture_output=True, timeout=120)
    assert first.wait() == 1
    assert " stopped\n" in first.text
    assert "the same command goes on" in first.text
    [run_dir] = tmp_path.iterdir()
    last = steps_of(run_dir)[-1]["step"]
    assert 2 <= last < 12
    assert f"stopped after step {last}, checkpoint written" in first.text
    assert latest_checkpoint(run_dir)[1].step == last

    second = Submitted(job_server, *arguments)
    assert second.wait() == 0, second.text
    assert f"going on in {run_dir} from its checkpoint of step {last}" in second.text
    assert " succeeded\n" in second.text
    assert [event["step"] for event in steps_of(run_dir)] == list(range(1, 13))
    assert latest_checkpoint(run_dir)[1].step == 12
    assert list(tmp_path.iterdir()) == [run_dir]
    assert not choose_run(load_config(ROOT / QUICKSTART, options), tmp_path).is_begun  # the third time it begins the next


def test_a_run_that_cannot_work_fails_with_its_one_line(job_server, tmp_path):
    (tmp_path / "run").mkdir()
    failed = Submitted(job_server, f"run_dir={tmp_path / 'run'}")
    assert failed.wait() == 1
    assert "is not a run folder" in failed.text
    assert " failed\n" in failed.text
