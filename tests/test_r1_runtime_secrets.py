"""One short run with everything that listens, and with secrets in its environment: who can reach it, and what it writes down."""

import secrets
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.parquet
import pytest
from processes import QUICKSTART, Program

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]

SECRETS = ("WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN")
SMALL = ("rollout.num_prompts=4", "rollout.group_size=2", "rollout.max_completion_tokens=16", "num_steps=2", "learner.num_ranks=2")
REST = ("evaluate.num_completions=0", "sync.max_logprob_diff=1", 'logging.trackers=["tensorboard","wandb"]')


@dataclass
class Seen:
    values: dict[str, str]
    """The planted secrets."""
    addresses: dict[tuple[str, int], str]
    """Where the run's processes listened, and the title of the one that did."""
    folders: list[Path]
    """What it wrote: the run folder, Ray's session."""
    output: str
    code: int


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("run") / "run"
    values = {name: secrets.token_hex(20) for name in SECRETS}  # 40 characters, as W&B wants its key
    # A short path: a socket's has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="r1-") as ray_dir, pytest.MonkeyPatch.context() as patch:
        for name, value in {**values, "WANDB_MODE": "offline", "RAY_TMPDIR": ray_dir}.items():
            patch.setenv(name, value)
        program = Program(QUICKSTART, f"run_dir={run_dir}", *SMALL, *REST)
        addresses = {}
        while program.process.poll() is None:
            addresses |= listening(program.process.pid)
            time.sleep(0.2)
        code, out, err = program.wait()
        yield Seen(values, addresses, [run_dir, Path(ray_dir)], out + err, code)


def listening(pid):
    found = {}
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        for process in processes:
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    found[connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port] = " ".join(process.cmdline())
    except psutil.Error:  # one that has just ended
        pass
    return found


def test_a_local_run_listens_on_the_loopback_address_alone(seen):
    assert seen.code == 0, seen.output
    for part in ("gcs_server", "raylet", "ray::LearnerWorker", "ray::RolloutWorker", "launch.train"):
        assert any(part in title for title in seen.addresses.values()), part
    assert {ip for ip, _ in seen.addresses} == {"127.0.0.1"}, seen.addresses


def test_secrets_of_the_environment_are_written_nowhere(seen):
    written = {"output": seen.output.encode()}
    for folder in seen.folders:
        for path in folder.rglob("*"):
            if path.is_file():
                written[str(path)] = readable(path)
    assert any("gcs_server" in path for path in written)
    assert any(path.endswith(".wandb") for path in written)
    found = [(name, path) for path, text in written.items() for name, value in seen.values.items() if value.encode() in text]
    assert not found


def readable(path):
    """What is in a file; traces are compressed."""
    if path.suffix != ".parquet":
        return path.read_bytes()
    table = pyarrow.parquet.read_table(path)
    return repr((table.to_pylist(), table.schema.metadata)).encode()
