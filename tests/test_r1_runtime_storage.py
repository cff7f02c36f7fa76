"""A run whose place is a bucket, over the S3 protocol: moto's server, s3fs, real Ray."""

import io
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import pytest
from processes import QUICKSTART, Program
from rich.console import Console
from tiny import tiny_config

from r1.cli.main import main
from r1.config_text import saved_config
from r1.fetched_run import local_model
from r1.metrics import read_metrics
from r1.run_place import folder_to_resume
from r1.runtime.run import run
from r1.storage import open_storage, scratch_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
# The transformers engine starts ten seconds sooner than vLLM, and what it samples is a function of the weights and the seed too.
SMALL = [
    "rollout.engine=r1.rollout.transformers_engine:TransformersEngine",
    "rollout.num_prompts=2",
    "rollout.group_size=2",
    "rollout.max_completion_tokens=16",
    "evaluate.num_completions=2",
    "checkpoint.every=1",
    "learner.num_ranks=2",
    "num_threads=1",
]


@pytest.fixture
def bucket(monkeypatch, tmp_path):  # tmp_path first: it would lie in the TMPDIR that is gone afterwards
    """The URL of a bucket that a server on loopback holds, reached by the environment alone, and scratch folders of its own."""
    import s3fs

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # A process of its own: vLLM looks at all that is imported, and flask's proxies do not bear that.
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until_it_listens(server, port)
    in_environment(monkeypatch, f"http://127.0.0.1:{port}")
    short = tempfile.mkdtemp(prefix="r1-")  # not tmp_path: Ray puts sockets there, whose paths may have 107 bytes
    monkeypatch.setenv("TMPDIR", short)  # of the ranks as well
    monkeypatch.setattr(tempfile, "tempdir", None)
    s3fs.S3FileSystem.clear_instance_cache()  # which would know another server
    s3fs.S3FileSystem().mkdir("bucket")
    yield "s3://bucket"
    server.kill()
    server.wait()
    shutil.rmtree(short)
    s3fs.S3FileSystem.clear_instance_cache()


def wait_until_it_listens(server, port):
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert server.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)


def in_environment(monkeypatch, endpoint):
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "planted-key",
        "AWS_SECRET_ACCESS_KEY": "planted-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)


def finish(*options, resume=None):
    """What the run says."""
    said = io.StringIO()
    config = tiny_config(*options) if resume is None else saved_config(folder_to_resume(resume), options)
    run(config, resume=resume, console=Console(file=said))
    return " ".join(said.getvalue().split())


def metrics_of(run_dir):
    return [(event["kind"], event["step"], event["metrics"]) for event in read_metrics(run_dir)]


@pytest.mark.ray
@pytest.mark.beside
def test_a_run_in_a_bucket_goes_on_from_its_url_alone(bucket, tmp_path, capsys):
    url, straight = f"{bucket}/runs/first", tmp_path / "straight"
    assert f"r1 traces show {url} --step 2" in finish(*SMALL, f"run_dir={url}", "num_steps=2")
    assert not scratch_folder(url).exists(), "all is at the URL"
    assert f"going on after step 2 of {url}" in finish("num_steps=4", "evaluate.every=2", resume=url)
    finish(*SMALL, f"run_dir={straight}", "num_steps=4", "evaluate.every=2")

    main_ends(["traces", "ls", url])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows if row[0].isdigit()] == ["0", "1", "2", "2", "3", "4", "4"]
    fetched = scratch_folder(url, "read")
    assert metrics_of(fetched) == metrics_of(straight)
    main_ends(["report", url, "-o", str(tmp_path / "report.html")])
    assert "report.html" in capsys.readouterr().out
    path, config = local_model(url, "step-000003")
    assert config.num_steps == 4
    straight_weights = straight / "checkpoints/step-000003/hf/model.safetensors"
    assert (fetched / "checkpoints/step-000003/hf/model.safetensors").read_bytes() == straight_weights.read_bytes()
    assert path == str(fetched / "checkpoints/step-000003/hf")

    remote = open_storage(url)
    secret = [name for name in remote.files() if b"planted-" in (remote.read(name) or b"")]
    assert secret == []


def main_ends(arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code


def test_storage_that_cannot_be_reached_is_said_in_one_line(tmp_path, monkeypatch):
    with socket.socket() as closed:  # bound, and nobody listens
        closed.bind(("127.0.0.1", 0))
        in_environment(monkeypatch, f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        for arguments in ([QUICKSTART, "run_dir=s3://bucket/run"], ["--resume", "s3://bucket/run"]):
            code, out, err = Program(*arguments).wait()
            assert (code, out) == (2, "")
            assert err.count("\n") == 1
            assert "cannot be written to" in err
            assert "check the URL" in err
    assert list(tmp_path.iterdir()) == []


def test_storage_that_says_nothing_is_said_in_one_line(tmp_path, monkeypatch):
    with socket.socket() as silent:  # takes connections, and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        in_environment(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        program = Program(QUICKSTART, "run_dir=s3://bucket/run")
        while program.process.poll() is None:
            program.look()
            time.sleep(0.2)
        code, out, err = program.wait(60.0)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1, err
    assert "cannot be written to: no answer within 20 s; check the URL" in err
    assert program.survivors() == []
    assert list(tmp_path.iterdir()) == []
