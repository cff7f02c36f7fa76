"""Commands given a URL: what is fetched, and that a second call fetches what is new."""

import json
import threading
import time
from contextlib import nullcontext

import pytest
from scored_groups import scored_group
from stored_runs import ToldStorage, begin, config_at, wait_until, write_checkpoint, write_step

from r1 import fetched_run, storage
from r1.cli.main import main
from r1.config_text import read_config
from r1.errors import UserError
from r1.fetched_run import local_model, local_run
from r1.storage import PROBE_S, StorageError, Stored
from r1.traces import write_traces


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


@pytest.fixture
def long_run(run):
    """Twelve steps with traces that can be read, and evaluations after three of them."""
    there, told = run
    for step in range(3, 13):
        write_step(there, step)
    for step in range(1, 13):
        write_traces(there, step, [scored_group([f"text of {step}"], [0.5])], template="plain")
    for step in (0, 6, 12):
        write_traces(there, step, [scored_group([f"held out, {step}"], [0.5])], template="plain", split="heldout")
    return there, told


def r1_on(told, capsys, *arguments):
    """Exit code, output, errors, and the trace files that were fetched."""
    fetched(told)
    with pytest.raises(SystemExit) as ended:
        main([told.url if argument == "RUN" else argument for argument in arguments])
    traces = [name.removeprefix("traces/").removesuffix(".parquet") for name in fetched(told) if name.startswith("traces/")]
    return ended.value.code or 0, *capsys.readouterr(), traces


@pytest.mark.parametrize(
    ("command", "traces"),
    [
        ("traces show RUN", ["step-000012"]),
        ("traces show RUN --step 3", ["step-000003"]),
        ("traces group RUN --step 3", ["step-000003"]),
        ("traces group RUN --heldout --step 0", ["heldout-000000"]),
        ("traces diff RUN --steps 2,11", ["step-000002", "step-000011"]),
        ("report RUN --samples 0", []),
        # first, last, and multiples of five between; first and last evaluation
        ("report RUN --samples 4", ["heldout-000000", "heldout-000012", "step-000001", "step-000005", "step-000010", "step-000012"]),
        ("traces ls RUN", [*(f"heldout-{step:06d}" for step in (0, 6, 12)), *(f"step-{step:06d}" for step in range(1, 13))]),
    ],
)
def test_a_command_fetches_the_steps_that_it_reads(long_run, capsys, tmp_path, monkeypatch, command, traces):
    monkeypatch.chdir(tmp_path)
    code, _, err, names = r1_on(long_run[1], capsys, *command.split())
    assert (code, err) == (0, "")
    assert names == traces


def test_a_step_that_is_not_stored_is_said_with_those_that_are(long_run, capsys):
    _, told = long_run
    code, out, err, names = r1_on(told, capsys, "traces", "show", "RUN", "--step", "99")
    assert (code, out, names) == (2, "", [])
    assert err == f"error: no train traces of step 99 in '{told.url}'; steps with traces: 1-12\n"


def test_show_goes_back_to_a_step_that_holds_any(long_run, capsys):
    there, told = long_run
    r1_on(told, capsys, "traces", "show", "RUN", "--step", "3")  # lies here, and is none of the last
    for step in (11, 12):
        write_traces(there, step, [], template="plain")
    code, out, _, names = r1_on(told, capsys, "traces", "show", "RUN")
    assert code == 0
    assert "text of 10" in out
    assert names == ["step-000012", *(f"step-{step:06d}" for step in range(4, 12))]


def test_what_an_earlier_command_fetched_is_not_shown_when_it_is_out_of_date(long_run, capsys):
    there, told = long_run
    folder = local_run(told.url)
    time.sleep(0.01)
    write_traces(there, 5, [scored_group(["anew"], [0.5])], template="plain")
    (there / "traces/step-000004.parquet").unlink()
    r1_on(told, capsys, "traces", "show", "RUN", "--step", "3")
    left = sorted(path.name for path in (folder / "traces").glob("step-*"))
    assert left == [f"step-{step:06d}.parquet" for step in range(1, 13) if step not in (4, 5)]


def test_two_commands_at_once_note_what_each_has_fetched(long_run, monkeypatch):
    _, told = long_run
    download = told.download

    def download_while_another_does(name, folder, size=0):
        download(name, folder, size)
        if name == "traces/step-000003.parquet":
            local_run(told.url, lambda split, stored: [step for step in stored if step == 5])

    monkeypatch.setattr(told, "download", download_while_another_does)
    folder = local_run(told.url, lambda split, stored: [step for step in stored if step == 3])
    noted = json.loads((folder / ".fetched.json").read_text())
    assert {name for name in noted if name.startswith("traces/")} == {"traces/step-000003.parquet", "traces/step-000005.parquet"}


def test_what_was_fetched_before_an_error_is_noted(long_run, monkeypatch):
    _, told = long_run
    download = told.download

    def fails_at_the_third(name, folder, size=0):
        if name == "traces/step-000003.parquet":
            raise StorageError("the cable is out")
        download(name, folder, size)

    monkeypatch.setattr(told, "download", fails_at_the_third)
    with pytest.raises(UserError, match="the cable is out"):
        local_run(told.url, lambda split, stored: stored if split == "train" else ())
    noted = json.loads((storage.scratch_folder(told.url, "read") / ".fetched.json").read_text())
    assert sorted(noted) == ["config.json", "traces/step-000001.parquet", "traces/step-000002.parquet"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_is_followed_is_what_was_chosen(long_run, monkeypatch):
    there, told = long_run
    folder = local_run(told.url, lambda split, stored: stored[-1:])
    monkeypatch.setattr(fetched_run, "FOLLOW_EVERY_S", 0.01)
    fetched_run.follow([told.url], lambda split, stored: stored[-1:] if split == "train" else ())
    for step in (13, 14):
        write_step(there, step)
    wait_until((folder / "traces/step-000014.parquet").is_file)
    assert not (folder / "traces/step-000011.parquet").exists()

    def end(url, choose):
        raise SystemExit  # which ends a thread, and says nothing

    monkeypatch.setattr(fetched_run, "local_run", end)
    for thread in threading.enumerate():
        if thread.name == "r1-follow":
            thread.join(5.0)


def test_a_damaged_list_is_made_anew(run):
    _, told = run
    folder = local_run(told.url)
    (folder / ".fetched.json").write_text(json.dumps({}))
    fetched(told)
    local_run(told.url)
    assert "metrics.jsonl" in fetched(told)
