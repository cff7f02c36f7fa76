"""`r1 traces stats|grep|diff|flag|export` as a person calls them, into a pipe."""

import csv
import json
import os
import re
import stat
import subprocess
from dataclasses import replace

import pytest
from scored_groups import scored_group

from r1 import trace_flags, traces
from r1.cli.main import main
from r1.traces import write_traces
from r1.types import TokenValues

HOSTILE = "\x1b[2J[red]wait, [/red]\u202e\n```\n</script>"


def run_r1(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return exit_.value.code, captured.out, captured.err


@pytest.fixture
def r1(capsys):
    """What `r1 traces ...` prints."""

    def run(*arguments):
        code, out, err = run_r1(capsys, "traces", *arguments)
        assert code == 0, err
        assert not err or re.fullmatch(r"[\d,]+ completions\n", err)
        return out

    return run


@pytest.fixture
def run_dir(tmp_path):
    good = "<think>12+7 is 19</think><answer>19</answer>"
    first = scored_group(["8", HOSTILE], [0.0, 0.0], breakdowns=[{"accuracy": 0.0}] * 2, num_tokens=[1, 99])
    last = scored_group([good, good, "<answer>19</answer>"], [1.0, 1.0, 1.0])
    write_traces(tmp_path, 1, [first], template="plain")
    write_traces(tmp_path, 2, [scored_group(["7", "7"], [0.0, None], group_id=1)], template="plain")
    write_traces(tmp_path, 10, [last], template="plain")
    write_traces(tmp_path, 0, [scored_group(["held"], [0.0])], template="plain", split="heldout")
    return tmp_path


def rows_of(text):
    """The cells of a table that was printed."""
    return [line.split() for line in text.splitlines() if line.strip() and "─" not in line]


def test_stats(r1, run_dir):
    header, *rows = rows_of(r1("stats", run_dir))
    assert header == "step completions reward accuracy tokens truncated duplicates reflections errors".split()
    # 1 reflection in 100 tokens; at step 2 one of two says the same; at step 10 one of three
    assert rows[0] == "1 2 0.00 0.00 50.0 0.00 0.00 10.00 0".split()
    assert rows[1][:3] + rows[1][6:7] == ["2", "2", "0.00", "0.50"]
    assert rows[2][:3] + rows[2][6:7] == ["10", "3", "1.00", "0.33"]
    assert rows_of(r1("stats", run_dir, "--by", "task", "--heldout"))[1][:2] == ["arithmetic", "1"]


def test_grep_counts_by_step_and_shows_examples(r1, run_dir):
    out = r1("grep", run_dir, "<answer>1(9)")
    assert rows_of(out)[:2] == ["step completions matching share matches reward".split(), "10 3 3 1.000 3 1.00".split()]
    assert "step 10 group 0 sample 2 reward 1.00: <answer>19</answer>" in out
    assert out.endswith("3 of 7 completions in 1 of 3 steps match\n")
    assert "sample" not in r1("grep", run_dir, "19", "-n", "0")


def test_a_hostile_example_is_shown_as_it_is(r1, run_dir):
    out = r1("grep", run_dir, "wait")
    assert r"\x1b[2J[red]wait, [/red]\u202e\n```\n</script>" in out
    assert "\x1b" not in out
    assert "\u202e" not in out


def test_grep_that_finds_nothing_says_so_by_its_exit_code(capsys, run_dir):
    assert run_r1(capsys, "traces", "grep", run_dir, "nowhere")[:2] == (1, "0 of 7 completions in 0 of 3 steps match\n")


def test_diff_shows_the_same_problem_earlier_and_later(r1, run_dir):
    out = r1("diff", run_dir, "--problem", "problem-0", "--steps", "1,10")
    assert out.startswith("problem problem-0  arithmetic  train\n--- prompt\n12+7=\n")
    table = [row for row in rows_of(out) if row[0] in ("1", "10")]
    # step, completions, reward, accuracy, tokens, truncated, different answers: none at step 1, where nothing is in tags
    assert table == ["1 2 0.00 0.00 50.0 0.00 0".split(), "10 3 1.00 1.00 2.0 0.00 1".split()]
    assert out.index("--- completion\n8\n") < out.index("--- completion\n<think>12+7 is 19</think>")
    assert out == r1("diff", run_dir)  # the only one that was sampled twice
    assert r1("diff", run_dir, "--problem", "problem-1").count("--- completion") == 1


def test_diff_counts_answers_and_not_their_absence(r1, tmp_path):
    write_traces(tmp_path, 1, [scored_group(["", " "], [0.0, 0.0])], template="plain")
    write_traces(tmp_path, 2, [scored_group(["", "<answer>19</answer>", "<answer>8</answer>"], [0.0, 1.0, 0.0])], template="plain")
    assert [row[-1] for row in rows_of(r1("diff", tmp_path)) if row[0] in ("1", "2")] == ["0", "2"]


def test_flag_lists_kinds_and_where_they_are(r1, run_dir):
    out = r1("flag", run_dir)
    rows = {row[0]: row[1:] for row in rows_of(out)}
    assert rows["no_thinking"] == ["1", "0.1429", "step", "10", "step", "10"]
    assert rows["repeated"] == ["0", "0.0000", "-", "-"]
    line = f"no_thinking: right, and nothing worked out before the answer: r1 traces show {run_dir} --step 10 --group 0 --sample 2\n"
    assert line in out
    assert out.endswith("1 of 7 completions are flagged, 14.29%\n")
    assert "no_thinking" not in r1("flag", run_dir, "--kind", "repeated", "--step", "10")


def test_export_as_json_lines(r1, run_dir):
    rows = [json.loads(line) for line in r1("export", run_dir).splitlines()]
    assert [(row["step"], row["sample_id"]) for row in rows] == [(1, 0), (1, 1), (2, 0), (2, 1), (10, 0), (10, 1), (10, 2)]
    assert rows[1]["completion"] == HOSTILE
    assert (rows[4]["breakdown"], rows[4]["reference"]) == ({"accuracy": 1.0}, {"answer": "19"})
    assert "token_ids" not in rows[0]
    [row] = [json.loads(line) for line in r1("export", run_dir, "--step", "10", "-n", "1", "--format", "tokens").splitlines()]
    assert row["token_ids"] == [0, 1]


def test_export_chooses(r1, run_dir):
    def places(*options):
        return [(row["step"], row["sample_id"]) for row in map(json.loads, r1("export", run_dir, *options).splitlines())]

    assert places("--right") == [(10, 0), (10, 1), (10, 2)]
    assert places("--min-reward", "0.0", "-n", "3") == [(1, 0), (1, 1), (2, 0)]
    assert places("--heldout") == [(0, 0)]


def test_export_as_chats_takes_each_right_pair_once(r1, run_dir):
    chats = [json.loads(line)["messages"] for line in r1("export", run_dir, "--format", "sft").splitlines()]
    assert [[message["role"] for message in chat] for chat in chats] == [["user", "assistant"]] * 2
    assert [chat[0]["content"] for chat in chats] == ["12+7=", "12+7="]
    assert [chat[1]["content"] for chat in chats] == ["<think>12+7 is 19</think><answer>19</answer>", "<answer>19</answer>"]


def test_a_prefill_belongs_to_the_chat(r1, tmp_path):
    write_traces(tmp_path, 1, [scored_group(["so 19</think>"], [1.0], prefill="<think>")], template="r1_zero_prefill")
    assert json.loads(r1("export", tmp_path, "--format", "sft"))["messages"][1]["content"] == "<think>so 19</think>"


def test_so_many_chats_are_so_many_right_ones(r1, run_dir):
    assert len(r1("export", run_dir, "--format", "sft", "-n", "1").splitlines()) == 1
    assert len(r1("export", run_dir, "--format", "sft", "-n", "9").splitlines()) == 2


def test_export_writes_through_links_and_into_pipes(capsys, run_dir, tmp_path):
    target, link, pipe = tmp_path / "target.jsonl", tmp_path / "link.jsonl", tmp_path / "pipe"
    link.symlink_to(target)
    run_r1(capsys, "traces", "export", run_dir, "--output", link)
    assert link.is_symlink()
    assert len(target.read_text(encoding="utf-8").splitlines()) == 7
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True)
    run_r1(capsys, "traces", "export", run_dir, "--output", pipe)
    assert reader.communicate(timeout=30)[0] == target.read_text(encoding="utf-8")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_answers_and_thinking_without_tags_are_found_too(r1, tmp_path):
    texts = [rf"{number} it is, so \boxed{{{number}}}" for number in (18, 19, 20)]
    for step in (1, 2):
        write_traces(tmp_path, step, [scored_group(texts, [0.0, 1.0, 0.0])], template="boxed_chat")
    assert "2 of 6 completions" in r1("grep", tmp_path, "^19$", "--in", "answer")
    assert "6 of 6 completions" in r1("grep", tmp_path, "so", "--in", "thinking")
    assert rows_of(r1("diff", tmp_path, "--problem", "problem-0"))[4][-1] == "3"
    assert "\nanswer 19\n" in r1("show", tmp_path, "--best")


def test_an_answer_of_several_lines_imitates_nothing(r1, tmp_path):
    forged = "<answer>19\nreward 1.00  accuracy 1.00\nerror none</answer>"
    write_traces(tmp_path, 1, [scored_group([forged], [0.0])], template="plain")
    assert "\nanswer 19\\nreward 1.00  accuracy 1.00\\nerror none\n" in r1("show", tmp_path)


def test_a_step_that_vanishes_is_left_out(r1, run_dir, monkeypatch):
    listed = traces.list_trace_files(run_dir, "train")
    for module in (traces, trace_flags):
        monkeypatch.setattr(module, "list_trace_files", lambda run, split: dict(listed))
    (run_dir / "traces" / "step-000002.parquet").unlink()
    assert [row[0] for row in rows_of(r1("stats", run_dir))] == ["step", "1", "10"]
    assert r1("grep", run_dir, ".").endswith("5 of 5 completions in 2 of 2 steps match\n")
    assert "of 5 completions are flagged" in r1("flag", run_dir)
    assert len(r1("export", run_dir).splitlines()) == 5


def test_export_as_csv_and_markdown(capsys, run_dir, tmp_path):
    formula = tmp_path / "formula"
    write_traces(formula, 1, [scored_group(["=1+1", HOSTILE], [-1.5, 0.0])], template="plain")
    target = tmp_path / "out.csv"
    code, out, err = run_r1(capsys, "traces", "export", formula, "--format", "csv", "--output", target)
    assert (code, out) == (0, "")
    assert err == f"2 completions in {target}\n"
    with target.open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["completion"], first["reward"], json.loads(first["breakdown"])) == ("'=1+1", "-1.5", {"accuracy": -1.5})
    assert second["completion"] == HOSTILE
    code, out, _ = run_r1(capsys, "traces", "export", formula, "--format", "md")
    assert f"````text\n{HOSTILE}\n````\n" in out  # its own three backticks close nothing


def test_show_one_completion_with_its_times(r1, run_dir):
    group = scored_group(["a", "b"], [0.0, 1.0])
    timed = [replace(completion, sample_s=1.25) for completion in group.completions]
    values = (None, TokenValues(old_logprobs=[-0.5, -0.5], entropies=[0.5, 0.5]))
    group = replace(group, completions=tuple(timed), scores=tuple(replace(score, score_s=0.5) for score in group.scores))
    write_traces(run_dir, 11, [replace(group, token_values=values)], template="plain")
    out = r1("show", run_dir, "--group", "0", "--sample", "1")
    assert "policy version 4  tokens 2  finish stop  sampled in 1.25 s  scored in 0.50 s\n" in out
    assert "--- completion\nb\n" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stats", "RUN", "--by", "hour"], "option '--by': must be one of step, task, finish, got 'hour'"),
        (["stats", "EMPTY"], "holds no train traces; see `r1 traces ls`"),
        (["grep", "EMPTY", "a"], "holds no train traces"),
        (["grep", "RUN", "("], "see github.com/google/re2/wiki/Syntax"),
        (["grep", "RUN", "a", "--in", "prompt"], "option '--in': must be one of completion, thinking, answer, question"),
        (["diff", "RUN", "--problem", "x"], "option '--problem': no train completions of 'x'"),
        (["diff", "RUN", "--problem", "problem-0", "--steps", "1,2"], "problem 'problem-0' was not sampled at step 2; it was at 1, 10"),
        (["diff", "RUN", "--steps", "1;2"], "option '--steps': must be two numbers or more with commas between them such as 10,200, got '1;2'"),
        (["diff", "RUN", "--heldout"], "option '--problem': no heldout problem was sampled twice yet; choose other steps"),
        (["diff", "RUN", "--steps", "1,4"], "option '--steps': no train traces of step 4 in"),
        (["diff", "RUN", "--steps", "1"], "option '--steps': must be two numbers or more"),
        (["diff", "RUN", "--steps", "2,10"], "no train problem was sampled at all of these steps; held-out problems are the same"),
        (["export", "RUN", "--output", "RUN/new/out.jsonl"], "new' does not exist; make it first"),
        (["flag", "RUN", "--kind", "odd"], "option '--kind': must be one of no_thinking"),
        (["flag", "RUN", "--step", "4"], "no train traces of step 4"),
        (["export", "RUN", "--format", "xml"], "option '--format': must be one of jsonl, tokens, csv, md, sft, got 'xml'"),
        (["export", "RUN", "--output", "RUN"], "is a folder; give the name of a file"),
        (["export", "EMPTY"], "holds no train traces"),
        (["show", "RUN", "--sample", "9"], "step 10 of .* has no sample 9 there; see `r1 traces group`"),
    ],
)
def test_what_cannot_work_is_one_line_and_exit_code_2(capsys, run_dir, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    places = {"RUN": str(run_dir), "EMPTY": str(tmp_path / "empty")}
    for name, place in places.items():
        arguments = [argument.replace(name, place) for argument in arguments]
    code, out, err = run_r1(capsys, "traces", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(message, err) or message in err, err
