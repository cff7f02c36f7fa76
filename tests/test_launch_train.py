"""Bad input to `python -m launch.train`: one clear line, exit code 2, nothing started, nothing written."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from tiny import MODEL, ROOT

import launch.train
from r1.config import load_config
from r1.run_lock import locked
from r1.stopping import Stopped


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """Run main() with arguments from the repository's folder; returns (exit code, stderr)."""
    import r1.runtime.run

    def refuse_to_start(*arguments, **options):
        raise AssertionError("Ray was started")

    monkeypatch.setattr(r1.runtime.run, "connected", refuse_to_start)
    monkeypatch.chdir(ROOT)
    runs_before = set((ROOT / "runs").glob("*"))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
        code = launch.train.main()
        assert set((ROOT / "runs").glob("*")) == runs_before
        return code, capsys.readouterr().err

    return call


QUICKSTART = "launch/configs/quickstart.toml"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["no configuration given"]),
        (["none.toml"], ["'none.toml' does not exist"]),
        ([QUICKSTART, "rollout.gruop_size=4"], ["unknown option 'rollout.gruop_size'", "did you mean 'rollout.group_size'?"]),
        ([QUICKSTART, "rollout.group_size=1"], ["'rollout.group_size'", "greater than or equal to 2"]),
        ([QUICKSTART, "learner.minibatches_per_step=5"], ["16 prompts do not divide into 5 mini-batches"]),
        ([QUICKSTART, "algorithm.loss=clop"], ["'algorithm.loss'", "did you mean 'clip'?"]),
        ([QUICKSTART, "task.name=arithmetics"], ["'task.name'", "did you mean 'arithmetic'?"]),
        ([QUICKSTART, "task.template=zzz"], ["no template 'zzz'", "plain"]),
        ([QUICKSTART, "task.template=chat"], ["no chat template"]),
        ([QUICKSTART, "task.path=x.jsonl"], ["'task.path'", "generates its problems", "remove"]),
        ([QUICKSTART, "task.name=jsonl"], ["'task.path'", "'jsonl' needs problems"]),
        ([QUICKSTART, "task.name=gsm8k", "task.path=no/such.jsonl"], ["no/such.jsonl"]),
        ([QUICKSTART, "model.path=./nowhere"], ["'model.path'", "is not a folder"]),
        ([QUICKSTART, "model.path=models/SmolLM2-absent"], ["'model.path'", "is not a folder", "python -m launch.get_smollm2"]),
        ([QUICKSTART, "rollout.max_prompt_tokens=3"], ["all 2000 prompts are longer than 3 tokens", "raise it to at least"]),
        (
            [QUICKSTART, "rollout.max_completion_tokens=5000"],
            ["must fit the model's context", "lower max_completion_tokens to at most 240"],
        ),
        ([QUICKSTART, "task.template=r1_zero"], ["'task.template'", "cannot encode the prompts"]),
        ([QUICKSTART, "rollout.max_prompt_tokens=400"], ["must fit the model's context", "lower max_prompt_tokens below 256"]),
        ([QUICKSTART, "rollout.engine=nonsense"], ["'rollout.engine'", "package.module:Class"]),
        ([QUICKSTART, "rollout.engine=no.such:Engine"], ["'rollout.engine'", "'no.such'"]),
        ([QUICKSTART, 'logging.trackers=["wanbd"]'], ["'logging.trackers'", "did you mean 'wandb'?"]),
        ([QUICKSTART, "logging.trackers=wandb"], ["'logging.trackers'", "valid list", "got 'wandb'"]),
        ([QUICKSTART, "scoring.deadline_s=inf"], ["'scoring.deadline_s'", "finite"]),
        ([QUICKSTART, "algorithm.clip_low=5"], ["'algorithm.clip_low'", "less than 1"]),
        ([QUICKSTART, "name=../../x"], ["'name'", "pattern"]),
        ([QUICKSTART, "run_dir=/dev/null/run"], ["'run_dir'", "cannot create"]),
        (["--resume", "no-such-run"], ["'--resume'", "is not a run folder"]),
        (["--dry-run", "--resume", "no-such-run"], ["'--dry-run'", "leave out --resume", "r1 config show no-such-run"]),
        ([QUICKSTART, "--dry-run", "--continue"], ["'--dry-run'", "leave out --continue"]),
        (["--resume", "a-run", "--continue"], ["'--resume'", "'--continue'", "leave out one"]),
        ([QUICKSTART, "--runs", "elsewhere"], ["'--runs'", "goes with --continue"]),
        (["--dry-run", QUICKSTART, "learner.minibatches_per_step=5"], ["16 prompts do not divide into 5 mini-batches"]),
        ([QUICKSTART, "--dry-run", "rollout.max_completion_tokens=5000"], ["lower max_completion_tokens to at most 240"]),
        ([QUICKSTART, "model.path=./nowhere", "--dry-run"], ["'model.path'", "is not a folder"]),
    ],
)
def test_bad_input(train, arguments, parts):
    code, error = train(*arguments)
    assert code == 2
    assert error.startswith("error: ")
    assert len(error.strip().splitlines()) == 1, error
    assert all(part in error for part in parts), error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["run_dir=/dev/null/run"], ["'run_dir'", "cannot create"]),
        (
            ["rollout.placement=colocated", "rollout.max_staleness=1"],
            ["rollout.max_staleness must be 0 with rollout.placement=colocated"],
        ),
    ],
)
def test_what_a_dry_run_refuses_last(train, overrides, parts):
    code, error = train(QUICKSTART, "--dry-run", *overrides)
    assert code == 2
    assert len(error.strip().splitlines()) == 1, error
    assert all(part in error for part in parts), error


@pytest.mark.slow
def test_a_dry_run_in_a_process_of_its_own_starts_and_writes_nothing(tmp_path):
    code = (
        "import sys, subprocess, launch.train\n"
        "start = subprocess.Popen.__init__\n"
        "def refuse(self, command, *arguments, **options):\n"
        # How ctypes finds a library, for selenium's trio: httpcore2 imports it where it is there.
        "    assert command == ['/sbin/ldconfig', '-p'], 'a process was started'\n"
        "    start(self, command, *arguments, **options)\n"
        "subprocess.Popen.__init__ = refuse\n"
        "code = launch.train.main()\n"
        "print(sorted({'vllm', 'r1.learner', 'r1.runtime.run'} & set(sys.modules)), file=sys.stderr)\n"
        "sys.exit(code)"
    )
    options = [f"model.path={MODEL}", "--dry-run", "name=tried"]
    result = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / QUICKSTART), *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "step: 16 prompts x 16 completions = 256 completions" in result.stdout
    assert str(tmp_path / "runs/tried-DATE-TIME") in result.stdout
    assert result.stderr.strip().splitlines()[-1] == "[]"
    assert list(tmp_path.iterdir()) == []


def test_a_model_folder_without_weights(train, tmp_path):
    shutil.copytree(MODEL, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    code, error = train(QUICKSTART, f"model.path={tmp_path / 'model'}")
    assert code == 2
    assert "has no weights (*.safetensors)" in error


def test_a_model_folder_without_config(train, tmp_path):
    code, error = train(QUICKSTART, f"model.path={tmp_path}")
    assert code == 2
    assert "has no config.json" in error


def test_an_error_quotes_a_name_without_obeying_it(train):
    code, error = train("--dry-run", "--resume", "no\x1b[2J\nsuch")
    assert code == 2
    assert error.endswith("r1 config show no\\x1b[2J\\nsuch\n")


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_model_folder_with_a_broken_file(train, tmp_path, file):
    shutil.copytree(MODEL, tmp_path / "model")
    (tmp_path / "model" / file).write_text('{"model_type": "llama"' if file == "config.json" else "{}")
    code, error = train(QUICKSTART, f"model.path={tmp_path / 'model'}")
    assert code == 2
    assert "cannot load" in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.slow
def test_nothing_is_left_of_a_run_that_could_not_start(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    monkeypatch.setattr(sys, "argv", ["train", str(ROOT / QUICKSTART), f"model.path={MODEL}", f"run_dir={tmp_path / 'run'}"])
    assert launch.train.main() == 2
    error = capsys.readouterr().err
    assert "RAY_ADDRESS='http://127.0.0.1:1': cannot join that cluster" in error
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_run_folder(train, tmp_path):
    (tmp_path / "config.json").write_text('{"name": ')
    code, error = train("--resume", tmp_path)
    assert code == 2
    assert "is damaged" in error


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_run_folder_that_exists(train, tmp_path, options):
    code, error = train(QUICKSTART, f"run_dir={tmp_path}", *options)
    assert code == 2
    assert "exists already" in error
    assert "--resume" in error
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_going_on_is_not_resumed_beside_itself(train, tmp_path):
    (tmp_path / "config.json").write_text(load_config(QUICKSTART).model_dump_json())
    with locked(tmp_path):
        code, error = train("--resume", tmp_path)
    assert code == 2
    assert f"{str(tmp_path)!r} is being written by process {os.getpid()} on" in error


def test_resume_without_a_checkpoint(train, tmp_path):
    from tiny import tiny_config

    (tmp_path / "config.json").write_text(json.dumps(tiny_config().model_dump()))
    code, error = train("--resume", tmp_path)
    assert code == 2
    assert "holds no complete checkpoint" in error


@pytest.mark.parametrize(
    ("arguments", "stopped", "code", "says"),
    [
        ([QUICKSTART], (signal.SIGTERM, 7), 143, "stopped after step 7, checkpoint written; go on with: python -m launch.train --resume {run}"),
        ([QUICKSTART, "seed=3", "--continue"], (signal.SIGINT, 7), 130, f"go on with: python -m launch.train {QUICKSTART} seed=3 --continue"),
        ([QUICKSTART], (signal.SIGINT, 0), 130, f"nothing is saved; begin again with: python -m launch.train {QUICKSTART} --continue"),
        ([QUICKSTART], (signal.SIGTERM, None), 143, "ended at once; go on from the last checkpoint, if there is one, with: python -m launch.train --resume {run}"),
        ([QUICKSTART], (signal.SIGTERM, None, "starting"), 143, f"stopped while it started up, this has changed nothing; once more: python -m launch.train {QUICKSTART} --continue"),
    ],
)
def test_what_a_stopped_run_says(train, tmp_path, monkeypatch, arguments, stopped, code, says):
    import r1.runtime.run

    def stop(config, **options):
        error = Stopped(*stopped[:2])
        error.run = None if "starting" in stopped else str(tmp_path)
        raise error

    monkeypatch.setattr(r1.runtime.run, "run", stop)
    got, error = train(*arguments)
    assert got == code
    assert says.format(run=tmp_path) in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(("has_config", "anew"), [(True, True), (False, False)])
def test_continue_hands_its_choice_on(train, tmp_path, monkeypatch, has_config, anew):
    import r1.runtime.run

    run_dir, called = tmp_path / "run", []
    monkeypatch.setattr(r1.runtime.run, "run", lambda config, **options: called.append((config.run_dir, options)))
    if has_config:
        run_dir.mkdir()
        (run_dir / "config.json").write_text(load_config(QUICKSTART).model_dump_json())
    assert train(QUICKSTART, f"run_dir={run_dir}", "--continue")[0] == 0
    assert called == [(str(run_dir), {"resume": str(run_dir) if anew else None, "anew": anew})]
