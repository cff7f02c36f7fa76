"""launch/submit.sh: what it refuses, what it sends, and how it follows; with a job server by a script."""

import http.server
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from fake_job_server import FakeClient, client
from ray.job_submission import JobStatus
from tiny import ROOT

import launch.submit
from r1.runtime import submission, upload

__all__ = ["client"]  # a fixture

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
        ([QUICKSTART, "--runs", "s3://bucket/runs"], None, ["'--runs'", "run_dir=s3://bucket/runs/NAME"]),
        ([QUICKSTART, "task.difficulty=learnable:tests/tiny.py"], None, ["'task.difficulty'", "'tests/tiny.py' stays here"]),
        ([QUICKSTART, 'task.rewards={"tests/tiny.py:none"=1.0}'], None, ["'task.rewards'", "'tests/tiny.py' stays here"]),
        ([QUICKSTART, "task.mix.gsm8k={path='docs',weight=1.0}"], None, ["'task.mix.gsm8k.path'", "'docs' stays here"]),
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
    monkeypatch.setattr(launch.submit, "CHECKOUT", tmp_path)  # as where r1 is installed from a wheel
    code, _, error = submit(QUICKSTART)
    assert code == 2
    assert "is not a checkout of r1" in error


def test_it_may_be_called_from_anywhere(submit, client, monkeypatch, tmp_path):
    client([[]], [JobStatus.SUCCEEDED])
    monkeypatch.chdir(ROOT / "launch/configs")
    assert submit("quickstart.toml", "--runs", "mine", address="http://127.0.0.1:7", R1_PYTHON="py")[0] == 0
    runs = ROOT / "launch/configs/mine"
    assert FakeClient.submitted["entrypoint"] == f"py -m launch.train {QUICKSTART} --continue --runs {runs}"
    assert FakeClient.submitted["runtime_env"]["working_dir"] == str(ROOT)
    script = subprocess.run([ROOT / "launch/submit.sh", "none.toml"], capture_output=True, text=True, cwd=tmp_path)
    assert script.stderr.startswith("error: config file 'none.toml' does not exist")


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
    for line, command in zip(lines[2:5], ("logs --follow", "status", "stop"), strict=True):
        # Ray would take RAY_ADDRESS before an --address.
        assert "RAY_API_SERVER_ADDRESS=http://127.0.0.1:7 " in line
        assert line.endswith(f"ray job {command} raysubmit_1")
    assert lines[5:] == ["step 1", "step 2", "job raysubmit_1 succeeded"]


def test_where_a_run_writes_by_default(submit, client, monkeypatch):
    client([[]], [JobStatus.SUCCEEDED])
    submit(QUICKSTART, address="127.0.0.1:7", R1_PYTHON="py")
    assert FakeClient.submitted["entrypoint"].endswith(f"--continue --runs {ROOT}/runs")
    client([[]], [JobStatus.SUCCEEDED])
    monkeypatch.delenv("R1_PYTHON")
    submit(QUICKSTART, "run_dir=s3://bucket/run", address="http://head.example:7")
    assert FakeClient.submitted["entrypoint"] == f"python -m launch.train {QUICKSTART} run_dir=s3://bucket/run --continue"


def test_the_end_of_a_tunnel_is_another_machine(submit, client, monkeypatch):
    client([], [])
    monkeypatch.setattr(FakeClient, "session", "session_of_nobody_here")
    code, _, error = submit(QUICKSTART, address="http://127.0.0.1:7")
    assert code == 2
    assert "RAY_API_SERVER_ADDRESS='http://127.0.0.1:7' leads to another machine" in error
    client([[]], [JobStatus.SUCCEEDED])
    assert submit(QUICKSTART, "--runs", "/shared", address="http://127.0.0.1:7")[0] == 0
    assert FakeClient.submitted["entrypoint"] == f"python -m launch.train {QUICKSTART} --continue --runs /shared"


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
    assert "ray job logs --follow raysubmit_1" in error
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


def test_a_reader_that_is_gone_ends_the_following(submit, client, monkeypatch):
    class Closed:
        def write(self, text):
            if text == "step 1\n":
                raise BrokenPipeError(32, "Broken pipe")

        def flush(self):
            pass

        def fileno(self):
            raise OSError("no file")

    client([["step 1\n", "step 2\n"]], [])
    monkeypatch.setattr(sys, "stdout", Closed())
    code, _, error = submit(QUICKSTART, address="http://127.0.0.1:7")
    assert code == 1
    assert "no longer following ([Errno 32] Broken pipe): job raysubmit_1 goes on" in error
