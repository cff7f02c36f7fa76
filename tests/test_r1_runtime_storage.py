"""A run whose place is a bucket, over the S3 protocol: moto's server, s3fs, real Ray."""

import shutil
import socket

import pytest
from processes import QUICKSTART, Program

from r1 import storage
from r1.cli.main import main
from r1.fetched_run import local_model
from r1.metrics import read_metrics
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
def bucket(tmp_path, monkeypatch):
    """The URL of a bucket that a server on loopback holds, reached by the environment alone, and scratch folders of its own."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    in_environment(monkeypatch, f"http://{host}:{port}")
    (tmp_path / "node").mkdir()
    monkeypatch.setattr(storage.tempfile, "tempdir", str(tmp_path / "node"))
    s3fs.S3FileSystem().mkdir("bucket")
    yield "s3://bucket"
    server.stop()


def in_environment(monkeypatch, endpoint):
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "planted-key",
        "AWS_SECRET_ACCESS_KEY": "planted-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)


def finish(*arguments):
    code, out, err = Program(*arguments).wait()
    assert code == 0, err
    return out


def metrics_of(run_dir):
    return [(event["kind"], event["step"], event["metrics"]) for event in read_metrics(run_dir)]


@pytest.mark.ray
def test_a_run_in_a_bucket_goes_on_from_its_url_alone(bucket, tmp_path, capsys):
    url, straight = f"{bucket}/runs/first", tmp_path / "straight"
    out = finish(QUICKSTART, *SMALL, f"run_dir={url}", "num_steps=2")
    assert f"r1 traces show {url}" in out
    shutil.rmtree(scratch_folder(url), ignore_errors=True)
    finish("--resume", url, "num_steps=4", "evaluate.every=2")
    finish(QUICKSTART, *SMALL, f"run_dir={straight}", "num_steps=4", "evaluate.every=2")

    main_ends(["traces", "ls", url])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["0", "1", "2", "2", "3", "4", "4"]
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
