"""--continue: which run the same command goes on in; and one writer for a folder."""

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import asdict
from json import dumps
from pathlib import Path

import pytest
from tiny import ROOT, tiny_config

from r1 import storage
from r1.errors import RunError, UserError
from r1.run_choice import choose_run
from r1.run_folder import removed_unless_begun
from r1.run_lock import FILE as LOCK
from r1.run_lock import holder_of, locked
from r1.types import Progress


def write_run(folder, *overrides, step=None, evaluated=(0,), started=1):
    """A run folder with a checkpoint of `step`, if there is one."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(tiny_config("num_steps=4", *overrides).model_dump_json())
    os.utime(folder / "config.json", (started, started))
    (folder / "metrics.jsonl").write_text(
        "".join(dumps({"kind": "heldout", "step": number, "metrics": {"accuracy": 0.5}}) + "\n" for number in evaluated)
    )
    if step is not None:
        checkpoint = folder / f"checkpoints/step-{step:06d}"
        (checkpoint / "learner").mkdir(parents=True)
        (checkpoint / "learner/.metadata").touch()
        (checkpoint / "progress.json").write_text(dumps(asdict(Progress(step=step, policy_version=step))))
    return folder


def choose(runs, *overrides):
    return choose_run(tiny_config("num_steps=4", *overrides), runs)


def test_where_there_is_nothing_a_new_run_begins(tmp_path):
    choice = choose(tmp_path / "runs")
    assert not choice.is_begun
    assert Path(choice.run).parent == tmp_path / "runs"
    assert Path(choice.run).name.startswith("quickstart-20")
    assert choice.says.startswith(f"new run {choice.run}")


def test_the_newest_unfinished_run_of_this_configuration(tmp_path):
    write_run(tmp_path / "an-older-one", step=1, started=1)
    write_run(tmp_path / "new", step=2, started=3, evaluated=())
    write_run(tmp_path / "finished", step=4, started=4, evaluated=(0, 4))
    write_run(tmp_path / "other", "learner.learning_rate=1e-5", step=3, started=5)
    write_run(tmp_path / "shorter-now", "num_steps=9", step=3, started=6)
    write_run(tmp_path / "nothing-saved", started=7)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/config.json").write_text("{")
    choice = choose(tmp_path)
    assert (Path(choice.run), choice.is_begun, choice.has_checkpoint) == (tmp_path / "new", True, True)
    assert choice.says == f"going on in {tmp_path / 'new'} from its checkpoint of step 2"


def test_after_the_last_step_the_next_run_begins(tmp_path):
    write_run(tmp_path / "a", step=4, evaluated=(0, 4))
    assert not choose(tmp_path).is_begun


def test_a_last_evaluation_that_is_missing_is_made_up_for(tmp_path):
    write_run(tmp_path / "a", step=4, evaluated=(0,))
    assert Path(choose(tmp_path).run) == tmp_path / "a"


def test_more_steps_go_on_in_a_finished_run(tmp_path):
    write_run(tmp_path / "a", step=4, evaluated=(0, 4))
    assert Path(choose(tmp_path, "num_steps=6").run) == tmp_path / "a"


def test_a_run_dir_is_gone_on_in_begun_anew_or_made(tmp_path):
    saved, begun, killed = write_run(tmp_path / "saved", step=2), write_run(tmp_path / "begun"), tmp_path / "killed"
    killed.mkdir()
    (killed / LOCK).touch()  # of a run that was killed while it started up
    found = {folder: choose(tmp_path, f"run_dir={folder}") for folder in (saved, begun, killed, tmp_path / "none")}
    assert [(choice.is_begun, choice.has_checkpoint) for choice in found.values()] == [
        (True, True),
        (True, False),
        (True, False),
        (False, False),
    ]
    assert all(Path(choice.run) == folder for folder, choice in found.items())
    assert found[begun].says == f"beginning anew in {begun}: it has no checkpoint yet"


def test_a_run_dir_that_holds_something_else_is_refused(tmp_path):
    finished = write_run(tmp_path / "finished", step=4, evaluated=(0, 4))
    with pytest.raises(UserError, match=r"option 'run_dir': .* has finished step 4 of 4; pass num_steps=N"):
        choose(tmp_path, f"run_dir={finished}")
    other = write_run(tmp_path / "other", "seed=7", "rollout.group_size=2", "deadline_s=9", "num_threads=1", step=2)
    with pytest.raises(UserError) as refused:
        choose(tmp_path, f"run_dir={other}")
    assert "another configuration (seed: 7 -> 0; deadline_s: 9.0 -> " in str(refused.value)
    assert "1 more)" in str(refused.value)
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="is not a run folder"):
        choose(tmp_path, f"run_dir={tmp_path / 'mine'}")


def test_it_does_not_start_beside_itself(tmp_path):
    write_run(tmp_path / "a", step=2)
    write_run(tmp_path / "b", started=9)  # no checkpoint yet
    with locked(tmp_path / "b"), pytest.raises(UserError) as refused:
        choose(tmp_path)
    assert f"'--continue': '{tmp_path / 'b'}', a run of this configuration, is going on (process {os.getpid()} on " in str(
        refused.value
    )
    assert Path(choose(tmp_path).run) == tmp_path / "a"


def test_it_does_not_start_beside_itself_while_that_starts_up(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    with locked(folder), removed_unless_begun(folder, tiny_config("num_steps=4")):
        with pytest.raises(UserError, match=f"is going on \\(process {os.getpid()} on "):
            choose(tmp_path)
        assert not choose(tmp_path, "seed=3").is_begun


def test_runs_of_other_people_are_let_alone(tmp_path, monkeypatch):
    write_run(tmp_path / "theirs", step=2)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # what a test as root cannot have otherwise
    assert not choose(tmp_path).is_begun


def test_a_lock_that_cannot_be_opened_is_somebodys(tmp_path):
    (tmp_path / LOCK).mkdir()
    assert holder_of(tmp_path) == f"perhaps: {LOCK} cannot be opened, Is a directory"


def test_a_folder_has_one_writer(tmp_path):
    with locked(tmp_path):
        assert holder_of(tmp_path).startswith(f"process {os.getpid()} on ")
        with pytest.raises(UserError, match=f"is being written by process {os.getpid()} on"), locked(tmp_path):
            pass
    assert holder_of(tmp_path) is None
    with locked(tmp_path):
        pass
    with pytest.raises(UserError, match="does not exist"), locked(tmp_path / "none"):
        pass


def test_a_killed_writer_holds_nothing(tmp_path):
    code = "import sys, pathlib, r1.run_lock\nwith r1.run_lock.locked(pathlib.Path(sys.argv[1])): print('held', flush=True), input()"
    writer = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout.readline() == "held\n"
    assert holder_of(tmp_path).startswith(f"process {writer.pid} on ")
    writer.kill()
    writer.communicate()
    assert holder_of(tmp_path) is None


def test_a_file_system_without_locks_is_said_and_borne(tmp_path, monkeypatch):
    def refuse(descriptor, how):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    said = []
    with pytest.raises(RunError), locked(tmp_path, said.append):
        raise RunError("however it ends")
    assert "has no locks (Function not implemented)" in said[0]
    assert holder_of(tmp_path) is None  # it has ended as it should


@pytest.mark.parametrize(
    ("text", "is_held"),
    [
        (f"process {os.getppid()} on {socket.gethostname()}", True),
        (f"process {2**22 + 1} on {socket.gethostname()}", False),  # above the largest process id
        (f"process {os.getpid()} on {socket.gethostname()}", False),  # of a container before this one
        ("process 1 on another-host", True),
        ("", False),
    ],
    ids=["alive", "dead", "our own number", "elsewhere", "ended well"],
)
def test_without_locks_the_text_says_who_may_be_writing(tmp_path, monkeypatch, text, is_held):
    monkeypatch.setattr("fcntl.flock", lambda descriptor, how: (_ for _ in ()).throw(OSError(38, "Function not implemented")))
    (tmp_path / LOCK).write_text(text)
    assert (holder_of(tmp_path) or "").startswith(f"{text}, or was when that was killed") == is_held
    if is_held:
        with pytest.raises(UserError, match=f"if it is gone, remove {tmp_path / LOCK}"), locked(tmp_path):
            pass


def test_a_run_at_a_url_is_begun_gone_on_in_and_begun_anew_by_the_same_command(tmp_path, monkeypatch):
    monkeypatch.setattr(storage.tempfile, "tempdir", str(tmp_path / "node"))
    (tmp_path / "node").mkdir()
    there, url = tmp_path / "bucket/run", f"file://{tmp_path}/bucket/run"
    new = choose(tmp_path, f"run_dir={url}")
    assert (new.says, new.run, new.is_begun) == (f"new run {url}", url, False)
    shutil.rmtree(there)  # made by the trial whether it can be written to
    write_run(there, f"run_dir={url}")
    begun = choose(tmp_path, f"run_dir={url}")
    assert (begun.says, begun.run, begun.is_begun, begun.has_checkpoint) == (
        f"beginning anew in {url}: it has no checkpoint yet",
        url,
        True,
        False,
    )
    shutil.rmtree(there)
    shutil.rmtree(tmp_path / "node")  # another node looks: it has no copy
    (tmp_path / "node").mkdir()
    write_run(there, f"run_dir={url}", step=2)
    saved = choose(tmp_path, f"run_dir={url}")
    assert (saved.says, saved.run, saved.has_checkpoint) == (f"going on in {url} from its checkpoint of step 2", url, True)
    with pytest.raises(UserError, match=rf"'{url}' holds a run of another configuration \(seed: 0 -> 1\)"):
        choose(tmp_path, f"run_dir={url}", "seed=1")
