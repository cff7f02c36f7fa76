"""What a submitted run takes along: measured as Ray packs it, and refused when it is large."""

import zipfile

import pytest
from ray._private.runtime_env.packaging import create_package
from tiny import ROOT

from r1.errors import UserError
from r1.runtime import upload


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
