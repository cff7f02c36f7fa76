"""What a report says of the end of a run, of its summary and of its faults."""

from pathlib import Path

import pytest
from report_runs import Texts, content_of, heldout_event, learning_events, step_event, write_run


@pytest.mark.parametrize(
    ("summary", "shown"),
    [
        (None, "no summary yet"),
        ({"steps": 4, "total_s": 100.0, "faults": []}, "finished"),
        ({"steps": 3, "total_s": 100.0, "faults": []}, "no summary yet"),  # of the process before a resume
    ],
)
def test_whether_a_run_has_ended(tmp_path: Path, summary, shown):
    content = content_of(write_run(tmp_path, learning_events(4), summary=summary))

    assert f'<small class="state">{shown}</small>' in content.slots["headline"]
    assert content.is_over == (shown == "finished")


@pytest.mark.parametrize(
    ("summary", "why"),
    [
        ("{", "Expecting property name"),
        ("[]", "it is no object"),
        ('{"total_s": 1.0}', "it has no steps"),
        ('{"steps": 4, "faults": 3}', "faults is 3"),
        ('{"steps": 4, "versions": "1.0"}', "versions is '1.0'"),
        ('{"steps": 4, "total_s": "<b>"}', "total_s is '<b>'"),
        (b"\xff", "'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_summary_that_is_damaged_is_named_in_its_place(tmp_path: Path, summary, why):
    run = write_run(tmp_path, learning_events(4))
    (run / "summary.json").write_bytes(summary if isinstance(summary, bytes) else summary.encode())
    content = content_of(run)

    assert '<small class="state">summary not readable</small>' in content.slots["headline"]
    assert f"summary.json is damaged: {why}" in Texts(content.slots["faults"]).text
    assert "<b>" not in content.slots["faults"]
    assert "not readable: summary.json is damaged" in Texts(content.slots["config"]).text
    assert not content.is_over


def test_a_summary_may_say_nothing_of_what_was_not_measured(tmp_path: Path):
    summary = {"steps": 4, "total_s": None, "faults": None, "versions": None, "ended": None}
    content = content_of(write_run(tmp_path, learning_events(4), summary=summary))

    assert '<small class="state">finished</small>' in content.slots["headline"]
    assert "Versions are written when a run ends." in content.slots["config"]


@pytest.mark.parametrize(
    ("ended", "state"),
    [
        ("RunError: <b>3 updates</b> in a row", "ended by RunError: <b>3 updates</b> in a row"),
        ("KeyboardInterrupt: ", "ended by KeyboardInterrupt"),
        ("SIGTERM, stopped after step 4", "ended by SIGTERM, stopped after step 4"),
        ("RunError: " + "long " * 30, "ended by RunError: " + "long " * 8 + "..."),
    ],
)
def test_how_a_run_ended_is_told_beside_its_name_and_beneath_its_faults(tmp_path: Path, ended, state):
    # An error is among the faults too, and is told once.
    faults = ["worker 1 died", *([ended] if ": " in ended else [])]
    summary = {"steps": 4, "total_s": 100.0, "ended": ended, "faults": faults}
    runs = [write_run(tmp_path / name, learning_events(4), summary=summary) for name in ("one", "two")]
    alone, both = content_of(runs[0]), content_of(*runs)

    assert Texts(alone.slots["headline"]).text.count(state) == 2  # the tile of the steps as well
    assert "<b>3 updates" not in alone.slots["headline"] + alone.slots["faults"]
    assert Texts(alone.slots["faults"]).text.split() == ["worker", "1", "died", "ended", "by", *ended.rstrip(": ").split()]
    assert Texts(both.slots["faults"]).text.count("ended by") == 2
    assert alone.is_over


def test_a_run_that_ended_well_has_no_word_of_it_beneath_its_faults(tmp_path: Path):
    summary = {"steps": 4, "total_s": 100.0, "ended": "finished", "faults": []}
    content = content_of(write_run(tmp_path, learning_events(4), summary=summary))

    assert '<small class="state">finished</small>' in content.slots["headline"]
    assert content.slots["faults"] == '<p class="none">No faults are recorded.</p>'


@pytest.mark.parametrize(
    ("counters", "told", "shown"),
    [
        ([{"worker": 1}, {"worker": 2}, {"worker": 3}, {"worker": 0}, {"worker": 1}, {"worker": 2}], None, 5),
        # A process that has seen none of a kind has no counter of it.
        ([{"worker": 3}, {}, {"worker": 3}], None, 6),
        # The second process begins with another kind: 1 + 2
        ([{"worker": 1}, {"learner": 2}], None, 3),
        ([{"worker": 1, "learner": 1}, {"worker": 2, "learner": 1}], None, 3),
        # The summary knows those after the last step of its process, the second: 2 + 3
        ([{"worker": 2}, {"worker": 1}], 3, 5),
        ([], 2, 2),
    ],
)
def test_faults_of_all_processes_are_counted(tmp_path: Path, counters, told, shown):
    events = [
        step_event(step, {f"faults/{kind}": float(count) for kind, count in of_step.items()})
        for step, of_step in enumerate(counters, start=1)
    ]
    summary = None if told is None else {"steps": len(events), "total_s": 9.0, "faults": ["lost"] * told}
    run = write_run(tmp_path, [heldout_event(0, {"accuracy": 0.0}), *events], summary=summary)

    assert f"Faults{shown}" in Texts(content_of(run).slots["headline"]).text


def test_a_run_that_broke_off_shows_its_faults_and_the_time_of_its_steps(tmp_path: Path):
    # The last process alone took 5 s, all steps 4 x 3 s.
    summary = {"steps": 4, "total_s": 5.0, "faults": ["worker <1> died", {"kind": "learner", "text": "lost"}]}
    content = content_of(write_run(tmp_path, learning_events(4), "num_steps=9", summary=summary))
    text = Texts(content.slots["headline"]).text

    assert "ended early" in text
    assert "12 s in steps" in text
    assert "Faults2" in text
    assert content.slots["faults"] == (
        '<ul class="faults"><li> worker &lt;1&gt; died</li><li> kind learner  text lost</li></ul>'
    )
