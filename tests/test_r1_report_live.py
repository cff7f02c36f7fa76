"""What a live page is told, and when it is told anew; tests/test_r1_serve.py has how it is served."""

import json
from pathlib import Path

import pytest
from report_runs import learning_events, run_of_two_steps, write_run

from r1.config_text import saved_config
from r1.report import live
from r1.report.live import LiveReport
from r1.run_folder import begin_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return run_of_two_steps(tmp_path / "run")


def test_new_steps_are_built_once_and_only_when_the_files_have_changed(run: Path, monkeypatch: pytest.MonkeyPatch):
    builds = []
    build = live.build_content
    monkeypatch.setattr(live, "build_content", lambda *arguments, **options: builds.append(1) or build(*arguments, **options))
    report = LiveReport([run], 6)
    first = json.loads(report.answer(""))
    report.answer("")
    report.answer(first["version"])
    assert len(builds) == 1

    write_run(run, learning_events(3))
    second = json.loads(report.answer(first["version"]))

    assert len(builds) == 2
    assert second["version"] != first["version"]
    assert (second["last_step"], second["content"]["figures"][0]["data"][0]["x"]) == (3, [1, 2, 3])


def test_the_end_of_the_run_is_told(run: Path):
    report = LiveReport([run], 0)
    assert json.loads(report.answer(""))["is_over"] is False

    (run / "summary.json").write_text(json.dumps({"steps": 2, "total_s": 9.0, "faults": []}))

    assert json.loads(report.answer(""))["is_over"] is True


def test_a_run_that_goes_on_with_more_steps_has_not_ended_when_it_comes_by_its_old_last_step(run: Path):
    more = saved_config(run, ["num_steps=4"])
    (run / "summary.json").write_text(json.dumps({"steps": 2, "total_s": 9.0, "ended": "finished", "faults": []}))
    report = LiveReport([run], 0)
    assert json.loads(report.answer(""))["is_over"] is True

    begin_run(run, more)
    answer = json.loads(report.answer(""))

    assert (answer["last_step"], answer["num_steps"], answer["is_over"]) == (2, 4, False)
    assert "no summary yet" in answer["content"]["slots"]["headline"]


def test_a_summary_that_is_damaged_leaves_the_page_as_it_is(run: Path):
    report = LiveReport([run], 0)
    (run / "summary.json").write_text('{"steps": 2, "tot')
    answer = json.loads(report.answer(""))

    assert (answer["last_step"], answer["is_over"], answer["problem"]) == (2, False, None)
    assert "summary not readable" in answer["content"]["slots"]["headline"]


def test_a_run_that_has_not_begun_is_waited_for(tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    report = LiveReport([run], 6)
    answer = json.loads(report.answer(""))
    assert (answer["last_step"], answer["age_s"], answer["content"]["figures"]) == (0, None, [])

    write_run(run, learning_events(1))

    assert json.loads(report.answer(""))["last_step"] == 1


def test_a_run_that_cannot_be_read_for_a_while_leaves_the_old_page_and_says_why(run: Path, tmp_path: Path):
    report = LiveReport([run], 6)
    before = json.loads(report.answer(""))
    run.rename(tmp_path / "moved")
    during = json.loads(report.answer(before["version"]))
    (tmp_path / "moved").rename(run)
    after = json.loads(report.answer(before["version"]))

    assert during["problem"] == f"run folder {str(run)!r} does not exist; give the folder that the run writes to"
    assert (during["last_step"], during["content"]) == (2, None)
    assert (after["problem"], after["content"]) == (None, None)


def test_a_damaged_trace_file_leaves_the_page_its_content(run: Path):
    (run / "traces/step-000001.parquet").write_bytes(b"damaged")
    answer = json.loads(LiveReport([run], 6).answer(""))
    assert answer["problem"] is None
    assert answer["last_step"] == 2
    [sample] = answer["content"]["samples"]
    assert "step-000001.parquet&#x27; is damaged" in sample["html"]
