"""W&B (offline) and trackio for real, each in a process of its own: what they wrote is read back from their files."""

import json
import math
import os
import sqlite3
import subprocess
import sys

import pytest
from tiny import ROOT

from r1.metrics import truncate_metrics

pytestmark = pytest.mark.slow  # 1 to 5 s each: two imports of the package, each in a new process

# Three steps, back to the first, the second anew. Then a process that goes on after the second, as a resume does.
FIRST = """
with metrics:
    metrics.log_heldout(0, {"accuracy": 0.25})
    for step in (1, 2, 3):
        metrics.log_step(report(step, {"reward": step / 10, "loss": float("nan")}, {"sample": 1.5}))
    metrics.rewind(1)
    metrics.log_step(report(2, {"reward": 0.75}, {}))
    metrics.log_step(report(3, {"reward": 0.8}, {}))
"""
RESUMED = """
with metrics:
    metrics.log_step(report(3, {"reward": 0.9}, {}))
"""


def in_own_process(tracker, run_dir, code, **environment):
    before = f"import sys; from pathlib import Path; from test_r1_metrics import logger, report\nmetrics = logger(Path({str(run_dir)!r}), trackers=[{tracker!r}])\n"
    result = subprocess.run(
        [sys.executable, "-c", before + code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "HF_HUB_OFFLINE": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result


def wandb_records(file):
    """The records of a .wandb file: LevelDB's log format, after 7 bytes of W&B's, in blocks of 32 KiB.

    https://github.com/google/leveldb/blob/main/doc/log_format.md
    """
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, parts = file.read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:  # too short for a header: filled with zeros
            position += left
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def wandb_rows(records):
    rows = [{item.nested_key[0]: json.loads(item.value_json) for item in r.history.item} for r in records if r.HasField("history")]
    return [{name: value for name, value in row.items() if not name.startswith("_")} for row in rows]


def test_wandb_offline(tmp_path):
    run_dir = tmp_path / "tried-20260101"
    home = {"WANDB_MODE": "offline", "HOME": str(tmp_path / "home")}
    in_own_process("wandb", run_dir, FIRST, **home)
    truncate_metrics(run_dir, 2)
    in_own_process("wandb", run_dir, RESUMED, **home)

    first, resumed = (list(wandb_records(file)) for file in sorted(run_dir.glob("wandb/offline-run-*/*.wandb")))
    rows = wandb_rows(first)
    assert rows[0] == {"step": 0, "heldout/accuracy": 0.25}
    assert {"step": 1, "train/reward": 0.1, "time/sample_s": 1.5}.items() <= rows[1].items()
    assert math.isnan(rows[1]["train/loss"])
    # What was done anew is added, with its own place on the x axis; nothing that was there is thrown away.
    assert [(row["step"], row.get("train/reward")) for row in rows] == [(0, None), (1, 0.1), (2, 0.2), (3, 0.3), (2, 0.75), (3, 0.8)]
    assert wandb_rows(resumed) == [{"step": 3, "train/reward": 0.9}]
    for records in (first, resumed):
        (run,) = [record.run for record in records if record.HasField("run")]
        assert (run.project, run.display_name) == ("r1", "tried-20260101")
        assert run.run_id == (run_dir / "wandb/run-id").read_text()
        config = {item.key: json.loads(item.value_json) for item in run.config.update}
        assert config["rollout"]["group_size"] == 4
        assert [(r.metric.glob_name, r.metric.step_metric) for r in records if r.HasField("metric") and r.metric.glob_name] == [("*", "step")]


STOPPED = """
import psutil
with metrics:
    metrics.log_step(report(1, {"reward": 0.1}, {}))
    metrics.log_step(report(2, {"reward": 0.2}, {}))
    for child in psutil.Process().children(recursive=True):
        child.terminate()
        child.wait()
    metrics.log_step(report(3, {"reward": 0.3}, {}))
"""
GOING_ON = """
with metrics:
    metrics.log_step(report(4, {"reward": 0.4}, {}))
"""


def test_what_wandb_misses_after_ray_job_stop_is_sent_when_the_run_goes_on(tmp_path):
    run_dir = tmp_path / "tried-20260101"
    home = {"WANDB_MODE": "offline", "HOME": str(tmp_path / "home")}
    in_own_process("wandb", run_dir, STOPPED, **home)
    in_own_process("wandb", run_dir, GOING_ON, **home)
    stopped, going_on = (wandb_rows(wandb_records(file)) for file in sorted(run_dir.glob("wandb/offline-run-*/*.wandb")))
    steps = [row["step"] for row in (*stopped, *going_on)]
    assert set(steps) == {1, 2, 3, 4}
    assert steps[-4:] == [1, 2, 3, 4]  # also what was in the buffers
    assert not (run_dir / "wandb/missing-from-step").exists()


@pytest.mark.parametrize("is_shared", [False, True])
def test_trackio(tmp_path, is_shared):
    run_dir, shared = tmp_path / "tried-20260101", tmp_path / "shared"
    place = {"TRACKIO_DIR": str(shared)} if is_shared else {}
    if is_shared:
        in_own_process("trackio", tmp_path / "another", RESUMED, **place)
    result = in_own_process("trackio", run_dir, FIRST, **place)
    assert result.stdout == ""
    truncate_metrics(run_dir, 2)
    in_own_process("trackio", run_dir, RESUMED, **place)

    with sqlite3.connect((shared if is_shared else run_dir / "trackio") / "r1.db") as connection:
        rows = connection.execute("SELECT run_name, run_id, step, metrics FROM metrics ORDER BY id").fetchall()
        configs = dict(connection.execute("SELECT run_name, config FROM configs"))
    # As often as it was written anew, each step is there once; another run in the same place is left alone.
    assert [(step, json.loads(metrics)) for name, _, step, metrics in rows if name == "tried-20260101"] == [
        (0, {"heldout/accuracy": 0.25}),
        (1, {"train/reward": 0.1, "train/loss": "NaN", "time/sample_s": 1.5}),
        (2, {"train/reward": 0.75}),
        (3, {"train/reward": 0.9}),
    ]
    assert [step for name, _, step, _ in rows if name == "another"] == ([3] if is_shared else [])
    assert {run_id for name, run_id, *_ in rows if name == "tried-20260101"} == {(run_dir / "trackio/run-id").read_text()}
    assert json.loads(configs["tried-20260101"])["rollout"]["group_size"] == 4


def test_trackio_has_one_folder_a_process(tmp_path):
    code = f"""
metrics.close()
try:
    logger(Path({str(tmp_path / "second")!r}), trackers=["trackio"])
except ValueError as error:
    sys.exit(0 if "set TRACKIO_DIR for all its runs" in str(error) else repr(error))
sys.exit("no error")
"""
    in_own_process("trackio", tmp_path / "first", code)
