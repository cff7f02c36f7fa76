import json

import pytest
from browsing import Driver, drive, small_run
from scored_groups import scored_group

from r1.browse.help import HelpScreen
from r1.browse.lists import GroupsScreen, RunsScreen, StepsScreen
from r1.traces import trace_path, write_traces


@pytest.mark.slow
def test_a_run_that_goes_on_and_one_that_goes_back(tmp_path):
    small_run(tmp_path)

    async def scenario(driver: Driver) -> None:
        steps = driver.app.position.steps
        await driver.press("k", "k")  # from the last step, 3, to training step 2
        assert str(steps.current.key) == "step 2 training"
        write_traces(tmp_path, 1, [scored_group(["again"], [0.0])], template="plain", split="heldout")
        await driver.until(lambda: len(steps.shown) == 6)
        assert str(steps.current.key) == "step 2 training"
        await driver.press("enter")
        await driver.until(lambda: isinstance(driver.app.screen, GroupsScreen))
        trace_path(tmp_path, 2, "train").unlink()
        await driver.until_shown("step 2 training is gone from the disk")
        await driver.press("enter")
        await driver.until_shown("no train traces of step 2")
        assert isinstance(driver.app.screen, GroupsScreen)
        await driver.press("q")
        await driver.until(lambda: len(steps.shown) == 5)
        trace_path(tmp_path, 3, "train").write_bytes(b"damaged")
        await driver.press("G", "enter")
        await driver.until_shown("is damaged")
        assert isinstance(driver.app.screen, StepsScreen)

    drive(tmp_path, scenario)


@pytest.mark.slow
def test_numbers_come_from_the_metrics_where_they_are_on_record(tmp_path):
    small_run(tmp_path)
    metrics = {"reward": 0.875, "accuracy": 0.75, "num_completions": 5.0, "completion_tokens": 15.6, "score_error_share": 0.2}
    event = {"kind": "step", "step": 2, "policy_version": 2, "metrics": metrics, "timings_s": {}}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(event) + "\n", encoding="utf-8")

    async def scenario(driver: Driver) -> None:
        await driver.until(lambda: all(line.reward is not None for line in driver.app.position.steps.items))
        rows = [line.split() for line in driver.screen_text().splitlines() if " train " in line]
        # step, split, completions, reward, accuracy, reasoning_format, tokens, truncated, errors; step 3 from its file
        assert rows[1] == ["2", "train", "5", "0.88", "0.75", "-", "15.6", "-", "1"]
        assert rows[2] == ["3", "train", "5", "0.55", "0.53", "0.50", "15.6", "0.20", "1"]
        with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({**event, "step": 3}) + "\n")  # as a run does behind the file of a step
        await driver.until(lambda: driver.app.position.steps.items[-1].reward == 0.875)

    drive(tmp_path, scenario)


@pytest.mark.slow
def test_a_folder_of_runs_is_the_first_screen(tmp_path):
    for name in ("first", "second"):
        small_run(tmp_path / name)

    async def scenario(driver: Driver) -> None:
        await driver.until_shown("second")
        assert isinstance(driver.app.screen, RunsScreen)
        await driver.press("slash")
        await driver.type_line("sec")
        await driver.press("enter")
        await driver.until(lambda: driver.where == "second")
        await driver.press("q")
        assert isinstance(driver.app.screen, RunsScreen)
        await driver.press("question_mark")
        assert isinstance(driver.app.screen, HelpScreen)
        assert "filter by reward" in driver.text
        await driver.press("escape", "q")

    assert drive(tmp_path, scenario).return_code == 0
