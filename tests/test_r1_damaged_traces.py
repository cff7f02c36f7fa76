"""`r1 traces` with a damaged file among others: it is left out and named, and an error only where that step was asked for."""

import re

import pyarrow.parquet as pq
import pytest
from scored_groups import scored_group

from r1 import trace_flags
from r1.cli.main import main
from r1.traces import trace_path, write_traces


def run_r1(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return exit_.value.code or 0, captured.out, captured.err


@pytest.fixture
def run_dir(tmp_path):
    """2, 2 and 3 completions."""
    write_traces(tmp_path, 1, [scored_group(["8", "9"], [0.0, 0.0])], template="plain")
    write_traces(tmp_path, 2, [scored_group(["7", "7"], [0.0, None], group_id=1)], template="plain")
    write_traces(tmp_path, 10, [scored_group(["<answer>19</answer>"] * 3, [1.0] * 3)], template="plain")
    return tmp_path


def damage(run_dir, step, column):
    """Flip the last bit of a column."""
    path = trace_path(run_dir, step, "train")
    footer = pq.read_metadata(path).row_group(0)
    [part] = [footer.column(number) for number in range(footer.num_columns) if footer.column(number).path_in_schema == column]
    content = bytearray(path.read_bytes())
    content[(part.dictionary_page_offset or part.data_page_offset) + part.total_compressed_size - 1] ^= 1
    path.write_bytes(content)


DAMAGED_LINE = r"left out: trace file '.*/step-000002.parquet' is damaged \(.*\); remove it\n"


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["ls"], "\n +10 +train +3 "),
        (["stats"], "\n +10 +3 "),
        (["grep", "."], "5 of 5 completions in 2 of 2 steps match"),
        (["flag"], "of 5 completions are flagged"),
        (["diff"], "problem problem-0  arithmetic  train\n"),
        (["export", "--format", "csv"], "answer>19"),
    ],
)
def test_a_damaged_step_is_left_out_and_named(capsys, run_dir, command, shown):
    (run_dir / "traces/step-000002.parquet").write_bytes(b"damaged")
    code, out, err = run_r1(capsys, "traces", command[0], run_dir, *command[1:])
    assert code == 0, err
    assert re.search(shown, out), out
    assert re.fullmatch(DAMAGED_LINE + ("5 completions\n" if command[0] == "export" else ""), err)


@pytest.mark.parametrize("command", [["flag", "--step", "2"], ["export", "--step", "2"], ["show", "--step", "2"], ["diff", "--steps", "1,2"]])
def test_a_damaged_step_that_was_asked_for_is_an_error(capsys, run_dir, command):
    (run_dir / "traces/step-000002.parquet").write_bytes(b"damaged")
    code, out, err = run_r1(capsys, "traces", command[0], run_dir, *command[1:])
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: trace file '.*/step-000002.parquet' is damaged \(.*\); remove it\n", err)


def test_flagging_processes_leave_a_damaged_step_out(capsys, run_dir, monkeypatch):
    monkeypatch.setattr(trace_flags, "MIN_STEPS_FOR_PROCESSES", 1)
    (run_dir / "traces/step-000002.parquet").write_bytes(b"damaged")
    code, out, err = run_r1(capsys, "traces", "flag", run_dir)
    assert code == 0
    assert "of 5 completions are flagged" in out
    assert re.fullmatch(DAMAGED_LINE, err)


@pytest.mark.parametrize("column", ["reward", "completion"])
def test_diff_goes_on_without_a_step_whose_damage_shows_late(capsys, tmp_path, column):
    for step in (1, 3, 2):
        write_traces(tmp_path, step, [scored_group([f"text of {step}"], [float(step)])], template="plain")
    damage(tmp_path, 3, column)
    code, out, err = run_r1(capsys, "traces", "diff", tmp_path, "--problem", "problem-0")
    assert code == 0
    assert re.findall("text of .", out) == ["text of 1", "text of 2"]
    assert err.count("left out: ") == err.count("\n") == 1
    code, out, err = run_r1(capsys, "traces", "diff", tmp_path, "--steps", "1,3")
    assert (code, out) == (2, "")
    assert "step-000003.parquet' is damaged" in err


def test_grep_leaves_out_an_example_that_is_damaged(capsys, run_dir):
    damage(run_dir, 2, "completion")
    code, out, err = run_r1(capsys, "traces", "grep", run_dir, "=", "--in", "question", "-n", "9")
    assert code == 0
    assert out.endswith("7 of 7 completions in 3 of 3 steps match\n")
    assert re.fullmatch(DAMAGED_LINE, err)


@pytest.mark.parametrize("command", [["ls"], ["stats"], ["grep", "."], ["flag"], ["diff"], ["export"], ["show"]])
def test_a_run_whose_traces_are_all_damaged(capsys, tmp_path, command):
    write_traces(tmp_path, 2, [], template="plain").write_bytes(b"damaged")
    code, out, err = run_r1(capsys, "traces", command[0], tmp_path, *command[1:])
    assert (code, out) == (2, "")
    *_, last = err.splitlines()
    if command[0] == "show":
        assert "step-000002.parquet' is damaged" in last
    else:
        assert last == f"error: none of the train traces in '{tmp_path}' can be read; remove the files that are named above"
