"""A run's folder and its copy at a URL: what goes when, and what is tried again."""

import os
import signal
import threading

import pytest
from stored_runs import ToldStorage, begun, config_at, sent, wait_until, write_checkpoint, write_step
from tiny import tiny_config

from r1 import mirror_pass, storage
from r1.errors import RunError, UserError
from r1.faults import FaultLog
from r1.run_folder import removed_unless_begun
from r1.run_mirror import RunMirror
from r1.run_place import new_place
from r1.stopping import Stopped
from r1.storage import StorageError


@pytest.fixture
def url(tmp_path, monkeypatch):
    monkeypatch.setattr(storage.tempfile, "tempdir", str(tmp_path / "node"))
    (tmp_path / "node").mkdir()
    return f"file://{tmp_path}/bucket/run"


def test_all_is_there_in_an_order_that_can_be_cut_anywhere(url):
    place, told = begun(url)
    write_step(place.folder, 1, accuracy=0.5)
    write_checkpoint(place.folder, 1)
    (place.folder / "traces/.step-000002.parquet.tmp").write_text("half")
    (place.folder / "tensorboard").mkdir()
    (place.folder / "tensorboard/events").write_text("e")
    (place.folder / "wandb").mkdir()
    (place.folder / "wandb/run-id").write_text("id")
    (place.folder / "wandb/log").write_text("stays")
    faults = FaultLog()
    with RunMirror(place, faults):
        pass
    checkpoint = "checkpoints/step-000001"
    assert sent(told) == [
        "writer.json",
        *["config.json", "metrics.jsonl", "traces/step-000001.parquet", "tensorboard/events", "wandb/run-id"],
        *[f"{checkpoint}/{name}" for name in ("config.json", "hf/model.safetensors", "learner/.metadata", "learner/__0_0.distcp")],
        f"{checkpoint}/progress.json",
    ]
    assert told.read(f"{checkpoint}/learner/__0_0.distcp") == b"learner/__0_0.distcp of 1"
    assert faults.faults == []
    place.remove_scratch()
    assert not place.folder.parent.exists()


def test_only_what_is_new_or_changed_goes_again(url):
    place, told = begun(url)
    with RunMirror(place, FaultLog()) as mirror:
        write_step(place.folder, 1)
        mirror.wake()
        wait_until(lambda: "sent traces/step-000001.parquet" in told.events)
        write_step(place.folder, 2)
    assert sent(told) == [
        *["writer.json", "config.json", "metrics.jsonl", "traces/step-000001.parquet"],
        *["metrics.jsonl", "traces/step-000002.parquet"],
    ]


def test_what_trackers_keep_on_the_disk_goes_when_they_have_closed_it(url):
    place, told = begun(url)
    kept = ["trackio/r1.db", "wandb/offline-run-1/files/a.txt", "wandb/offline-run-1/run-1.wandb", "wandb/run-2/run-2.wandb"]
    for name in [*kept, "wandb/debug.log"]:
        path = place.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    (place.folder / "wandb/offline-run-1/core.log").symlink_to(place.folder / "wandb/debug.log")
    with RunMirror(place, FaultLog()) as mirror:
        write_step(place.folder, 1)
        mirror.wake()
        wait_until(lambda: "traces/step-000001.parquet" in sent(told))
        (place.folder / "trackio/r1.db").write_text("whole")
    assert [name for name in sent(told) if name.startswith(("trackio", "wandb"))] == kept
    assert told.read("trackio/r1.db") == b"whole"


def test_uploads_go_beside_the_training(url):
    place, told = begun(url)
    told.holds.clear()
    with RunMirror(place, FaultLog()) as mirror:
        mirror.wake()  # returns, though nothing is taken
        write_step(place.folder, 1)
        mirror.wake()
        assert sent(told) == []
        told.holds.set()
    assert "traces/step-000001.parquet" in sent(told)


def test_a_checkpoint_waits_for_its_metrics(url):
    place, told = begun(url)
    write_step(place.folder, 1)
    write_checkpoint(place.folder, 1)
    write_checkpoint(place.folder, 2, is_finished=False)
    told.fails = lambda name: name == "metrics.jsonl"
    with pytest.raises(RunError), RunMirror(place, FaultLog(), end_limit_s=0):
        pass
    assert not [name for name in told.files() if name.startswith("checkpoints")]
    told.fails = lambda name: False
    with RunMirror(place, FaultLog()):
        pass
    assert "checkpoints/step-000001/progress.json" in told.files()
    assert not [name for name in told.files() if "step-000002" in name]


def test_a_checkpoint_that_comes_meanwhile_does_not_overtake_its_metrics(url):
    place, told = begun(url)
    write_step(place.folder, 1)

    def train_on(name):  # while the first trace is sent, and after the metrics were
        if name == "traces/step-000001.parquet":
            write_step(place.folder, 2)
            write_checkpoint(place.folder, 2)
        return False

    told.fails = train_on
    with RunMirror(place, FaultLog()) as mirror:
        mirror.wake()
        wait_until(lambda: sent(told)[-1:] == ["traces/step-000001.parquet"])
    names = sent(told)
    assert names.count("metrics.jsonl") == 2
    last_metrics = max(place for place, name in enumerate(names) if name == "metrics.jsonl")
    assert last_metrics < min(place for place, name in enumerate(names) if name.startswith("checkpoints/step-000002"))


def test_what_fails_once_is_a_fault_and_goes_at_the_next_step(url):
    place, told = begun(url)
    faults = FaultLog()
    failing = [True]
    told.fails = lambda name: name == "config.json" and failing[0]
    with RunMirror(place, faults) as mirror:
        mirror.wake()
        wait_until(lambda: faults.faults)
        mirror.wake()
        wait_until(lambda: told.events.count("failed config.json") == 2)
        failing[0] = False
        mirror.wake()
        wait_until(lambda: "config.json" in sent(told))
    assert faults.counts() == {"faults/storage": 1.0}, "said once, though it failed twice"
    assert "the cable is out; the run goes on" in faults.faults[0].text


def test_a_checkpoint_that_other_nodes_need_is_there_or_the_run_cannot_go_on(url):
    place, told = begun(url)
    write_step(place.folder, 1)
    write_checkpoint(place.folder, 1)
    checkpoint = place.folder / "checkpoints/step-000001"
    is_away = [True]
    told.fails = lambda name: name.endswith(".distcp") and is_away[0]
    with RunMirror(place, FaultLog()) as mirror:
        with pytest.raises(StorageError) as caught:
            mirror.send_checkpoint(checkpoint)
        assert str(checkpoint) in str(caught.value)
        assert "the cable is out" in str(caught.value)
        assert "go on with --resume" in str(caught.value)
        assert "checkpoints/step-000001/progress.json" not in sent(told)
        is_away[0] = False
        mirror.send_checkpoint(checkpoint)
        assert sent(told)[-1] == "checkpoints/step-000001/progress.json"
        num_events = len(told.events)
        mirror.send_checkpoint(checkpoint)
        assert len(told.events) == num_events, "what is there does not go again"


def test_storage_that_never_comes_back_ends_in_the_name_of_the_folder(url):
    place, told = begun(url)
    told.fails = lambda name: name != "writer.json"
    for step in range(1, 8):
        write_step(place.folder, step)
    with pytest.raises(RunError) as caught, RunMirror(place, FaultLog(), end_limit_s=0):
        pass
    assert all(part in str(caught.value) for part in (url, str(place.folder), "the cable is out", f"--resume {url}"))
    assert len(told.events) == 1 + mirror_pass.MAX_FAILURES, "each of many files may cost a time limit"
    assert (place.folder / "traces/step-000007.parquet").is_file()
    told.remove(["writer.json"])  # as if the storage had been away from the start
    with pytest.raises(UserError, match="holds a run for .* that was not sent there"):
        new_place(config_at(url), told)


def test_how_a_run_ended_is_not_hidden_by_its_storage(url):
    place, told = begun(url)
    told.fails = lambda name: True
    faults = FaultLog()
    with pytest.raises(KeyError, match="of the run"), RunMirror(place, faults, end_limit_s=0):
        raise KeyError("of the run")
    assert str(place.folder) in faults.faults[-1].text


@pytest.fixture
def ctrl_c():
    """Makes Ctrl-C an interrupt: a shell's background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def end_by(number):
    """Send this process a signal, once somebody handles it or should have."""
    for _ in range(50):
        if signal.getsignal(number) not in (signal.default_int_handler, signal.SIG_DFL):
            break
        threading.Event().wait(0.01)
    os.kill(os.getpid(), number)
    return True


def leave(mirror, told, error=None):
    """As a run that has begun leaves its mirror, with files that are not sent yet."""
    with mirror:
        mirror.wake()
        wait_until(lambda: "config.json" in sent(told))
        write_step(mirror._place.folder, 1)
        if error:
            raise error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_for_storage(url, number, ctrl_c):
    place, told = begun(url)
    told.fails = lambda name: name == "metrics.jsonl" and end_by(number)
    with pytest.raises(RunError) as caught:
        leave(RunMirror(place, FaultLog()), told)
    assert all(part in str(caught.value) for part in (url, f"everything lies in {place.folder}", f"--resume {url}"))


def test_how_a_run_was_stopped_is_not_hidden_by_a_second_signal(url, ctrl_c):
    place, told = begun(url)
    told.fails = lambda name: name == "metrics.jsonl" and end_by(signal.SIGINT)
    faults = FaultLog()
    with pytest.raises(Stopped, match="SIGTERM, stopped after step 1"):
        leave(RunMirror(place, faults), told, Stopped(signal.SIGTERM, 1))
    assert f"everything lies in {place.folder}" in faults.faults[-1].text


def test_an_upload_that_is_interrupted_is_not_taken_for_done(url, ctrl_c):
    place, told = begun(url)
    may_end = threading.Event()
    told.fails = lambda name: name == "metrics.jsonl" and end_by(signal.SIGINT) and not may_end.wait(5.0)
    with pytest.raises(RunError, match="interrupted while it was sent; everything lies in"):
        leave(RunMirror(place, FaultLog()), told)
    may_end.set()


def test_of_a_run_that_never_began_nothing_is_there(url):
    told = ToldStorage(url)
    place = new_place(config_at(url), told)
    with pytest.raises(KeyError), removed_unless_begun(place.folder, tiny_config()), RunMirror(place, FaultLog()):
        raise KeyError
    assert told.files() == {}
    assert not place.folder.exists()


def test_a_run_that_goes_back_takes_its_traces_along(url):
    place, told = begun(url)
    for step in (1, 2, 3):
        write_step(place.folder, step)
    (place.folder / "tensorboard").mkdir()
    (place.folder / "tensorboard/events.1").write_text("e")
    with RunMirror(place, FaultLog()) as mirror:
        mirror.wake()
        wait_until(lambda: "tensorboard/events.1" in sent(told))
        for step in (2, 3):
            (place.folder / f"traces/step-{step:06d}.parquet").unlink()
        (place.folder / "tensorboard/events.1").rename(place.folder / "tensorboard/events.2")
        write_step(place.folder, 2)  # anew already
        mirror.rewind(1)
    names = [name for name in told.files() if "/" in name]
    assert names == ["tensorboard/events.2", "traces/step-000001.parquet", "traces/step-000002.parquet"]


def test_a_run_that_goes_on_takes_its_summary_back(url):
    place, told = begun(url)
    write_step(place.folder, 1)
    (place.folder / "summary.json").write_text("of step 1")
    with RunMirror(place, FaultLog()):
        pass
    assert "summary.json" in told.files()
    (place.folder / "summary.json").unlink()  # by begin_run, of the process that goes on
    with RunMirror(place, FaultLog()) as mirror:
        mirror.rewind(1)
        wait_until(lambda: "summary.json" not in told.files())
        write_step(place.folder, 2)
        (place.folder / "summary.json").write_text("of step 2")
    assert told.read("summary.json") == b"of step 2"


def test_old_checkpoints_go_as_in_the_folder_and_stop_being_one_first(url):
    place, told = begun(url)
    for step in range(1, 6):
        write_step(place.folder, step, accuracy=0.9 if step == 1 else 0.1)
        write_checkpoint(place.folder, step)
    told.write("checkpoints/step-000003/extra", b"")
    told.write("checkpoints/step-000000/learner/.metadata", b"cut off")
    with RunMirror(place, FaultLog()):
        pass
    steps = {name.split("/")[1] for name in told.files("checkpoints")}
    assert steps == {"step-000001", "step-000003", "step-000004", "step-000005"}, "the last three and the best"
    removed = [event for event in told.events if event.startswith("removed checkpoints/step-000002")]
    assert removed[0].endswith("progress.json")
    assert len(removed) == 5
