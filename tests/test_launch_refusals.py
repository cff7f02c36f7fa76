"""What cannot work is said in one line, soon, with exit code 2 and nothing left running: the real program, by its command."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import QUICKSTART, Program, steps_of
from tiny import ROOT

from r1.checkpoint import latest_checkpoint
from r1.metrics import read_metrics
from r1.traces import list_trace_files, read_traces

pytestmark = [pytest.mark.slow, pytest.mark.ray]

BIN = Path(sys.executable).parent
LIMIT_S = 30.0


@pytest.fixture(scope="module")
def import_s():
    """Seconds that the program's imports take: 7 s on two idle cores, and as many more as other processes leave it waiting."""
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", "import r1.runtime.run"], check=True)
    return time.monotonic() - start


def refusal(import_s, run_dir, *overrides, **variables):
    """Start a run that is refused; return the line that says why."""
    start = time.monotonic()
    program = Program(QUICKSTART, f"run_dir={run_dir}", *overrides, variables=variables)
    while program.process.poll() is None:
        program.look()
        time.sleep(0.1)
        assert time.monotonic() - start < 240
    passed_s = time.monotonic() - start
    code, _, err = program.wait()
    assert code == 2, err
    [line] = err.splitlines()
    assert line.startswith("error: ")
    assert program.survivors() == []
    assert not run_dir.exists()
    # On an idle machine the imports take 7 s of the 30: that is all that a busy one may add to.
    assert passed_s - max(0.0, import_s - 7) < LIMIT_S, line
    return line


@contextmanager
def listening(port):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_wrong_address(import_s, tmp_path):
    line = refusal(import_s, tmp_path / "run", RAY_ADDRESS="127.0.0.1:1")
    assert "RAY_ADDRESS='127.0.0.1:1': cannot join that cluster (127.0.0.1:1 cannot be reached (Connection refused)" in line
    with listening(0) as port:  # takes the connection, and never answers
        line = refusal(import_s, tmp_path / "run", RAY_ADDRESS=f"127.0.0.1:{port}")
    assert f"127.0.0.1:{port} takes connections and is no Ray cluster" in line


def test_a_missing_dataset(import_s, tmp_path):
    line = refusal(import_s, tmp_path / "run", "task.name=gsm8k", "task.path=/none.jsonl")
    assert "option 'task.path': no file '/none.jsonl'; give a .jsonl" in line
    # Without a network. Of itself the hub's client takes 42 s to give up.
    nobody = "http://127.0.0.1:1"
    line = refusal(import_s, tmp_path / "run", "task.name=gsm8k", "task.path=org/name", HF_ENDPOINT=nobody, HF_HUB_OFFLINE="")
    assert "option 'task.path': cannot load 'org/name', split 'test', from the hub (127.0.0.1:1 cannot be reached" in line


def free_port():
    with listening(0) as port:
        return port


@pytest.fixture
def two_nodes(tmp_path):
    """A cluster of 1 + 1 CPUs, the second of which works in another folder; yields its address."""
    # Not pytest's tmp_path: Ray puts sockets there, whose paths may have 107 characters.
    folder, port = tempfile.mkdtemp(prefix="r1ray"), free_port()
    address = f"127.0.0.1:{port}"
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "PYTHONPATH")}
    environment["RAY_AUTH_MODE"] = "disabled"
    head = [f"--port={port}", "--head", f"--dashboard-port={free_port()}", f"--temp-dir={folder}", "--disable-usage-stats"]
    nodes = []
    for own, works_in in ((head, ROOT), ([f"--address={address}"], tmp_path)):
        command = [BIN / "ray", "start", "--block", "--num-cpus=1", "--node-ip-address=127.0.0.1", *own]
        with (Path(folder) / f"node-{len(nodes)}.log").open("w") as log:
            nodes.append(subprocess.Popen(command, env=environment, cwd=works_in, stdout=log, stderr=log))
        deadline = time.monotonic() + 120
        while "This command will now block" not in Path(log.name).read_text():
            assert nodes[-1].poll() is None, Path(log.name).read_text()
            assert time.monotonic() < deadline, Path(log.name).read_text()
            time.sleep(0.2)
    yield address
    for node in reversed(nodes):
        node.send_signal(signal.SIGTERM)
        node.wait(timeout=60)
    shutil.rmtree(folder, ignore_errors=True)  # Ray's processes may still be writing their last log line


def test_a_cluster_that_lacks_something(import_s, two_nodes, tmp_path):
    """Too few CPUs; then a model's path that means nothing where the nodes work."""
    line = refusal(import_s, tmp_path / "run", "rollout.num_workers=64", RAY_ADDRESS=two_nodes, RAY_AUTH_MODE="disabled")
    assert "the Ray cluster has 2 CPU, this run wants 65 (rollout workers 64, learner ranks 1); start Ray with more" in line
    line = refusal(import_s, tmp_path / "run", RAY_ADDRESS=two_nodes, RAY_AUTH_MODE="disabled")
    assert line.startswith("error: node ")
    assert "model: model.path is no folder here: put it where all nodes see it, and give the absolute path" in line
    doctor = [sys.executable, "-m", "r1.cli.main", "doctor", QUICKSTART, f"run_dir={tmp_path / 'run'}", "--address", two_nodes]
    result = subprocess.run(doctor, env={**os.environ, "RAY_AUTH_MODE": "disabled"}, capture_output=True, text=True, timeout=200)
    assert result.returncode == 1, result.stdout + result.stderr
    found = {tuple(line.split()[:2]) for line in result.stdout.splitlines()}
    assert {("ok", "resources"), ("ok", "nodes"), ("ok", "clocks"), ("ok", "run_dir"), ("RED", "model")} <= found
    assert result.stdout.splitlines()[-1].endswith(" 1 red")
    assert os.listdir(tmp_path) == [], "the doctor's token is left behind"
    # A storage is tried from both nodes, and left as it was.
    doctor[5] = f"run_dir=file://{tmp_path}/storage/run"
    result = subprocess.run(doctor, env={**os.environ, "RAY_AUTH_MODE": "disabled"}, capture_output=True, text=True, timeout=200)
    [line] = [line for line in result.stdout.splitlines() if line.endswith("can be read and written to")]
    assert line.count("(") == 2, result.stdout + result.stderr
    assert os.listdir(tmp_path / "storage/run") == []


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of so many MiB, and yields its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(mib):
        result = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", folder], capture_output=True, text=True)
        if result.returncode:
            pytest.skip(f"nothing can be mounted here: {result.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", "--lazy", folder], capture_output=True)


def test_a_full_disk_before_the_start(import_s, small_disk):
    folder = small_disk(2)
    line = refusal(import_s, folder / "run")
    assert f"option 'run_dir': {str(folder)!r} has 2.0 MiB free, this run wants about 27.9 MiB for its checkpoints" in line


def test_a_disk_that_fills_up_in_mid_run(small_disk):
    """It ends in one line, nothing half-written can be read, and once there is room the run goes on."""
    folder = small_disk(100)
    run_dir = folder / "run"
    program = Program(
        QUICKSTART, f"run_dir={run_dir}", "num_steps=200", "rollout.num_prompts=4", "checkpoint.every=1", "evaluate.num_completions=8"
    )
    program.wait_for_step(run_dir, 3)  # the checkpoint of step 1 is complete when that of step 2 is begun
    filler = folder / "filler"
    subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], capture_output=True)  # until nothing is left
    code, _, err = program.wait()
    assert code == 1, err
    [line] = err.splitlines()
    assert line.startswith("error: ")
    assert "cannot write " in line
    assert "is the disk full?" in line
    assert program.survivors() == []
    assert [event["step"] for event in read_metrics(run_dir) if event["kind"] == "step"] == [
        *range(1, len(steps_of(run_dir)) + 1)
    ]
    for step in list_trace_files(run_dir, "train"):
        assert len(read_traces(run_dir, step)) == 64
    filler.unlink()
    saved = latest_checkpoint(run_dir)[1].step
    program = Program("--resume", str(run_dir), f"num_steps={saved + 1}")
    code, _, err = program.wait()
    assert code == 0, err
    assert [event["step"] for event in steps_of(run_dir)] == list(range(1, saved + 2))
