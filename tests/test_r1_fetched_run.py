"""Commands given a URL: what is fetched, and that a second call fetches what is new."""

import json
from contextlib import nullcontext

import pytest
from stored_runs import ToldStorage, begin, config_at, write_checkpoint, write_step

from r1 import fetched_run, storage
from r1.cli.main import main
from r1.config_text import read_config
from r1.errors import UserError
from r1.fetched_run import local_model, local_run
from r1.storage import PROBE_S, StorageError, Stored


@pytest.fixture
def run(tmp_path, monkeypatch):
    """(what lies at the URL, a storage that notes what is fetched)."""
    monkeypatch.setattr(storage.tempfile, "tempdir", str(tmp_path / "node"))
    (tmp_path / "node").mkdir()
    there = tmp_path / "bucket/run"
    there.mkdir(parents=True)
    begin(there, config_at("s3://somewhere/else"))
    for step, accuracy in ((1, 0.9), (2, 0.1)):
        write_step(there, step, accuracy=accuracy)
        write_checkpoint(there, step)
    write_checkpoint(there, 3, is_finished=False)
    told = ToldStorage(f"file://{there}")
    monkeypatch.setattr(fetched_run, "open_storage", lambda url, option: told)
    return there, told


def fetched(told):
    names = [event.removeprefix("fetched ") for event in told.events]
    told.events.clear()
    return names


def test_a_second_call_fetches_what_is_new(run):
    there, told = run
    folder = local_run(told.url)
    assert folder.name == "run"
    assert fetched(told) == ["config.json", "traces/step-000001.parquet", "traces/step-000002.parquet", "metrics.jsonl"]
    local_run(told.url)
    assert fetched(told) == []
    write_step(there, 3)
    (there / "traces/step-000002.parquet").write_text("trace of 2, anew")
    (there / "traces/step-000001.parquet").unlink()
    assert local_run(told.url) == folder
    assert fetched(told) == ["traces/step-000002.parquet", "traces/step-000003.parquet", "metrics.jsonl"]
    assert sorted(path.name for path in (folder / "traces").iterdir()) == ["step-000002.parquet", "step-000003.parquet"]


def test_of_a_model_the_chosen_weights_come(run):
    _, told = run
    folder = storage.scratch_folder(told.url, "read")
    path, config = local_model(told.url, "best")
    assert path == str(folder / "checkpoints/step-000001/hf")
    assert config.name == "quickstart"
    assert [name for name in fetched(told) if name.endswith("safetensors")] == ["checkpoints/step-000001/hf/model.safetensors"]
    assert local_model(told.url)[0] == str(folder / "checkpoints/step-000002/hf")
    assert fetched(told) == ["checkpoints/step-000002/hf/model.safetensors"]
    with pytest.raises(UserError, match="no 'step-000003' in"):  # not finished
        local_model(told.url, "step-000003")


def listed_too(monkeypatch, there, told, name):
    """The listing has this name as well, as an object store may, and its file can be fetched."""
    planted = there / name
    planted.parent.resolve().mkdir(parents=True, exist_ok=True)
    planted.write_text("planted")
    files = told.files
    monkeypatch.setattr(told, "files", lambda folder="": files(folder) | {name: Stored(size=7, version="1")})


@pytest.mark.parametrize(
    "name", ["traces/../../planted/step-000001.parquet", "traces/notes.txt", "traces/more/step-000001.parquet", "traces/step-1.parquet"]
)
def test_of_a_run_only_its_own_files_are_fetched(run, monkeypatch, tmp_path, name):
    there, told = run
    listed_too(monkeypatch, there, told, name)
    local_run(told.url)
    assert not [path for path in (tmp_path / "node").rglob("*") if path.is_file() and path.read_text() == "planted"]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("x/../../planted/progress.json", None),
        ("checkpoints/step-000002/hf/../../../../planted", "'checkpoints/step-000002/hf/../../../../planted' of a file there leads out"),
    ],
)
def test_a_models_files_stay_in_its_folder(run, monkeypatch, tmp_path, name, error):
    there, told = run
    (there / "x").mkdir()
    listed_too(monkeypatch, there, told, name)
    with pytest.raises(UserError, match=error) if error else nullcontext():
        local_model(told.url)
    assert not [path for path in (tmp_path / "node").rglob("*") if path.is_file() and path.read_text() == "planted"]


def test_commands_take_a_url(run, capsys):
    _, told = run
    assert read_config(told.url).name == "quickstart"
    with pytest.raises(SystemExit) as ended:
        main(["traces", "ls", told.url])
    assert ended.value.code == 2
    assert "step-000001.parquet' is damaged" in capsys.readouterr().err  # found, and no Parquet file
    with pytest.raises(SystemExit) as ended:
        main(["report", f"{told.url}", "--samples", "0", "-o", str(storage.scratch_folder(told.url) / "r.html")])
    assert not ended.value.code


def test_urls_without_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(storage.tempfile, "tempdir", str(tmp_path))
    for command in (["traces", "ls"], ["report"], ["config", "show"]):
        with pytest.raises(SystemExit) as ended:
            main([*command, f"file://{tmp_path}/nothing"])
        assert ended.value.code == 2
        assert f"error: option 'RUN': 'file://{tmp_path}/nothing' is not a run, it has no config.json" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_storage_that_cannot_be_reached_is_said_by_the_first_short_call(run, monkeypatch):
    _, told = run
    limits = []

    def no_answer(work, what, limit_s):
        limits.append(limit_s)
        raise StorageError(f"{what}: no answer")

    monkeypatch.setattr(told, "_limited", no_answer)
    with pytest.raises(UserError, match="option 'RUN': .* no answer; check the URL"):
        local_run(told.url)
    assert limits == [PROBE_S]


def test_a_damaged_list_is_made_anew(run):
    _, told = run
    folder = local_run(told.url)
    (folder / ".fetched.json").write_text(json.dumps({}))
    fetched(told)
    local_run(told.url)
    assert "metrics.jsonl" in fetched(told)
