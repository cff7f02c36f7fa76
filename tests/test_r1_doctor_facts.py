"""What is gathered on this machine, and from small fakes of what it has not."""

import json
import os
import socket
import sys

import pytest

from r1.doctor import facts
from r1.doctor.versions import PACKAGES, TESTED


def test_the_facts_of_this_machine_are_plain_values_and_right(tmp_path):
    (tmp_path / "token").write_text("a token")
    request = {
        "packages": PACKAGES,
        "model": str(tmp_path),
        "files": [str(tmp_path / "none.jsonl")],
        "reward_files": [__file__],
        "run_dir": str(tmp_path / "not" / "yet"),
        "token": str(tmp_path / "token"),
    }
    found = facts.gather(request)
    assert json.loads(json.dumps(found))["host"] == socket.gethostname()
    assert found["packages"]["ray"] == TESTED["ray"].newest
    assert found["disk"]["path"] == str(tmp_path)
    assert found["disk"]["writable"]
    assert found["token"] == "a token"
    assert found["files"] == {str(tmp_path / "none.jsonl"): False}
    assert found["reward_files"] == {__file__: True}
    assert found["model"] == {"kind": "folder", "found": True, "has_config": False, "files": {}, "hub": None}
    assert 0 < found["memory_free"] < found["memory"]
    assert len(found["code"]) == 12
    assert {folders[0] for folders in found["origins"].values()} == {found["origins"]["r1"][0]}


def test_a_stale_copy_is_found_and_the_code_of_the_first_one_counts(tmp_path, monkeypatch):
    before = facts.gather({"packages": ()})
    stale = tmp_path / "stale"
    for name in facts.OURS:
        (stale / name).mkdir(parents=True)
        (stale / name / "__init__.py").write_text("")
    monkeypatch.setattr(sys, "path", [*sys.path, str(stale)])
    behind = facts.gather({"packages": ()})
    assert behind["origins"]["r1"] == [*before["origins"]["r1"], str(stale)]
    assert behind["code"] == before["code"]


def test_the_code_digest_is_that_of_the_files(tmp_path, monkeypatch):
    for name in facts.OURS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    monkeypatch.setattr(facts, "_origins", lambda name: [str(tmp_path)])
    before = facts._code_digest()
    (tmp_path / "tasks" / "new.py").write_text("x = 1\n")
    assert facts._code_digest() != before
    (tmp_path / "tasks" / "new.py").unlink()
    (tmp_path / "tasks" / "notes.txt").write_text("no code")
    assert facts._code_digest() == before


def test_a_folder_that_cannot_even_be_looked_for_is_a_fact(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("y" * 300)))
    found = facts.gather({"packages": (), "run_dir": str(tmp_path / ("x" * 300))})
    assert (found["disk"]["writable"], found["disk"]["why"]) == (False, "File name too long")
    assert found["ray_disk"] is None


def nvidia_smi(folder, text, code=0):
    """A program of that name, first on the path."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


TWO_GPUS = "0, GPU-1f00, NVIDIA H100, 580.1, 81559, 81000\n1, GPU-2e00, NVIDIA GB10, 580.1, [N/A], [N/A]"


def test_gpus_are_what_nvidia_smi_says(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", nvidia_smi(tmp_path, TWO_GPUS))
    found = facts._gpus()
    assert found["gpu_error"] is None
    assert found["gpus"] == [
        {"name": "NVIDIA H100", "driver": "580.1", "total": 81559 * 2**20, "free": 81000 * 2**20},
        {"name": "NVIDIA GB10", "driver": "580.1", "total": None, "free": None},
    ]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("0,1", ["H100", "GB10"]),
        ("1, 0", ["GB10", "H100"]),
        ("1", ["GB10"]),
        ("GPU-2e", ["GB10"]),
        ("", []),
        ("NoDevFiles", []),
        ("0,-1,1", ["H100"]),
        ("MIG-3d", ["H100", "GB10"]),
    ],
)
def test_gpus_are_those_that_cuda_visible_devices_leaves(visible, expected, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("PATH", nvidia_smi(tmp_path, TWO_GPUS))
    assert [gpu["name"].removeprefix("NVIDIA ") for gpu in facts._gpus()["gpus"]] == expected


def test_a_driver_that_fails_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", nvidia_smi(tmp_path, "Failed to initialize NVML: Driver/library version mismatch", code=18))
    assert facts._gpus() == {"gpus": [], "gpu_error": "Failed to initialize NVML: Driver/library version mismatch"}


def test_listeners_have_addresses_and_owners():
    pytest.importorskip("psutil")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        [found] = facts._listeners(listener.getsockname()[1])
        assert found["address"] == "127.0.0.1"
        assert found["owner"] != "ray"
    assert facts._listeners(1) == []
