"""`r1 doctor` on this machine and on made-up ones."""

import json

import pytest
from doctor_facts import GPU, GPU_PACKAGES, machine
from tiny import MODEL, ROOT
from typer.testing import CliRunner

from r1.cli.main import app
from r1.doctor import diagnosis
from r1.errors import UserError
from r1.sizes import GIB

QUICKSTART = str(ROOT / "launch/configs/quickstart.toml")


def doctor(*arguments):
    return CliRunner(env={"RAY_ADDRESS": None}).invoke(app, ["doctor", *arguments])


def verdicts(result):
    """Check -> verdict, of --json."""
    return {one["check"]: one["verdict"] for one in json.loads(result.output)["results"]}


def test_this_machine(tmp_path):
    """What the tests run on can run; it may be short of room or of open files."""
    result = doctor(QUICKSTART, f"model.path={MODEL}", f"run_dir={tmp_path / 'run'}", "--json")
    found = verdicts(result)
    assert {found[name] for name in ("Ray", "resources", "python", "packages", "model", "run_dir")} == {"ok"}
    assert set(found) >= {"code", "devices", "memory", "disk", "open files", "ports"}
    assert json.loads(result.output)["facts"]["here"]["model"]["files"].keys() == {"model.safetensors"}
    assert list(tmp_path.iterdir()) == []


def test_a_healthy_machine_in_lines(monkeypatch):
    monkeypatch.setattr(diagnosis, "gather", lambda request: machine(model=None, reward_files={}))
    result = doctor()
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[1] == "ok       python         3.11.7"
    assert lines[-1] == "10 ok, 0 warning, 0 red"


def test_red_is_a_word_and_an_exit_code(monkeypatch):
    changes = {"open_files": 256, "memory_free": 1 * GIB, "model": None, "reward_files": {}}
    monkeypatch.setattr(diagnosis, "gather", lambda request: machine(**changes))
    result = doctor()
    assert result.exit_code == 1
    assert "RED      open files     at most 256, Ray needs 1,024: ulimit -n 8192" in result.output
    assert "warning  memory         1.0 GiB free of 32.0 GiB" in result.output
    assert result.output.splitlines()[-1] == "8 ok, 1 warning, 1 red"


@pytest.mark.parametrize(
    ("override", "check", "says"),
    [
        ("model.path=/none", "model", "model.path is no folder here"),
        ("task.path=/none.jsonl", "data", "/none.jsonl cannot be read here"),
        # Longer than a file's name may be: Path.exists() raises for it.
        (f"model.path=/{'x' * 300}", "model", "model.path is no folder here"),
        (f"run_dir={ROOT}", "run_dir", "exists already; choose another folder"),
        ("run_dir=file:///proc/none/run", "run_dir", "cannot be written to: FileNotFoundError"),
        ('task.rewards={"none.py:f"=1.0}', "rewards", "none.py cannot be read here"),
    ],
)
def test_what_a_configuration_names_and_is_not_there(override, check, says):
    result = doctor(QUICKSTART, f"model.path={MODEL}", override)
    assert result.exit_code == 1
    [line] = [line for line in result.output.splitlines() if line.startswith("RED")]
    assert line.split()[1] == check
    assert says in line


def test_a_run_dir_that_no_system_call_takes(tmp_path):
    found = verdicts(doctor(QUICKSTART, f"model.path={MODEL}", f"run_dir={tmp_path / ('x' * 300)}", "--json"))
    assert (found["disk"], found["run_dir"]) == ("red", "red")


def test_a_hub_that_does_not_answer_is_said_once(tmp_path, monkeypatch):
    """What reckons the needs goes offline by itself, and the facts are those of before."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def needs_of(config):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        raise UserError("option 'model.path': cannot load")

    monkeypatch.setattr(diagnosis, "needs_of", needs_of)
    result = doctor(QUICKSTART, "model.path=org/name", f"run_dir={tmp_path / 'run'}")
    [line] = [line for line in result.output.splitlines() if line.split()[1] == "model"]
    assert "the hub cannot be reached (Connection refused)" in line


def test_gpus_that_a_run_wants_and_this_machine_has_not(tmp_path, monkeypatch):
    monkeypatch.setattr(diagnosis, "gather", lambda request: machine(**GPU_PACKAGES, gpus=[GPU]))
    wants = ["rollout.num_workers=8", "learner.num_ranks=8", "rollout.placement=disaggregated"]
    result = doctor(QUICKSTART, f"model.path={MODEL}", f"run_dir={tmp_path / 'run'}", *wants)
    assert result.exit_code == 1
    assert "RED      resources      Ray on this machine has 1 GPU, this run wants 16" in result.output


def test_a_data_set_on_a_hub_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for names in (["task.path=org/no-such"], []):  # given, and the task's own
        found = doctor(QUICKSTART, f"model.path={MODEL}", f"run_dir={tmp_path / 'run'}", "task.name=gsm8k", *names)
        [line] = [line for line in found.output.splitlines() if line.startswith("RED")]
        assert f"task.path: {'org/no-such' if names else 'openai/gsm8k'} is not in the cache, and the hub cannot be reached" in line


def test_an_address_where_nobody_is_leaves_the_rest_of_the_report():
    result = doctor("--address", "127.0.0.1:1", "--json")
    assert result.exit_code == 1
    found = verdicts(result)
    assert found["Ray"] == "red"
    assert {"python", "memory", "disk"} <= set(found)


def test_a_configuration_that_is_none_is_wrong_usage():
    result = doctor("none.toml")
    assert isinstance(result.exception, UserError)  # main() makes exit code 2 of it
