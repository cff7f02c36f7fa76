"""How a run begins at a URL, and how it comes back from there."""

import json
import os

import pytest
from stored_runs import ToldStorage, begin, begun, config_at, sent, write_checkpoint, write_step

from r1 import storage
from r1.checkpoint import latest_checkpoint
from r1.errors import RunError, UserError
from r1.faults import FaultLog
from r1.run_lock import FILE as LOCK
from r1.run_lock import locked
from r1.run_mirror import RunMirror
from r1.run_place import begin_writing, is_begun_at, new_place, place_lines, resumed_place, storage_of


@pytest.fixture
def url(tmp_path, monkeypatch):
    monkeypatch.setattr(storage.tempfile, "tempdir", str(tmp_path / "node"))
    (tmp_path / "node").mkdir()
    return f"file://{tmp_path}/bucket/run"


def finished(url, num_steps=2, **options):
    """A run that is at the URL, with a checkpoint of each step; its scratch folder is gone unless `keep`."""
    place, told = begun(url)
    for step in range(1, num_steps + 1):
        write_step(place.folder, step)
        write_checkpoint(place.folder, step)
    with RunMirror(place, FaultLog()):
        pass
    if not options.get("keep"):
        place.remove_scratch()
    return place, told


def test_a_run_comes_back_from_its_url_alone(url):
    _, told = finished(url)
    told.events.clear()
    place = resumed_place(url, told)
    checkpoint = "checkpoints/step-000002"
    names = ["config.json", "metrics.jsonl", *(f"{checkpoint}/{n}" for n in ("learner/.metadata", "config.json", "progress.json"))]
    assert told.events == [f"fetched {name}" for name in names]
    assert latest_checkpoint(place.folder)[1].step == 2
    told.events.clear()
    assert resumed_place(url, told) == place
    assert told.events == [], "what is there was fetched again"
    write_step(place.folder, 3)
    with RunMirror(place, FaultLog()):
        pass
    assert sent(told) == ["writer.json", "metrics.jsonl", "traces/step-000003.parquet"]


@pytest.mark.parametrize("missing", ["progress.json", "learner/.metadata"])  # an upload was killed, or a removal by hand
def test_a_checkpoint_that_is_not_all_there_is_not_taken(url, missing):
    _, told = finished(url)
    told.remove([f"checkpoints/step-000002/{missing}"])
    assert latest_checkpoint(resumed_place(url, told).folder)[1].step == 1


def test_what_storage_did_not_take_is_not_lost(url):
    place, told = begun(url)
    told.fails = lambda name: "step-000002" in name
    for step in (1, 2):
        write_step(place.folder, step)
        write_checkpoint(place.folder, step)
    with pytest.raises(RunError), RunMirror(place, FaultLog(), end_limit_s=0):
        pass
    told.fails = lambda name: False
    again = resumed_place(url, told)
    assert again == place
    assert latest_checkpoint(place.folder)[1].step == 2
    with RunMirror(again, FaultLog()):
        pass
    assert "checkpoints/step-000002/progress.json" in told.files()


def test_a_scratch_folder_that_was_overtaken_is_made_anew(url):
    place, told = finished(url, keep=True)
    (place.folder / "traces/step-000009.parquet").write_text("of another life")
    told.write("writer.json", json.dumps({"writer": "another process"}).encode())
    resumed_place(url, told)
    assert not (place.folder / "traces").exists()


def test_a_copy_that_somebody_keeps_beside_the_checkpoints_is_none_of_them(url):
    _, told = finished(url)
    for name in ("progress.json", "learner/.metadata"):
        told.write(f"checkpoints/step-000009-best/{name}", b"{}")
    assert latest_checkpoint(resumed_place(url, told).folder)[1].step == 2


def test_a_process_killed_before_its_first_upload_does_not_overtake(url):
    place, told = finished(url, keep=True)
    told.fails = lambda name: True
    with pytest.raises(RunError), RunMirror(resumed_place(url, told), FaultLog(), end_limit_s=0):
        pass
    told.fails = lambda name: False
    resumed_place(url, told)
    assert (place.folder / "traces/step-000001.parquet").is_file()


def test_processes_killed_while_they_start_up_do_not_overtake(url):
    place, told = begun(url)
    write_step(place.folder, 1)
    write_checkpoint(place.folder, 1)
    told.fails = lambda name: "checkpoints" in name
    with pytest.raises(RunError), RunMirror(place, FaultLog(), end_limit_s=0):
        pass
    told.fails = lambda name: False
    for _ in range(3):  # each was killed before its first upload: the URL knows the name of the very first process
        assert latest_checkpoint(resumed_place(url, told).folder)[1].step == 1
        begin_writing(place.folder)


def test_a_second_start_on_the_node_leaves_a_live_runs_folder_alone(url):
    told = ToldStorage(url)
    place = new_place(config_at(url), told)
    with locked(place.folder):  # it starts up: nothing is at the URL, and no config.json here
        (place.folder / "tensorboard").mkdir()
        for start in (lambda: new_place(config_at(url), told), lambda: resumed_place(url, told)):
            with pytest.raises(UserError, match=rf"is being written by process {os.getpid()} on .*; wait for it, or stop it first"):
                start()
        assert (place.folder / "tensorboard").is_dir()
        lock = (place.folder / LOCK).stat().st_ino
    assert new_place(config_at(url), told) == place
    assert sorted(path.name for path in place.folder.iterdir()) == [".mirror.json", LOCK]
    assert (place.folder / LOCK).stat().st_ino == lock, "with another file two processes hold a lock each"


def test_urls_that_are_taken_or_hold_no_run(url):
    _, told = finished(url)
    with pytest.raises(UserError, match=f"{url}' exists already; choose another URL, or go on in it with --resume {url}"):
        new_place(config_at(url), told)
    with pytest.raises(UserError, match="exists already"):
        place_lines(config_at(url))
    with pytest.raises(UserError, match=r"option '--resume': .*/nothing' is not a run, it has no config.json"):
        resumed_place(f"{url}/nothing", ToldStorage(f"{url}/nothing"))
    with pytest.raises(UserError, match="memory of one process"):
        storage_of(config_at("memory://bucket/run"), None)


def test_a_process_that_left_nothing_but_its_name_has_left_no_run(url):
    told = ToldStorage(url)
    name = json.dumps({"writer": "killed before config.json"}).encode()
    told.write("writer.json", name)
    assert not is_begun_at(told)
    place = new_place(config_at(url), told)
    begin(place.folder, config_at(url))
    write_checkpoint(place.folder, 1)
    begin_writing(place.folder)
    told.write("writer.json", name)  # another one, while this run could not send anything
    assert latest_checkpoint(resumed_place(url, told).folder)[1].step == 1


def test_a_dry_run_says_both_places_and_makes_neither(url, tmp_path):
    lines = place_lines(config_at(url))
    assert lines[0] == f"{url}/"
    assert str(tmp_path / "node") in lines[1]
    assert not (tmp_path / "bucket").exists()
    assert list((tmp_path / "node").iterdir()) == []


def test_unreachable_storage_is_the_users_to_mend(url, tmp_path):
    (tmp_path / "bucket").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"option 'run_dir': .* cannot be written to: .*; check the URL"):
        storage_of(config_at(url), None)
    assert list((tmp_path / "node").iterdir()) == []
