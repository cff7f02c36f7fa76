"""A whole evaluation with the tiny model: the same numbers twice, and after a kill -9: real Ray, real vLLM."""

import json
import time

import pytest
from processes import Program
from tiny import MODEL

from r1.cli.main import main
from r1.traces import list_trace_files, read_traces

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.beside, pytest.mark.timeout(600)]
NUM_CHUNKS = 10
FILES = ("results.json", "pass_rates.json", "evaluation.json")


def arguments(out, seed=0):
    # 2 x 8 = 16 completions a chunk, 4 of each problem: 40 problems are 10 chunks.
    given = "--tasks arithmetic --template plain -k 4 --num-problems 40 --max-prompt-tokens 16 --max-completion-tokens 64"
    options = f"{given} --max-num-seqs 8 --num-threads 1 --seed {seed}"
    return [str(MODEL), *options.split(), "--out", str(out)]


def evaluate(*arguments):
    code, out, err = Program(*arguments, module="launch.evaluate").wait()
    assert code == 0, err
    return out


def files_of(out):
    return [(out / name).read_text() for name in FILES]


def test_an_evaluation_gives_the_same_numbers_again_and_after_a_kill(tmp_path, capsys):
    said = evaluate(*arguments(tmp_path / "first"))
    assert f"arithmetic: chunk {NUM_CHUNKS} of {NUM_CHUNKS} done, 40 problems, accuracy 0." in said
    assert "pass@1 pass@2 pass@4 maj@4" in " ".join(said.split())

    program = Program(*arguments(tmp_path / "killed"), module="launch.evaluate")
    while not (tmp_path / "killed/traces/heldout-000001.parquet").is_file():
        assert program.process.poll() is None, program.wait()
        time.sleep(0.02)
    program.kill_all()
    left = set(list_trace_files(tmp_path / "killed", "heldout"))
    assert {1} <= left < set(range(1, NUM_CHUNKS + 1))
    assert not (tmp_path / "killed/results.json").exists()
    said = evaluate("--resume", str(tmp_path / "killed"))
    assert f"{len(left)} of {NUM_CHUNKS} chunks are there already" in said
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "first")

    # Nothing is left to do: no engine is started, and the numbers are the same.
    said = evaluate("--resume", str(tmp_path / "first"))
    assert "starting" not in said
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "first")
    rows = [[read_traces(tmp_path / name, step, "heldout") for step in left] for name in ("first", "killed")]
    assert rows[0] == rows[1]

    [of_task] = json.loads((tmp_path / "first/results.json").read_text())["tasks"].values()
    assert 0.0 < of_task["accuracy"]["mean"] < of_task["pass_at"]["4"]["mean"] <= 1.0
    assert of_task["pass_at"]["1"] == of_task["accuracy"]
    rates = json.loads((tmp_path / "first/pass_rates.json").read_text())["arithmetic"]
    assert sum(right for right, _ in rates.values()) == round(of_task["accuracy"]["mean"] * 160)
    with pytest.raises(SystemExit) as end:
        main(["traces", "show", str(tmp_path / "first"), "--heldout", "--step", "2", "--best"])
    assert end.value.code == 0
    assert "step 2  heldout  group " in capsys.readouterr().out


def test_greedy_knows_no_seed_and_what_is_unfinished_is_made_to_answer(tmp_path):
    greedy = ["--greedy", "-k", "1", "--num-problems", "8"]
    evaluate(*arguments(tmp_path / "greedy"), *greedy)
    rows = read_traces(tmp_path / "greedy", 1, "heldout")
    assert len(rows) == 8
    settings = json.loads((tmp_path / "greedy/results.json").read_text())["settings"]
    assert settings["temperature"] == 0.0
    evaluate(*arguments(tmp_path / "seed 1", seed=1), *greedy, "--force-answers", "--budgets", "8,64")
    assert [row.token_ids for row in read_traces(tmp_path / "seed 1", 1, "heldout")] == [row.token_ids for row in rows]
    [of_task] = json.loads((tmp_path / "seed 1/results.json").read_text())["tasks"].values()
    after_8, after_64 = of_task["forced_curve"]
    # 8 tokens of thinking, and at most 64 of the answer.
    assert of_task["budget_curve"][0]["unfinished_share"] == after_8["unfinished_share"] > 0
    assert 8 < after_8["completion_tokens"] <= 72
    assert after_64["accuracy"]["mean"] >= of_task["accuracy"]["mean"]
    for row in read_traces(tmp_path / "seed 1/forced", 1, "heldout"):
        assert "<answer>" in row.prefill
        assert row.prompt_text.endswith(row.prefill)
        assert len(row.token_ids) <= 64
