import pytest

from r1.checkpoint import CheckpointState, latest_checkpoint, remove_old_checkpoints, save_checkpoint
from r1.errors import RunError, UserError


def save(run_dir, step):
    def write(folder):
        (folder / "learner.pt").write_text(f"weights {step}")
        (folder / "hf").mkdir()
        (folder / "hf/config.json").write_text("{}")

    return save_checkpoint(run_dir, CheckpointState(step=step, policy_version=step + 1), write)


def test_the_latest_is_the_highest_step(tmp_path):
    for step in (2, 10, 1_000_000):
        save(tmp_path, step)
    folder, state = latest_checkpoint(tmp_path)
    assert (folder.name, state) == ("step-1000000", CheckpointState(step=1_000_000, policy_version=1_000_001))
    assert (folder / "learner.pt").read_text() == "weights 1000000"


def test_one_that_was_cut_off_is_never_picked_up(tmp_path):
    save(tmp_path, 1)

    def die_half_way(folder):
        (folder / "learner.pt").write_text("half")
        raise RunError("killed")

    with pytest.raises(RunError):
        save_checkpoint(tmp_path, CheckpointState(step=2, policy_version=2), die_half_way)
    assert latest_checkpoint(tmp_path)[1].step == 1
    assert [path.name for path in (tmp_path / "checkpoints").iterdir() if path.name.startswith(".")] == [".partial-step-000002"]
    save(tmp_path, 2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-000001", "step-000002"]


def test_a_folder_without_the_learners_half_is_not_complete(tmp_path):
    save(tmp_path, 1)
    save_checkpoint(tmp_path, CheckpointState(step=2, policy_version=2), lambda folder: None)
    assert latest_checkpoint(tmp_path)[1].step == 1


def test_a_damaged_state_is_named(tmp_path):
    (save(tmp_path, 1) / "state.json").write_text('{"step": 1}')
    with pytest.raises(UserError, match=r"state.json' is damaged .* remove that folder"):
        latest_checkpoint(tmp_path)


def test_a_run_without_one_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="holds no complete checkpoint"):
        latest_checkpoint(tmp_path)


def kept_steps(run_dir):
    return sorted(int(path.name[5:]) for path in (run_dir / "checkpoints").iterdir() if path.name.startswith("step-"))


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    for step in (1, 2, 3, 9, 10):
        save(tmp_path, step)
    remove_old_checkpoints(tmp_path, keep_last=2, best_step=2)
    assert kept_steps(tmp_path) == [2, 9, 10]
    remove_old_checkpoints(tmp_path, keep_last=5, best_step=None)
    assert kept_steps(tmp_path) == [2, 9, 10]


def test_an_incomplete_one_is_not_counted_among_the_last(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    save_checkpoint(tmp_path, CheckpointState(step=3, policy_version=3), lambda folder: None)
    remove_old_checkpoints(tmp_path, keep_last=2, best_step=None)
    assert kept_steps(tmp_path) == [1, 2, 3]
    assert latest_checkpoint(tmp_path)[1].step == 2
