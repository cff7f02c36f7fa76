import pytest
from tiny import tiny_config

from r1.checkpoint import begin_checkpoint, finish_checkpoint, latest_checkpoint, point_latest, remove_old_checkpoints
from r1.config import RunConfig
from r1.config_text import saved_config
from r1.errors import RunError, UserError
from r1.run_folder import STARTING, begin_run, changed_options, removed_unless_begun
from r1.types import Progress

CONFIG = tiny_config()


def save(run_dir, step, with_learner=True):
    partial = begin_checkpoint(run_dir, step)
    if with_learner:
        (partial / "learner").mkdir()
        (partial / "learner/.metadata").write_text(f"weights {step}")
    return finish_checkpoint(partial, Progress(step=step, policy_version=step + 1, num_prompts_drawn=4 * step), CONFIG)


def test_the_latest_is_the_highest_step(tmp_path):
    for step in (2, 10, 1_000_000):
        save(tmp_path, step)
    folder, state = latest_checkpoint(tmp_path)
    assert folder.name == "step-1000000"
    assert state == Progress(step=1_000_000, policy_version=1_000_001, num_prompts_drawn=4_000_000)
    assert (tmp_path / "checkpoints/latest/learner/.metadata").read_text() == "weights 1000000"
    assert RunConfig.model_validate_json((folder / "config.json").read_text()) == CONFIG


def test_one_that_was_cut_off_is_never_picked_up(tmp_path):
    save(tmp_path, 1)

    (begin_checkpoint(tmp_path, 2) / "learner").mkdir()  # and the run is killed
    assert latest_checkpoint(tmp_path)[1].step == 1
    assert [path.name for path in (tmp_path / "checkpoints").iterdir() if path.name.startswith(".")] == [".partial-step-000002"]
    save(tmp_path, 2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["latest", "step-000001", "step-000002"]


def test_a_learner_that_wrote_somewhere_else_is_an_error_at_once(tmp_path):
    with pytest.raises(RunError, match="checkpoint of step 1: the learner has written nothing .* a folder that all nodes share"):
        save(tmp_path, 1, with_learner=False)


def lose_half(folder):
    (folder / "learner/.metadata").unlink()


def test_a_folder_without_the_learners_half_is_not_complete_and_makes_way(tmp_path):
    save(tmp_path, 1)
    lose_half(save(tmp_path, 2))
    assert latest_checkpoint(tmp_path)[1].step == 1
    save(tmp_path, 2)
    assert latest_checkpoint(tmp_path)[1].step == 2


def test_latest_is_set_right_when_a_kill_left_it_behind(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    (tmp_path / "checkpoints/latest").unlink()
    (tmp_path / "checkpoints/latest").symlink_to("step-000001")
    newest = latest_checkpoint(tmp_path)[0]
    assert (tmp_path / "checkpoints/latest").resolve().name == "step-000001"  # who only looks writes nothing
    point_latest(newest)
    assert (tmp_path / "checkpoints/latest").resolve().name == "step-000002"


def test_a_damaged_state_is_named(tmp_path):
    (save(tmp_path, 1) / "progress.json").write_text('{"steps": 1}')
    with pytest.raises(UserError, match=r"progress.json' is damaged .* remove that folder"):
        latest_checkpoint(tmp_path)


def test_a_run_without_one_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="holds no complete checkpoint"):
        latest_checkpoint(tmp_path)


def kept_steps(run_dir):
    return sorted(int(path.name[5:]) for path in (run_dir / "checkpoints").iterdir() if path.name.startswith("step-"))


def test_what_a_resumed_run_has_otherwise_is_listed(tmp_path):
    folder = save(tmp_path, 1)
    assert changed_options(folder, CONFIG) == []
    changed = tiny_config("seed=3", "learner.learning_rate=0.5", 'task.rewards={"accuracy"=1.0,"tag_count"=1.0}', "run_dir=elsewhere")
    assert changed_options(folder, changed) == [
        "seed: 0 -> 3",
        "task.rewards.reasoning_format: 0.1 -> None",
        "learner.learning_rate: 0.0002 -> 0.5",
        "task.rewards.tag_count: None -> 1.0",
    ]


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    for step in (1, 2, 3, 9, 10):
        save(tmp_path, step)
    # Step 7 was better than all, and has no checkpoint; step 0 is before training.
    remove_old_checkpoints(tmp_path, keep_last=2, accuracy={0: 1.0, 1: 0.5, 2: 0.8, 3: 0.8, 7: 0.9, 9: 0.1})
    assert kept_steps(tmp_path) == [2, 9, 10]
    remove_old_checkpoints(tmp_path, keep_last=5, accuracy={})
    assert kept_steps(tmp_path) == [2, 9, 10]
    remove_old_checkpoints(tmp_path, keep_last=1, accuracy={})
    assert kept_steps(tmp_path) == [10]


def test_an_incomplete_one_is_not_counted_among_the_last(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step)
    lose_half(tmp_path / "checkpoints/step-000003")
    remove_old_checkpoints(tmp_path, keep_last=2, accuracy={})
    assert kept_steps(tmp_path) == [1, 2, 3]
    assert latest_checkpoint(tmp_path)[1].step == 2


def test_a_run_that_never_began_leaves_no_folder(tmp_path):
    fresh, begun = tmp_path / "fresh", tmp_path / "begun"
    for folder in (fresh, begun):
        folder.mkdir()
        (folder / "metrics.jsonl").touch()
    (begun / "config.json").touch()
    for folder in (fresh, begun):
        with removed_unless_begun(folder, tiny_config()):
            assert (folder / STARTING).exists() == (folder == fresh)
    assert (fresh.exists(), begun.exists()) == (False, True)


def test_a_run_that_has_begun_is_no_longer_starting(tmp_path):
    with removed_unless_begun(tmp_path, tiny_config()):
        begin_run(tmp_path, tiny_config())
        assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert saved_config(tmp_path) == tiny_config()


def test_a_run_that_goes_on_is_no_longer_summed_up(tmp_path):
    begin_run(tmp_path, tiny_config())
    (tmp_path / "summary.json").write_text("{}")
    with removed_unless_begun(tmp_path, tiny_config()):
        assert (tmp_path / "summary.json").exists(), "a start that fails changes nothing"
        begin_run(tmp_path, tiny_config("num_steps=9"))
        assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
