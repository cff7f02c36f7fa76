import re
from pathlib import Path

import pytest
from report_runs import Texts, content_of, learning_events, write_run, write_samples
from scored_groups import scored_group

from r1.report.choice import choose_rows, choose_steps
from r1.report.samples import split_text
from r1.trace_choice import TraceChoice
from r1.traces import write_traces


@pytest.mark.parametrize(
    ("stored", "count", "chosen"),
    [
        (range(1, 51), 6, [1, 10, 20, 30, 40, 50]),
        (range(1, 1001), 6, [1, 200, 400, 600, 800, 1000]),
        (range(1, 4), 6, [1, 2, 3]),
        ([7], 6, [7]),
        (range(1, 51), 1, [50]),
        (range(1, 51), 2, [1, 50]),
        (range(1, 51), 0, []),
        ([], 6, []),
        ([1, 8, 19, 33, 50], 6, [1, 8, 19, 33, 50]),  # a store of a share: all of them are few enough
        ([0, 20, 40, 50], 2, [0, 50]),
    ],
)
def test_chosen_steps_are_the_first_the_last_and_round_ones_between(stored, count, chosen):
    assert choose_steps(list(stored), count) == chosen


def test_the_choice_stays_while_a_run_goes_on():
    choices = [choose_steps(list(range(1, last + 1)), 6)[:-1] for last in range(31, 51)]

    assert choices[0] == [1, 10, 20, 30]
    assert all(choice[:4] == [1, 10, 20, 30] for choice in choices)


def test_best_median_and_worst_and_equal_rewards_go_by_place():
    places = [(1, 0), (0, 1), (0, 0), (1, 1), (2, 0)]

    # From best to worst: (0,0) 1.0, (0,1) 1.0, (1,0) 0.5, (1,1) 0.0, (2,0) 0.0
    assert choose_rows([0.5, 1.0, 1.0, 0.0, 0.0], places) == {2: "best", 0: "median", 4: "worst"}
    assert choose_rows([None, None], [(0, 1), (0, 0)]) == {1: "not judged"}
    assert choose_rows([0.5], [(0, 0)]) == {0: "best"}
    assert choose_rows([], []) == {}


def test_samples_of_chosen_steps_in_the_order_of_time(tmp_path: Path):
    run = write_run(tmp_path, learning_events(4))
    for step in range(1, 5):
        write_samples(run, step, [f"good {step}", f"middling {step}", f"bad {step}"], [1.0, 0.5, 0.0])
    for step in (0, 2, 4):
        write_traces(run, step, [scored_group([f"held-out {step}"], [1.0])], template="plain", split="heldout")
    sections = [Texts(section).text for _, section in content_of(run, samples=3).samples]

    assert [re.match(r"(Held-out, )?(before training|after step \d|[Ss]tep \d)", text)[0] for text in sections] == [
        *("Held-out, before training", "Step 1", "Step 2", "Step 4", "Held-out, after step 4"),
    ]
    assert re.findall("good 2|middling 2|bad 2", sections[2]) == ["good 2", "middling 2", "bad 2"]


def test_steps_of_which_no_group_is_stored_are_not_chosen(tmp_path: Path):
    run = write_run(tmp_path, learning_events(6), "logging.traces=text:0.04")
    for step in range(1, 7):
        choice = TraceChoice.parse("text" if step in (2, 3, 5) else "text:0")
        write_traces(run, step, [scored_group([f"of {step}"], [1.0])], template="plain", choice=choice)

    assert [key for key, _ in content_of(run, samples=2).samples] == ["run0-train-2", "run0-train-5"]


def test_a_run_without_any_stored_completion_has_a_page_all_the_same(tmp_path: Path):
    run = write_run(tmp_path, learning_events(1))
    write_traces(run, 1, [scored_group(["a"], [1.0])], template="plain", choice=TraceChoice.parse("text:0"))

    assert content_of(run, samples=2).samples == []


def test_a_sample_shows_its_score_and_folds_its_thinking(tmp_path: Path):
    run = write_run(tmp_path, learning_events(1))
    write_samples(
        run,
        1,
        ["12 and 7</think>so <answer>19</answer> done", "20"],
        [1.1, None],
        advantages=[1.25, 0.0],
        breakdowns=[{"accuracy": 1.0, "reasoning_format": None}, {"accuracy": None}],
        errors=[None, "accuracy: timed out"],
        finish_reasons=["length", "stop"],
        num_tokens=[1234, 1],
        prefill="<think>",
    )
    ((_, section),) = content_of(run, samples=6).samples
    first, second = section.split("<article")[1:]

    text = Texts("<article" + first).text
    assert text.startswith("bestreward 1.10accuracy 1.00reasoning_format -advantage +1.25tokens 1,234finish length")
    assert "prefill <think>" in text
    assert "<summary>thinking, 23 characters</summary>" in first  # <think>12 and 7</think>
    assert "so &lt;answer&gt;<mark>19</mark>&lt;/answer&gt; done</pre>" in first
    assert "reference <code>19</code>" in first
    assert 'class="why not">not judged<' in second
    assert "error <code>accuracy: timed out</code>" in second


@pytest.mark.parametrize(
    ("text", "before", "thinking", "after"),
    [
        ("19", "", None, "19"),
        ("<think>a</think><answer>b</answer>", "", "<think>a</think>", "<answer>b</answer>"),
        ("Hm. <think>a</think>b", "Hm. ", "<think>a</think>", "b"),
        ("a</think>b", "", "a</think>", "b"),
        ("x<think>a", "x", "<think>a", ""),
        ("<think>a</think>b<think>c</think>d", "", "<think>a</think>b<think>c</think>", "d"),
        ("a</think>b<think>c", "", "a</think>", "b<think>c"),
    ],
)
def test_a_completion_is_cut_at_its_thinking_and_nothing_falls_away(text, before, thinking, after):
    parts = split_text(text)

    assert (parts.before, parts.thinking, parts.after) == (before, thinking, after)
    assert parts.before + (parts.thinking or "") + parts.after == text


def test_a_damaged_step_has_its_error_in_place_of_its_cards(tmp_path: Path, capsys):
    run = write_run(tmp_path, learning_events(2))
    for step in (1, 2):
        write_samples(run, step, [f"text of {step}"], [1.0])
    whole = [key for key, _ in content_of(run, samples=2).samples]
    (run / "traces/step-000001.parquet").write_bytes(b"damaged")
    for _ in range(2):  # the live page reads it again at every step
        samples = content_of(run, samples=2).samples
    (damaged_key, damaged), (key, section) = samples

    assert re.search(r"Step 1\s*trace file '.*step-000001.parquet' is damaged \(.*\); remove it", Texts(damaged).text)
    assert "text of 2" in Texts(section).text
    assert key in whole
    assert damaged_key not in whole  # under a key of its own: a page that is open keeps what it has of a key
    assert f'data-key="{damaged_key}"' in damaged
    assert capsys.readouterr().err.count("left out: ") == 1
