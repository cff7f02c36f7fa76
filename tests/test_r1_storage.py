"""A folder at a URL: fsspec's file and memory systems, and some that fail."""

import sys
import threading
import time
import uuid

import fsspec
import pytest

from r1 import storage as storage_module
from r1.errors import UserError
from r1.storage import PROBE_S, StorageError, checked_url, is_url, limited, make_scratch, open_storage, scratch_folder


@pytest.fixture(params=["file", "memory"])
def storage(request, tmp_path):
    return open_storage(f"file://{tmp_path}/bucket/run" if request.param == "file" else f"memory://{uuid.uuid4().hex}/run")


def test_files_go_there_and_come_back(storage, tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert storage.files() == {}
    assert storage.read("traces/a") is None
    storage.upload(tmp_path / "a", "traces/a")
    storage.write("b", b"6")
    assert [(name, stored.size) for name, stored in storage.files().items()] == [("b", 1), ("traces/a", 5)]
    assert list(storage.files("traces")) == ["traces/a"]
    storage.download("traces/a", tmp_path / "x")
    assert (tmp_path / "x/traces/a").read_bytes() == b"12345"
    assert [path.name for path in (tmp_path / "x/traces").iterdir()] == ["a"]
    storage.remove(["b", "never there"])
    assert list(storage.files()) == ["traces/a"]
    storage.probe()
    assert list(storage.files()) == ["traces/a"], "the probe has left something"


@pytest.mark.parametrize("name", ["traces/../../planted", "..", "/planted", ""])
def test_a_name_that_leads_out_of_the_folder_is_refused(storage, tmp_path, name):
    with pytest.raises(StorageError, match=f"the name '{name}' of a file there leads out of the folder"):
        storage.download(name, tmp_path / "node/run")
    assert not (tmp_path / "node").exists()


def test_another_content_is_another_version(storage):
    storage.write("a", b"1")
    before = storage.files()["a"].version
    time.sleep(0.01)
    storage.write("a", b"2")
    assert storage.files()["a"].version != before


def test_an_upload_that_is_cut_off_leaves_the_old_file(tmp_path, monkeypatch):
    storage = open_storage(f"file://{tmp_path}/run")
    storage.write("progress.json", b"old")

    def half(self, path, target, **options):
        with open(target, "wb") as file:
            file.write(b"ne")
        raise OSError("killed half-way")

    monkeypatch.setattr(fsspec.implementations.local.LocalFileSystem, "put_file", half)
    for name in ("progress.json", "new.json"):
        with pytest.raises(StorageError, match=f"did not take {name}: OSError: killed half-way"):
            storage.write(name, b"new")
    assert storage.read("progress.json") == b"old"
    assert list(storage.files()) == ["progress.json"]


def test_an_upload_to_a_folder_is_flushed_before_it_takes_its_name(tmp_path, monkeypatch):
    storage, done = open_storage(f"file://{tmp_path}/run"), []
    move = storage._filesystem.mv
    monkeypatch.setattr(storage_module, "flush", lambda path: done.append(path.name))
    monkeypatch.setattr(storage._filesystem, "mv", lambda *names: (done.append("mv"), move(*names)))
    storage.write("traces/a", b"1")
    assert done == [".a.tmp", "mv", "traces"]


def test_a_call_that_hangs_ends_at_its_limit():
    never = threading.Event()
    with pytest.raises(StorageError, match="s3://b did not answer: no answer within 0 s"):
        limited(never.wait, "s3://b did not answer", 0.05)
    never.set()
    assert PROBE_S <= 25


def test_a_late_call_does_not_undo_a_later_one(tmp_path, monkeypatch):
    storage = open_storage(f"memory://{uuid.uuid4().hex}/run")
    may_end, sent = threading.Event(), []

    def put(path, target):  # as s3fs: it reads a file, then sends it; the first time that takes long
        content = path_of_file.read_bytes()
        sent.append(content)
        if len(sent) == 1:
            may_end.wait(5.0)
        storage._filesystem.pipe_file(target, content)

    path_of_file = tmp_path / "metrics.jsonl"
    monkeypatch.setattr(storage._filesystem, "put_file", put)
    monkeypatch.setattr(storage_module, "CALL_S", 0.05)
    path_of_file.write_text("old")
    with pytest.raises(StorageError, match="did not take metrics.jsonl: no answer within"):
        storage.upload(path_of_file, "metrics.jsonl")
    for change in (lambda: storage.upload(path_of_file, "metrics.jsonl"), lambda: storage.remove(["metrics.jsonl"])):
        with pytest.raises(StorageError, match="an earlier call for metrics.jsonl has not ended"):
            change()
    monkeypatch.setattr(storage_module, "CALL_S", 5.0)
    path_of_file.write_text("new")
    threading.Timer(0.05, may_end.set).start()
    storage.upload(path_of_file, "metrics.jsonl")
    assert sent == [b"old", b"new"]
    assert storage.read("metrics.jsonl") == b"new"


def test_a_storage_that_gives_back_other_bytes_is_found(tmp_path, monkeypatch):
    storage = open_storage(f"file://{tmp_path}/run")
    monkeypatch.setattr(fsspec.implementations.local.LocalFileSystem, "cat_file", lambda self, path: b"??")
    with pytest.raises(StorageError, match="other bytes"):
        storage.probe()


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("s3://", ["names no folder"]),
        ("file:///", ["names no folder"]),
        ("file:///mnt/runs/..", ["names no folder"]),
        ("s3://bucket/./", ["names no folder"]),
        ("simplecache::s3://bucket/run", ["chain"]),
        ("nonsense://bucket/run", ["cannot be used", "nonsense"]),
        ("gs://bucket/run", ["needs the package gcsfs", "pip install 'r1[gcs]'"]),
    ],
)
def test_urls_that_cannot_work(url, parts, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as if it were not installed
    with pytest.raises(UserError) as caught:
        open_storage(url)
    assert all(part in str(caught.value) for part in ["option 'run_dir'", *parts]), caught.value


def test_a_package_that_hangs_when_it_is_opened_is_said(tmp_path, monkeypatch):
    never = threading.Event()
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda url: never.wait(5.0))
    monkeypatch.setattr(storage_module, "OPEN_S", 0.05)
    with pytest.raises(UserError, match=r"option 'RUN': file://.* cannot be opened: no answer within 0 s; check the network"):
        open_storage(f"file://{tmp_path}/run", "RUN")
    never.set()
    assert storage_module.OPEN_S + PROBE_S < 30


def test_a_password_is_refused_and_not_repeated():
    with pytest.raises(UserError) as caught:
        open_storage("s3://key:hunter2@bucket/run")
    assert "holds a password" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert checked_url("sftp://me@host/run/") == "sftp://me@host/run"


def test_what_is_a_url():
    assert [is_url(text) for text in ("s3://b/r", "runs/a", "/a://b", None)] == [True, False, False, False]


def test_scratch_is_the_same_place_each_time_and_nobody_elses(tmp_path, monkeypatch):
    monkeypatch.setattr(storage_module.tempfile, "tempdir", str(tmp_path))
    folder = scratch_folder("s3://bucket/runs/first")
    assert folder == scratch_folder("s3://bucket/runs/first")
    assert folder.name == "first"
    assert folder != scratch_folder("s3://other/runs/first")
    make_scratch(folder)
    assert folder.parents[2].stat().st_mode & 0o077 == 0
    monkeypatch.setattr(storage_module.os, "getuid", lambda: 4711)
    folder.parents[2].rename(tmp_path / "r1-4711")
    with pytest.raises(UserError, match="belongs to somebody else"):
        make_scratch(scratch_folder("s3://bucket/runs/first"))
