"""launch/submit.sh: what it refuses, what it sends, and a real Ray head with its job server."""

import asyncio
import http.server
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import steps_of
from ray._private.runtime_env.packaging import create_package
from ray.job_submission import JobStatus
from tiny import ROOT

import launch.submit
from r1.checkpoint import latest_checkpoint
from r1.config import load_config
from r1.errors import RunError, UserError
from r1.run_choice import choose_run
from r1.runtime import submission, upload

BIN = Path(sys.executable).parent
QUICKSTART = "launch/configs/quickstart.toml"


@pytest.fixture
def submit(monkeypatch, capsys):
    """Run main() in this checkout; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(ROOT)
    for name in (submission.ADDRESS, submission.AUTH_MODE):  # main() sets them, and they shall be restored
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")

    def call(*arguments, address=None, **environment):
        if address:
            monkeypatch.setenv(submission.ADDRESS, address)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["submit", *arguments])
        code = launch.submit.main(arguments)
        return code, *capsys.readouterr()

    return call


class FakeClient:
    """Ray's job server, by a script: each try to follow yields texts, or raises; then a status."""

    submitted: dict
    refusals: list
    tails: list
    statuses: list

    def __init__(self, address):
        assert address == os.environ[submission.ADDRESS]

    def submit_job(self, **options):
        if self.refusals:
            raise RuntimeError(self.refusals.pop(0))
        type(self).submitted = options
        return "raysubmit_1"

    async def tail_job_logs(self, job_id):
        for item in self.tails.pop(0):
            if isinstance(item, BaseException):
                raise item
            yield item

    def get_job_status(self, job_id):
        return self.statuses.pop(0)


@pytest.fixture
def client(monkeypatch):
    def script(tails, statuses, refusals=()):
        FakeClient.tails, FakeClient.statuses, FakeClient.refusals = list(tails), list(statuses), list(refusals)
        return FakeClient

    monkeypatch.setattr(submission, "_Client", FakeClient)
    monkeypatch.setattr(submission, "RETRY_S", 0.0)
    return script


def test_the_script_says_how_to_call_it():
    result = subprocess.run([ROOT / "launch/submit.sh", "--help"], capture_output=True, text=True, cwd="/")
    assert result.returncode == 0
    assert "usage: launch/submit.sh" in result.stdout
    assert all(name in result.stdout for name in ("RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "R1_PYTHON", "same command"))


@pytest.mark.parametrize(
    ("arguments", "address", "parts"),
    [
        (["none.toml"], None, ["config file 'none.toml' does not exist"]),
        ([QUICKSTART, "rollout.gruop_size=4"], None, ["did you mean 'rollout.group_size'?"]),
        ([QUICKSTART, "run_dir=runs/mine"], None, ["'run_dir'", "would lie in the uploaded copy", "absolute"]),
        ([QUICKSTART, "run_dir=/shared/a", "--runs", "/shared"], None, ["'--runs'", "leave out one"]),
        ([QUICKSTART], "http://head.example:8265", ["head.example", "another machine", "--runs /shared/runs"]),
        ([QUICKSTART, "--runs", "runs"], "http://head.example:8265", ["'--runs'", "absolute path on the cluster"]),
        ([QUICKSTART], "ray://127.0.0.1:10001", ["RAY_API_SERVER_ADDRESS='ray://127.0.0.1:10001'", "http://HOST:8265"]),
        ([QUICKSTART], "http://127.0.0.1:1", ["'http://127.0.0.1:1'", "Failed to connect", "ray start --head"]),
        ([QUICKSTART, "model.path=tests"], None, ["'model.path'", "not in the upload", "absolute path on the cluster"]),
    ],
)
def test_what_is_refused_before_anything_is_sent(submit, arguments, address, parts):
    code, _, error = submit(*arguments, address=address)
    assert code == 2
    assert error.startswith("error: ")
    assert len(error.strip().splitlines()) == 1, error
    assert all(part in error for part in parts), error


def test_a_config_outside_of_the_upload_is_refused(submit, tmp_path):
    shutil.copy(ROOT / QUICKSTART, tmp_path / "mine.toml")
    code, _, error = submit(str(tmp_path / "mine.toml"))
    assert code == 2
    assert "is not in the upload" in error


def test_only_a_checkout_is_sent(submit, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, error = submit(str(ROOT / QUICKSTART))
    assert code == 2
    assert "is not a checkout of r1" in error


@contextmanager
def server(status, body=b"{}"):
    """An HTTP server that answers every request alike; None: it takes a connection and says nothing."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if status is None:
                silence.wait(20)
                return
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    silence = threading.Event()
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}"
    finally:
        silence.set()
        listening.shutdown()
        listening.server_close()


@pytest.mark.parametrize(
    ("status", "parts"),
    [
        (401, ["the job server refuses the token, or misses one", "RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN"]),
        (403, ["the job server refuses the token, or misses one"]),
        (404, ["no job server takes the run there", "ray start --head"]),
        (200, ["no job server takes the run there"]),
        (None, ["no job server takes the run there", "timed out"]),
    ],
)
def test_servers_that_refuse_or_are_no_job_server(submit, monkeypatch, status, parts):
    assert submission.CONNECT_S + submission.ANSWER_S < 30
    monkeypatch.setattr(submission, "ANSWER_S", 0.5)
    with server(status) as address:
        code, _, error = submit(QUICKSTART, address=address)
    assert code == 2
    assert len(error.strip().splitlines()) == 1, error
    assert all(part in error for part in parts), error


def test_what_is_sent(submit, client, tmp_path):
    client([["step 1\n", "step 2\n"]], [JobStatus.SUCCEEDED])
    code, out, _ = submit(QUICKSTART, "num_steps=3", "--runs", str(tmp_path), address="http://127.0.0.1:7", R1_PYTHON="py")
    sent = FakeClient.submitted
    assert code == 0
    assert sent["entrypoint"] == f"py -m launch.train {QUICKSTART} num_steps=3 --continue --runs {tmp_path}"
    assert sent["runtime_env"] == {
        "working_dir": str(ROOT),
        "excludes": list(upload.EXCLUDES),
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "600"},
    }
    assert sent["metadata"]["config"] == "quickstart"
    assert sent["metadata"]["r1"] == "0.1.0"
    lines = out.splitlines()
    assert lines[0].startswith("upload: ")
    assert lines[0].endswith(" MiB")
    assert lines[1] == "submitted job raysubmit_1 to http://127.0.0.1:7"
    assert lines[2].endswith("ray job logs --address http://127.0.0.1:7 --follow raysubmit_1")
    assert lines[3].endswith("ray job status --address http://127.0.0.1:7 raysubmit_1")
    assert lines[4].endswith("ray job stop --address http://127.0.0.1:7 raysubmit_1")
    assert lines[5:] == ["step 1", "step 2", "job raysubmit_1 succeeded"]


def test_where_a_run_writes_by_default(submit, client, monkeypatch):
    client([[]], [JobStatus.SUCCEEDED])
    submit(QUICKSTART, address="127.0.0.1:7", R1_PYTHON="py")
    assert FakeClient.submitted["entrypoint"].endswith(f"--continue --runs {ROOT}/runs")
    client([[]], [JobStatus.SUCCEEDED])
    monkeypatch.delenv("R1_PYTHON")
    submit(QUICKSTART, "run_dir=s3://bucket/run", address="http://head.example:7")
    assert FakeClient.submitted["entrypoint"] == f"python -m launch.train {QUICKSTART} run_dir=s3://bucket/run --continue"


def test_how_a_job_ended(submit, client):
    for status, code, says in (
        (JobStatus.FAILED, 1, "job raysubmit_1 failed"),
        (JobStatus.STOPPED, 1, f"goes on with its run: launch/submit.sh {QUICKSTART} seed=3"),
    ):
        client([[]], [status])
        got, out, _ = submit(QUICKSTART, "seed=3", address="http://127.0.0.1:7")
        assert got == code
        assert says in out


def test_nothing_is_followed_with_no_wait(submit, client):
    client([], [])
    code, out, _ = submit(QUICKSTART, "--no-wait", address="http://127.0.0.1:7")
    assert code == 0
    assert "ray job stop" in out.splitlines()[-1]


def test_a_cluster_that_has_just_started_is_waited_for(submit, client, monkeypatch):
    starting = "Request failed with status code 500: No available agent to submit job, please try again later.."
    client([], [], [starting, starting])
    assert submit(QUICKSTART, "--no-wait", address="http://127.0.0.1:7")[0] == 0
    monkeypatch.setattr(submission, "STARTING_S", -1.0)
    client([], [], [starting])
    code, _, error = submit(QUICKSTART, "--no-wait", address="http://127.0.0.1:7")
    assert code == 2
    assert "has nobody to run jobs" in error
    assert "--dashboard-agent-listen-port" in error


def test_ctrl_c_leaves_the_job_running(submit, client):
    client([["step 1\n", KeyboardInterrupt()]], [])
    code, _, error = submit(QUICKSTART, address="http://127.0.0.1:7")
    assert code == 130
    assert "job raysubmit_1 goes on" in error
    assert "ray job logs --address http://127.0.0.1:7 --follow raysubmit_1" in error
    assert "ray job stop" in error


def test_a_token_is_used_where_there_is_one(tmp_path, submit, client):
    assert launch.submit._uses_token({"RAY_AUTH_TOKEN": "x"}, tmp_path)
    assert not launch.submit._uses_token({"RAY_AUTH_TOKEN": "x", "RAY_AUTH_MODE": "disabled"}, tmp_path)
    assert not launch.submit._uses_token({}, tmp_path)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("x")
    assert launch.submit._uses_token({}, tmp_path)
    client([[]], [JobStatus.SUCCEEDED])
    _, out, _ = submit(QUICKSTART, address="http://127.0.0.1:7", RAY_AUTH_TOKEN="secret", RAY_AUTH_MODE="")
    assert "RAY_AUTH_MODE=token " in out.splitlines()[2]  # or the printed command would be refused
    assert "secret" not in out + repr(FakeClient.submitted)


def job_of(client):
    sent = submission.Submission(
        address="http://a:1", uses_token=False, entrypoint=(), config_name="", upload=upload.Upload(folder=ROOT, files={})
    )
    return submission.Job(client=client.__new__(client), job_id="raysubmit_1", submission=sent)


def test_a_log_that_breaks_off_is_written_once(client):
    broken = RuntimeError("WebSocket connection closed unexpectedly")
    job = job_of(
        client(
            [["one\n", "two\n", broken], [OSError("refused")], ["one\ntwo\nth"], ["one\ntwo\n", "three\n"]],
            [JobStatus.RUNNING, JobStatus.SUCCEEDED],
        )
    )
    written = []
    assert asyncio.run(submission.follow(job, written.append)) == JobStatus.SUCCEEDED
    assert "".join(written) == "one\ntwo\nthree\n"


def test_a_job_server_that_stays_away_is_given_up(client, monkeypatch):
    monkeypatch.setattr(submission, "LOST_S", -1.0)
    with pytest.raises(RunError, match=r"job raysubmit_1: http://a:1 has not answered .*ray job logs"):
        asyncio.run(submission.follow(job_of(client([[OSError("refused")]], [])), print))


@pytest.fixture
def checkout(tmp_path):
    """A folder with what is to be left out, and a link out of it."""
    folder = tmp_path / "checkout"
    for name in ("launch/train.py", "r1/a.py", ".git/HEAD", "runs/x/metrics.jsonl", "tests/test_a.py", "r1/__pycache__/a.pyc"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("12345")
    (folder / "r1/runs.txt").write_text("1")  # named like an excluded one
    (folder / ".gitignore").write_text("*.log\n")
    (folder / "launch/.rayignore").write_text("big.bin\n")
    (folder / "launch/big.bin").write_text("123")
    (folder / "a.log").write_text("123")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/data.txt").write_text("1234567")
    (folder / "linked").symlink_to(tmp_path / "outside")
    return folder


def test_what_is_measured_is_what_ray_packs(checkout, tmp_path):
    measured = upload.measure_upload(checkout)
    assert measured.files == {
        ".gitignore": 6,
        "launch/.rayignore": 8,
        "launch/train.py": 5,
        "linked/data.txt": 7,
        "r1/a.py": 5,
        "r1/runs.txt": 1,
    }
    assert str(measured) == "6 files, 0.0 MiB"
    create_package(str(checkout), tmp_path / "sent.zip", include_gitignore=True, excludes=list(upload.EXCLUDES))
    with zipfile.ZipFile(tmp_path / "sent.zip") as package:
        assert set(measured.files) == {name for name in package.namelist() if not name.endswith("/")}
    assert measured.has(checkout / "launch")
    assert not measured.has(checkout / "laun")
    assert not measured.has(checkout / "runs/x/metrics.jsonl")


def test_an_upload_that_is_too_large_is_refused(checkout):
    with (checkout / "model.safetensors").open("wb") as file:
        file.truncate(upload.MAX_MIB * 2**20 - 32)  # 32 bytes are there already
    upload.measure_upload(checkout).check_size()
    (checkout / "one.byte").write_text("1")
    with pytest.raises(UserError) as refused:
        upload.measure_upload(checkout).check_size()
    assert "at most 20 MiB" in str(refused.value)
    assert "the largest: model.safetensors (20.0 MiB), .." not in str(refused.value)
    assert "the largest: model.safetensors (20.0 MiB), launch/.rayignore (0.0 MiB)" in str(refused.value)
    assert ".rayignore" in str(refused.value)


def test_this_checkout_is_small():
    measured = upload.measure_upload(ROOT)
    measured.check_size()
    assert {"launch/train.py", "launch/models/tiny_base/model.safetensors", "r1/report/assets/report.css"} <= set(measured.files)
    assert not [name for name in measured.files if name.startswith((".git/", ".venv", "tests/", "runs/"))]


def test_the_revision_says_whether_the_tree_differs(tmp_path):
    assert submission.git_revision(tmp_path) == "unknown"

    def git(*arguments):
        identity = ["-c", "user.name=n", "-c", "user.email=e"]
        return subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True, text=True).stdout

    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "a")
    revision = git("rev-parse", "HEAD").strip()
    assert submission.git_revision(tmp_path) == revision
    (tmp_path / "b").write_text("sent along")
    assert submission.git_revision(tmp_path) == f"{revision}-dirty"


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


@pytest.mark.slow
@pytest.mark.ray
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


@pytest.mark.slow
@pytest.mark.ray
def test_a_run_that_cannot_work_fails_with_its_one_line(job_server, tmp_path):
    (tmp_path / "run").mkdir()
    failed = Submitted(job_server, f"run_dir={tmp_path / 'run'}")
    assert failed.wait() == 1
    assert "is not a run folder" in failed.text
    assert " failed\n" in failed.text
