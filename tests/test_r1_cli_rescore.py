from dataclasses import replace
from pathlib import Path

import pytest
from rewards_command import PUPPET, cells, run
from scored_groups import scored_group

from r1.cli.main import main
from r1.traces import write_traces


@pytest.fixture
def puppet(tmp_path: Path) -> str:
    (tmp_path / "puppet.py").write_text(PUPPET, encoding="utf-8")
    return f"{tmp_path}/puppet.py:puppet"


def write_steps(run_dir: Path, *steps: list[tuple[str, dict[str, float | None], str | None]], **options: str) -> None:
    """Step n holds the n-th list's (completion, breakdown, error)."""
    for step, rows in enumerate(steps, start=1):
        texts, breakdowns, errors = zip(*rows, strict=True)
        group = scored_group(texts, [0.0] * len(rows), breakdowns=breakdowns, errors=errors, prefill="<think>")
        write_traces(run_dir, step, [group], template="r1_zero_prefill", **options)


RIGHT = "12+7=19</think><answer>19</answer>"
WRONG = "12+7=18</think><answer>18</answer>"
JUDGED = {"accuracy": 1.0, "reasoning_format": 1.0}


@pytest.mark.slow
def test_rescore_finds_nothing_where_nothing_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_steps(tmp_path, [(RIGHT, JUDGED, None)], [(WRONG, {**JUDGED, "accuracy": 0.0}, None)])
    shown = run(capsys, "rescore", tmp_path)
    # completions, changed, means, failures; the prefill belongs to what is judged: without it there would be no format
    assert cells(shown, "accuracy") == ["accuracy", "2", "0", "0.5000", "0.5000", "0", "0"]
    assert cells(shown, "reasoning_format") == ["reasoning_format", "2", "0", "1.0000", "1.0000", "0", "0"]
    assert shown.endswith("nothing changed\n")


@pytest.mark.slow
def test_rescore_leaves_a_damaged_step_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_steps(tmp_path, [(RIGHT, JUDGED, None)], [(RIGHT, JUDGED, None)])
    (tmp_path / "traces/step-000001.parquet").write_bytes(b"damaged")
    with pytest.raises(SystemExit) as ended:
        main(["rewards", "rescore", str(tmp_path)])
    out, err = capsys.readouterr()
    assert not ended.value.code, err
    assert cells(out, "accuracy")[:2] == ["accuracy", "1"]
    assert err.count("left out: trace file") == 1


@pytest.mark.slow
def test_rescore_lists_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_steps(
        tmp_path,
        [(RIGHT, JUDGED, None), (RIGHT, {"accuracy": None, "reasoning_format": None}, "accuracy: timed out after 2.0 s")],
        [(RIGHT, JUDGED, None), (WRONG, JUDGED, None)],
    )
    shown = run(capsys, "rescore", tmp_path)
    assert cells(shown, "accuracy") == ["accuracy", "4", "2", "1.0000", "0.7500", "1", "0"]
    assert cells(shown, "reasoning_format") == ["reasoning_format", "4", "1", "1.0000", "1.0000", "1", "0"]
    assert cells(shown, "1  ") == ["1", "0", "1", "accuracy", "failed", "1", "19", RIGHT]
    assert cells(shown, "2  ") == ["2", "0", "1", "accuracy", "1", "0", "19", WRONG]

    assert run(capsys, "rescore", tmp_path, "-n", 1).endswith("2 more changes; show them with -n 3\n")
    assert cells(run(capsys, "rescore", tmp_path, "--step", 2), "accuracy")[1:3] == ["2", "1"]
    only_format = run(capsys, "rescore", tmp_path, "--step", 2, "--reward", "reasoning_format")
    assert "accuracy" not in only_format
    assert only_format.endswith("nothing changed\n")
    assert "no train traces of step 9" in run(capsys, "rescore", tmp_path, "--step", 9, exit_code=2)
    assert "holds no heldout traces" in run(capsys, "rescore", tmp_path, "--heldout", exit_code=2)


@pytest.mark.slow
def test_rescore_by_another_reward_compares_with_nothing(tmp_path: Path, puppet: str, capsys: pytest.CaptureFixture[str]):
    write_steps(tmp_path, [("now raise", JUDGED, None), ("at 0.5", JUDGED, None)], split="heldout")
    shown = run(capsys, "rescore", tmp_path, "--heldout", "--reward", puppet)
    assert cells(shown, puppet)[1:] == ["2", "0", "-", "0.5000", "0", "1"]
    assert shown.endswith("nothing changed\n")


@pytest.mark.slow
def test_rescore_gives_the_reward_what_training_gave_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "echo.py").write_text(
        "def echo(completion, reference):\n    raise ValueError(sorted(reference.items()))\n", encoding="utf-8"
    )
    write_steps(tmp_path, [(RIGHT, {f"{tmp_path}/echo.py:echo": 1.0}, None)])
    (tmp_path / "config.json").write_text('{"rollout": {"max_completion_tokens": 64}}', encoding="utf-8")
    shown = run(capsys, "rescore", tmp_path)
    given = [("answer", "19"), ("answer_form", "tags"), ("finish_reason", "stop"), ("max_tokens", 64), ("num_tokens", 2)]
    assert f"failed: {tmp_path}/echo.py:echo: ValueError: {[*given, ('question', '12+7=')]}" in shown


def test_rescore_names_a_reward_that_is_no_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_steps(tmp_path, [(RIGHT, {"accuracy": 1.0, "elegance": 1.0}, None)])
    error = run(capsys, "rescore", tmp_path, exit_code=2)
    assert "the traces of step 1 carry the reward 'elegance'" in error
    assert run(capsys, "rescore", tmp_path, "--reward", "accuracy").endswith("nothing changed\n")


@pytest.mark.slow
def test_each_task_of_a_mixture_is_judged_by_its_own_rewards(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sums = scored_group([RIGHT], [1.0], breakdowns=[JUDGED], prefill="<think>")
    words = scored_group([RIGHT], [1.0], group_id=1, breakdowns=[{"math_answer": 1.0}], prefill="<think>")
    words = replace(words, prompt=replace(words.prompt, task="gsm8k"))
    write_traces(tmp_path, 1, [sums, words], template="r1_zero_prefill")
    shown = run(capsys, "rescore", tmp_path)
    # One completion each: what a task does not reward is not judged, and so has not changed.
    assert cells(shown, "accuracy") == ["accuracy", "1", "0", "1.0000", "1.0000", "0", "0"]
    assert cells(shown, "math_answer") == ["math_answer", "1", "0", "1.0000", "1.0000", "0", "0"]
