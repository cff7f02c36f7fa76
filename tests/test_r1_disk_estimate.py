"""Room for checkpoints, reckoned before a run starts."""

import shutil

import pytest
from tiny import tiny_config

from r1.checkpoint import begin_checkpoint
from r1.disk_estimate import check_disk, checkpoint_bytes, checkpoints_at_once
from r1.errors import UserError
from r1.memory_estimate import model_shape

NUM_PARAMETERS = 609_920
FULL = 16 * NUM_PARAMETERS
"""float32 weights, two moments, and the float32 export: 9.3 MiB."""


def shape_of(config):
    return model_shape(config.model.path, config.learner.lora_rank)


def test_bytes_of_a_checkpoint():
    config = tiny_config()
    assert checkpoint_bytes(config, shape_of(config)) == FULL
    config = tiny_config("dtype=bfloat16")
    assert checkpoint_bytes(config, shape_of(config)) == 14 * NUM_PARAMETERS
    config = tiny_config("algorithm.kl_coef=0.1", "algorithm.reference_every=10")
    assert checkpoint_bytes(config, shape_of(config)) == 20 * NUM_PARAMETERS
    config = tiny_config("learner.lora_rank=4")
    shape = shape_of(config)
    assert checkpoint_bytes(config, shape) == 12 * shape.trained_parameters + 4 * NUM_PARAMETERS


@pytest.mark.parametrize(
    ("num_steps", "every", "expected"),
    [
        (50, 0, 1),  # at the end
        (50, 20, 3),  # 20, 40, 50
        (40, 20, 2),
        (500, 20, 5),  # three, the best, and the one that is written
    ],
)
def test_checkpoints_at_once(num_steps, every, expected):
    assert checkpoints_at_once(tiny_config(f"num_steps={num_steps}", f"checkpoint.every={every}")) == expected


def disk_with(free, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10 * free, 9 * free, free))


def test_a_disk_without_room_is_refused_with_what_is_wanted(tmp_path, monkeypatch):
    config = tiny_config("num_steps=50", "checkpoint.every=20")
    disk_with(3 * FULL, monkeypatch)
    check_disk(config, tmp_path / "not" / "yet")
    disk_with(3 * FULL - 1, monkeypatch)
    with pytest.raises(UserError) as caught:
        check_disk(config, tmp_path / "not" / "yet")
    assert str(caught.value) == (
        f"option 'run_dir': {str(tmp_path)!r} has 27.9 MiB free, this run wants about 27.9 MiB for its checkpoints (3 at a time, "
        "9.3 MiB each): make room, choose another folder, or raise checkpoint.every (0: only one)"
    )


def test_what_a_resumed_run_has_already_is_not_wanted_again(tmp_path, monkeypatch):
    config = tiny_config("num_steps=50", "checkpoint.every=20")
    for step in (20, 40):
        partial = begin_checkpoint(tmp_path, step)
        (partial / "learner").mkdir()
        for name in ("progress.json", "learner/.metadata"):
            (partial / name).write_text("")
        partial.rename(partial.with_name(f"step-{step:06d}"))
    disk_with(FULL, monkeypatch)
    check_disk(config, tmp_path)
    disk_with(FULL - 1, monkeypatch)
    with pytest.raises(UserError, match="wants about 9.3 MiB"):
        check_disk(config, tmp_path)
    # What was left half-written is removed by the next save.
    (begin_checkpoint(tmp_path, 50) / "half").write_bytes(b"1")
    check_disk(config, tmp_path)


def test_a_run_dir_that_no_system_call_takes_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^option 'run_dir': cannot create '/.*': File name too long; choose another folder$"):
        check_disk(tiny_config(), tmp_path / ("x" * 300))
