import re
from pathlib import Path

from report_runs import (
    Texts,
    content_of,
    heldout_event,
    learning_events,
    metric_run,
    step_event,
    write_run,
)

from r1.report.figures import Figure


def figures_of(*runs: Path) -> dict[str, Figure]:
    return {figure["key"]: figure for figure in content_of(*runs).figures}


def lines_of(figure: Figure) -> list[tuple[str, list[int], list[float | None]]]:
    return [(trace["name"], trace["x"], trace["y"]) for trace in figure["data"]]


def test_a_metric_is_drawn_step_by_step_and_as_its_centred_mean(tmp_path: Path):
    run = metric_run(tmp_path, entropy=[3.0, 0.0, 6.0, 3.0])

    # Mean of 3 steps: (3+0)/2, (3+0+6)/3, (0+6+3)/3, (6+3)/2
    assert lines_of(figures_of(run)["entropy"]) == [
        ("each step", [1, 2, 3, 4], [3.0, 0.0, 6.0, 3.0]),
        ("smoothed", [1, 2, 3, 4], [1.5, 3.0, 3.0, 4.5]),
    ]


def test_a_smoothed_value_says_of_how_many_steps_it_is_the_mean(tmp_path: Path):
    # A tenth of 41 steps, odd: 5. At the ends, and of 39 known values, fewer: as many as the curve has there.
    values = [float(step) for step in range(41)]
    values[1] = values[20] = None
    raw, strong = figures_of(metric_run(tmp_path, entropy=values))["entropy"]["data"]

    assert strong["customdata"] == [3, None, 4, *[5] * 17, None, *[5] * 18, 4, 3]
    assert strong["hovertemplate"] == "%{y:.4~g} (mean of %{customdata} steps)"
    assert "customdata" not in raw
    assert (raw["meta"]["label"], strong["meta"]["label"]) == ("each step", "smoothed")
    # (0 + 2 + 3) / 3: what is missing is passed over.
    assert strong["y"][0] == 1.66667


def test_the_columns_of_a_smoothed_line_are_told_apart(tmp_path: Path):
    figure = figures_of(metric_run(tmp_path, completion_tokens=[1.0, 2.0, 3.0]))["length"]

    # In the table of values; the hover box has the count.
    assert [trace["meta"]["label"] for trace in figure["data"][:2]] == ["mean", "mean, smoothed"]
    assert [trace["name"] for trace in figure["data"][:2]] == ["mean", "mean"]


def test_a_value_that_is_not_finite_is_a_gap_and_is_named(tmp_path: Path):
    run = metric_run(tmp_path, entropy=[3.0, None, 6.0, None, 0.0], kl=[0.1, 0.1, 0.1, 0.1, 0.2])
    figures = figures_of(run)

    # The mean passes over what is missing: (3+6)/2, (3+6+0)/3, (6+0)/2
    assert [y for *_, y in lines_of(figures["entropy"])] == [[3.0, None, 6.0, None, 0.0], [4.5, None, 3.0, None, 3.0]]
    assert not any(trace["connectgaps"] for trace in figures["entropy"]["data"])
    assert figures["entropy"]["notes"] == ["entropy: NaN or infinite at step 2, 4, a gap in the line"]
    assert figures["kl"]["notes"] == []


def test_a_metric_that_is_not_recorded_has_no_figure(tmp_path: Path):
    figures = figures_of(metric_run(tmp_path, entropy=[1.0, 2.0]))

    assert list(figures) == ["entropy", "phases", "step-time"]


def test_a_run_of_one_step_is_drawn_as_a_point(tmp_path: Path):
    (trace,) = figures_of(metric_run(tmp_path, entropy=[1.0]))["entropy"]["data"]

    assert (trace["mode"], trace["x"], trace["y"]) == ("lines+markers", [1], [1.0])


def test_heldout_evaluations_are_points_with_their_interval_and_passes(tmp_path: Path):
    run = write_run(
        tmp_path,
        [
            heldout_event(0, {"accuracy": 0.25, "accuracy_error": 0.125, "pass@4": 0.5, "maj@4": 0.375}),
            step_event(1, {"accuracy": 0.5}),
            heldout_event(1, {"accuracy": 0.75, "accuracy_error": 0.0625, "pass@4": 1.0, "maj@4": 0.875}),
        ],
    )
    training, heldout, majority, passes = figures_of(run)["accuracy"]["data"]

    assert (training["x"], training["y"]) == ([1], [0.5])
    assert (heldout["name"], heldout["x"], heldout["y"]) == ("held-out", [0, 1], [0.25, 0.75])
    assert heldout["error_y"]["array"] == [0.125, 0.0625]
    assert (majority["name"], majority["y"]) == ("held-out maj@4", [0.375, 0.875])
    assert (passes["name"], passes["y"]) == ("held-out pass@4", [0.5, 1.0])


def test_what_never_happened_is_listed_instead_of_drawn(tmp_path: Path):
    run = metric_run(
        tmp_path,
        staleness=[0.0, 0.0],
        sampling_rounds=[1.0, 1.0],
        skipped_updates=[0.0, 1.0],
        num_prompts=[2.0, 2.0],
        num_loss_tokens=[40.0, 50.0],
    )
    content = content_of(run)

    assert [figure["key"] for figure in content.figures] == ["skipped", "rest/num_loss_tokens", "phases", "step-time"]
    constants = Texts(content.slots["constants"]).text
    assert re.findall(r"(num_prompts|sampling_rounds|staleness)(\d)", constants) == [
        ("staleness", "0"),
        ("sampling_rounds", "1"),
        ("num_prompts", "2"),
    ]


def test_every_reward_part_every_task_and_every_fault_has_its_line(tmp_path: Path):
    run = metric_run(
        tmp_path,
        **{
            "reward/reasoning_format": [1.0, 0.5],
            "reward/my.py:short": [0.5, 0.0],
            "accuracy/gsm8k": [0.1, 0.2],
            "faults/learner": [0.0, 1.0],
            "reward_errors/my.py:short": [0.0, 2.0],
            "reward_timeouts/my.py:short": [0.0, 1.0],
        },
    )
    titles = [figure["title"] for figure in content_of(run).figures]

    assert titles == [
        *("Format", "Reward part: my.py:short", "Accuracy: gsm8k", "Failed reward: my.py:short", "Faults so far"),
        *("Phases of a step", "Step time"),
    ]


def test_the_mismatch_has_its_bound_and_a_logarithmic_axis(tmp_path: Path):
    figure = figures_of(metric_run(tmp_path, "sync.max_logprob_diff=0.001", mismatch=[1e-8, 2e-8]))["mismatch"]

    assert figure["layout"]["yaxis"]["type"] == "log"
    assert lines_of(figure)[-1] == ("bound 0.001", [0, 2], [0.001, 0.001])


def test_a_logarithm_is_not_taken_of_zero_nor_a_far_bound_drawn_on_a_linear_axis(tmp_path: Path):
    figure = figures_of(metric_run(tmp_path, "sync.max_logprob_diff=0.001", mismatch=[0.0, 2e-8]))["mismatch"]

    assert "type" not in figure["layout"]["yaxis"]
    assert [name for name, *_ in lines_of(figure)] == ["mean"]


def test_the_phases_of_each_step_are_stacked_in_their_order(tmp_path: Path):
    times = [{"update": 1.0, "sample": 2.0}, {"update": 1.5, "sample": 2.5, "checkpoint": 0.5}]
    run = write_run(tmp_path, [step_event(step, {"entropy": 1.0}, of_step) for step, of_step in enumerate(times, start=1)])
    figure = figures_of(run)["phases"]

    assert figure["layout"]["barmode"] == "stack"
    assert lines_of(figure) == [("sample", [1, 2], [2.0, 2.5]), ("update", [1, 2], [1.0, 1.5]), ("checkpoint", [1, 2], [0.0, 0.5])]
    assert figures_of(run)["step-time"]["data"][0]["y"] == [3.0, 4.5]


def test_more_bars_than_a_figure_has_pixels_are_means_and_say_so(tmp_path: Path):
    # 801 steps of 1, 2, 3, ... seconds: three to a bar, the first is the mean of 1, 2, 3
    run = write_run(tmp_path, [step_event(step, {"entropy": 1.0}, {"sample": float(step)}) for step in range(1, 802)])
    figure = figures_of(run)["phases"]
    ((_, steps, seconds),) = lines_of(figure)

    assert (len(steps), steps[:2], seconds[:2]) == (267, [1, 4], [2.0, 5.0])
    assert figure["notes"] == ["each bar is the mean of 3 steps, from the one it stands at"]


def test_throughput_is_all_tokens_by_the_time_of_the_step(tmp_path: Path):
    run = write_run(tmp_path, [step_event(1, {"completion_tokens": 30.0, "num_completions": 4.0}, {"sample": 2.0, "load": 1.0})])

    assert figures_of(run)["throughput"]["data"][0]["y"] == [40.0]


# several runs


def test_several_runs_share_every_figure_each_in_its_colour(tmp_path: Path):
    first = metric_run(tmp_path / "first", entropy=[1.0, 2.0])
    second = metric_run(tmp_path / "second", entropy=[3.0, 4.0], kl=[0.5, 0.25])
    figures = figures_of(first, second)

    assert lines_of(figures["entropy"]) == [("first", [1, 2], [1.0, 2.0]), ("second", [1, 2], [3.0, 4.0])]
    assert [trace["meta"]["color"] for trace in figures["entropy"]["data"]] == ["run-0", "run-1"]
    assert [(entry["label"], entry["color"]) for entry in figures["entropy"]["legend"]] == [("first", "run-0"), ("second", "run-1")]
    assert [trace["meta"]["color"] for trace in figures["kl"]["data"]] == ["run-1"]
    # Mean seconds by phase: report_runs.TIMES in every step
    assert lines_of(figures["phases"]) == [("first", ["sample", "update"], [2.0, 1.0]), ("second", ["sample", "update"], [2.0, 1.0])]


def test_the_options_that_differ_are_side_by_side_and_the_others_are_not(tmp_path: Path):
    runs = [
        metric_run(tmp_path / "a", "seed=1", entropy=[1.0]),
        metric_run(tmp_path / "b", "seed=2", "run_dir=elsewhere", entropy=[1.0]),
        metric_run(tmp_path / "c", "seed=1", "algorithm.kl_coef=0.001", entropy=[1.0]),
    ]
    options = content_of(*runs).slots["headline"].partition("Options that differ")[2]

    assert [Texts(row).text for row in options.split("<tr>")[2:]] == ["seed121", "algorithm.kl_coef0.00.00.001"]


def test_runs_with_the_same_options_say_so(tmp_path: Path):
    runs = [metric_run(tmp_path / name, entropy=[1.0]) for name in "ab"]

    assert "None: the runs have the same options." in content_of(*runs).slots["headline"]


def test_headline_figures_stand_side_by_side(tmp_path: Path):
    runs = [write_run(tmp_path / name, learning_events(num_steps)) for name, num_steps in (("a", 4), ("b", 2))]
    text = Texts(content_of(*runs).slots["headline"]).text

    assert "Held-out accuracy0.250 → 0.750 +0.500, ± 0.125, held-out0.250 → 0.750 +0.500, ± 0.125, held-out" in text
    assert "Steps4 of 4 no summary yet2 of 4 no summary yet" in text


def test_what_the_console_warned_of_is_in_the_page_the_latest_first(tmp_path: Path):
    # 9 of 10 completions cut off in every step: said at once, and again as it goes on
    runs = [metric_run(tmp_path / name, truncated_share=[0.9] * 120, zero_variance_share=[0.0] * 120) for name in "ab"]
    alone, both = (content_of(*of).slots["headline"] for of in (runs[:1], runs))
    said = re.findall(r"step (\d+) \d+ % of the completions.*?docs/tuning.md#truncated", Texts(alone).text)

    assert len(said) >= 3
    assert said == sorted(said, key=int, reverse=True)
    assert both.count("docs/tuning.md#truncated") == 2 * len(said)
    assert re.search(r"<summary>\d+ earlier warnings</summary>", both)


def test_folders_of_one_name_are_told_apart_by_their_paths(tmp_path: Path):
    runs = [metric_run(tmp_path / parent / "run", entropy=[1.0]) for parent in ("x", "y")]

    assert content_of(*runs).title == f"{runs[0]} / {runs[1]}"
