import json

import pytest
from tiny import MODEL

from r1.cli.main import main


def output_of(capsys, *arguments, code=0):
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert exit_.value.code == code
    return captured.err if code else captured.out


@pytest.fixture
def sums(tmp_path):
    path = tmp_path / "sums.jsonl"
    rows = [{"question": f"{n}+1=", "answer": n + 1} for n in range(40)] + [{"question": "\x1b[2J?"}] * 7
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_ls_names_every_task_with_its_rewards(capsys):
    printed = output_of(capsys, "tasks", "ls")
    assert "1 math_answer + 0.1 reasoning_format" in printed
    assert "math:ARGUMENT" in printed


def test_show_prints_prompts_golds_and_what_became_of_the_rows(capsys, sums):
    printed = output_of(capsys, "tasks", "show", "jsonl", "--heldout-path", sums, "--split", "heldout", "-n", 2, "--template", "plain")
    lines = printed.splitlines()
    assert lines[0].startswith("--- problem 1, ")
    assert lines[1:3] == ["0+1=", "--- gold: 1"]
    assert lines[4:6] == ["1+1=", "--- gold: 2"]
    assert lines[7] == "jsonl, heldout: 40 problems of 47 rows; 7 bad rows, 0 repeated, 0 held out as well"
    assert len([line for line in lines if line.startswith("bad row: ")]) == 5
    assert lines[-1] == "and 2 more; --bad lists them all"


def test_with_a_model_prompts_have_their_length_in_tokens(capsys, sums):
    # The tiny model has one token a character: "0+1=" is 4, "39+1=" 5; 30 of 40 sums have two digits.
    options = ("--heldout-path", sums, "--split", "heldout", "-n", 1, "--template", "plain", "--model", MODEL)
    printed = output_of(capsys, "tasks", "show", "jsonl", *options)
    assert ", 4 tokens" in printed.splitlines()[0]
    assert "tokens of a prompt: 4 to 5, half of them at most 5, 99 % at most 5" in printed


def test_bad_lists_all_bad_rows_and_nothing_else(capsys, sums):
    printed = output_of(capsys, "tasks", "show", "jsonl", "--path", sums, "--bad").splitlines()
    assert [line.partition(", line ")[2].partition(":")[0] for line in printed] == [str(number) for number in range(41, 48)]


def test_bad_lists_the_bad_rows_when_there_are_no_others(capsys, sums, tmp_path):
    printed = output_of(capsys, "tasks", "show", "jsonl", "--path", sums, "--question-field", "nope", "--bad").splitlines()
    assert len(printed) == 47
    assert printed[0] == f"{sums}, line 1: no question in 'nope'; its fields are question, answer"
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    printed = output_of(capsys, "tasks", "show", "jsonl", "--path", empty, "--bad", code=2)
    assert printed == f"error: option 'task.path': '{empty}' holds no problem for the train split; give a larger file\n"


def test_rewards_are_those_that_the_template_leaves(capsys, sums):
    printed = output_of(capsys, "tasks", "show", "jsonl", "--path", sums, "-n", 0, "--template", "zero_shot_cot")
    assert "rewards: 1 math_answer; math_answer tells right from wrong" in printed


def test_a_model_that_is_not_there_is_named(capsys, sums):
    printed = output_of(capsys, "tasks", "show", "jsonl", "--path", sums, "--model", "./nowhere", code=2)
    assert printed.startswith("error: option '--model': './nowhere' is not a folder")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gsm9k",), "error: option 'task.name': no 'gsm9k' here; did you mean 'gsm8k'?"),
        (("math:9",), "error: option 'task.name': 'math:9' must name levels"),
        (("gsm8k", "--path", "gone.jsonl"), "error: option 'task.path': no file 'gone.jsonl'"),
        (("countdown", "--split", "test"), "error: option '--split': must be train or heldout, got 'test'"),
        (("arithmetic", "--template", "few_shot:99999999999999999999"), "error: option 'task.template': 'few_shot:99999999999999999999': only"),
        (("countdown", "--template", "nope"), "error: option 'task.template': no template 'nope'"),
        (("arithmetic", "--template", "chat", "-n", "1"), "error: option 'task.template': a chat template is the model's"),
    ],
)
def test_what_cannot_be_shown_is_one_line_and_code_2(capsys, arguments, message):
    printed = output_of(capsys, "tasks", "show", *arguments, code=2)
    assert printed.startswith(message)
    assert printed.count("\n") == 1
