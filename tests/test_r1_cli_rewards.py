import io
import json
import os
import re
from pathlib import Path

import pytest
from rewards_command import PUPPET, cells, run

from r1.cli.main import main
from rewards import REWARDS


@pytest.fixture
def puppet(tmp_path: Path) -> str:
    (tmp_path / "puppet.py").write_text(PUPPET, encoding="utf-8")
    return f"{tmp_path}/puppet.py:puppet"


def write_cases(path: Path, *rows: dict | str) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def completion_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "completion.txt"
    path.write_bytes(text.encode())
    return path


def test_ls_names_every_reward_with_its_first_line_and_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    shown = run(capsys, "ls")
    for name, function in REWARDS.items():
        assert cells(shown, f"{name} ") == [name, function.__doc__.splitlines()[0], f"rewards/{name}.py"]


def test_try_shows_the_value_and_the_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = completion_file(tmp_path, "<think>a</think>\n<answer>19</answer>")
    for gold, value in (("19", "1"), ("20", "0"), ("x", "cannot be judged (None: the sample leaves the baseline)")):
        lines = run(capsys, "try", "accuracy", "--completion", file, "--gold", gold).splitlines()
        assert lines[:2] == ["reward      accuracy", f"value       {value}"]
        assert re.fullmatch(r"took        \d+\.\d\d ms, about 0\.1 ms of it between two processes", lines[2])
        assert len(lines) == 3


@pytest.mark.slow
def test_try_shows_what_math_answer_extracted_and_what_decided(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def lines(text: str, *options: str) -> dict[str, str]:
        shown = run(capsys, "try", "math_answer", "--completion", completion_file(tmp_path, text), "--gold", "1/2", *options)
        return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in shown.splitlines())

    box = lines("1/2 is \\boxed{\\frac{2}{4}}.", "--form", "box")
    assert (box["value"], box["extracted"]) == ("1", "\\frac{2}{4}")
    assert box["decided by"]
    assert re.fullmatch(r"\d+\.\d\d ms", box["took"])
    not_closed = lines("<answer>1/2")
    assert (not_closed["value"], not_closed["extracted"]) == ("0", "nothing")
    assert lines("\\boxed{7\nvalue       1}")["value"] == "0"


def test_try_reads_stdin_byte_for_byte(puppet: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\r\n \xc3\xa9t\xc3\xa9")))
    shown = run(capsys, "try", puppet, "--completion", "-", "--reference", '{"a\\r\\n été": 0.25}')
    assert "value       0.25\n" in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "error"), [("raise", "ValueError: as told"), ("hang", "timed out after 0.3 s"), ("\x1b[2J", "ValueError")]
)
def test_try_of_a_reward_that_fails_is_exit_code_1(
    tmp_path: Path, puppet: str, capsys: pytest.CaptureFixture[str], text: str, error: str
):
    shown = run(capsys, "try", puppet, "--completion", completion_file(tmp_path, text), "--deadline", "0.3", exit_code=1)
    assert f"value       -\nerror       {error}" in shown
    assert "\x1b" not in shown


def test_a_reward_file_that_ends_its_process_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "exits.py").write_text("import os\nos._exit(3)\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="1"):
        main(["rewards", "try", f"{tmp_path}/exits.py:f", "--completion", str(completion_file(tmp_path, "x"))])
    assert capsys.readouterr().err.startswith("error: a scoring child ended before it was ready (exit code 3)")


@pytest.mark.slow
def test_test_counts_every_kind_of_miss(tmp_path: Path, puppet: str, capsys: pytest.CaptureFixture[str]):
    rows = [
        {"completion": "1", "gold": "g", "expected": True, "kind": "good"},
        {"completion": "0.333333", "gold": "g", "expected": 1 / 3, "kind": "good"},
        {"completion": "none", "gold": "g", "expected": None, "kind": "good"},
        {"completion": "none", "gold": "g", "expected": "any", "kind": "good"},
        {"completion": "half", "reference": {"half": 0.5}, "expected": 0.5, "cat": "good"},
        {"id": "high", "completion": "1", "gold": 7, "expected": False, "kind": "bad"},
        {"id": "low", "completion": "0.25", "gold": "g", "expected": 0.5, "kind": "bad"},
        {"id": "void", "completion": "none", "gold": "g", "expected": False, "kind": "bad"},
        {"id": "full", "completion": "0", "gold": "g", "expected": None, "kind": "bad"},
        {"id": "err", "completion": "\x1b[2J\nraise", "gold": "g", "expected": "any", "kind": "bad"},
        {"id": "slow", "completion": "hang", "gold": "g", "expected": 0, "kind": "bad"},
        {"completion": "0", "reference": {"x": [1]}, "gold": "g", "expected": 0},
    ]
    path = write_cases(tmp_path / "cases.jsonl", *rows, "")
    shown = run(capsys, "test", path, "--reward", puppet, "--deadline", "0.5", "--limit-slowest", 2, exit_code=1)

    assert cells(shown, "high") == ["high", "bad", "7", "1", "0", "1", "false positive"]
    assert cells(shown, "low") == ["low", "bad", "g", "0.25", "0.5", "0.25", "false negative"]
    assert cells(shown, "void") == ["void", "bad", "g", "none", "0", "None", "wrong None"]
    assert cells(shown, "full") == ["full", "bad", "g", "0", "None", "0", "wrong None"]
    assert cells(shown, "err") == ["err", "bad", "g", r"\x1b[2J ⏎ raise", "any", "-", "error: ValueError: as told"]
    assert cells(shown, "slow ") == ["slow", "bad", "g", "hang", "0", "-", "timeout: timed out after 0.5 s"]
    # cases, right, false positives, false negatives, wrong None, errors, timeouts; a 0 is left blank
    assert cells(shown, "good")[:3] == ["good", "5", "5"]
    assert cells(shown, "bad")[:7] == ["bad", "6", "1", "1", "2", "1", "1"]
    assert cells(shown, "all")[:8] == ["all", "12", "6", "1", "1", "2", "1", "1"]
    assert "12 cases, 6 misses: 1 false positive, 1 false negative, 2 wrong None, 1 error, 1 timeout\n" in shown
    # The child that was killed takes the better part of a second to come back; that is not the next case's time.
    slowest = shown[shown.index("slowest") :].splitlines()[2:4]
    assert slowest[0].split()[0] == "slow"
    assert float(re.split(r"\s{2,}", slowest[1].strip())[-3]) < 100


@pytest.mark.slow
def test_test_judges_bare_answers_and_forms_and_exits_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = write_cases(
        tmp_path / "cases.jsonl",
        {"gold": "1/2", "answer": "0.5", "expected": True},
        {"gold": "1/2", "answer": "0.5}", "expected": False},
        {"gold": "", "answer": "1", "expected": None},
        {"gold": 72, "completion": "\\boxed{72}", "expected": True},
        {"gold": "72", "completion": "\\boxed{72}", "form": "tags", "expected": False},
        {"gold": "72", "completion": "#### 72", "form": "hash", "expected": True},
        {"gold": "72", "completion": "#### 72", "expected": False},
    )
    shown = run(capsys, "test", path, "--limit-slowest", 0)
    assert "7 cases, 0 misses: 0 false positive, 0 false negative, 0 wrong None, 0 error, 0 timeout\n" in shown
    assert "why it is a miss" not in shown


GOOD = '{"gold": "1", "completion": "1", "expected": true}'


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["", GOOD, "{"], "line 3: not JSON ("),
        ([GOOD, "[1]"], "line 2: a row is a JSON object, got [1]; give it"),
        (['{"gold": "1", "expected": true}'], "line 1: a row has one text, 'completion' or 'answer', got none"),
        (['{"gold": "1", "completion": "1", "answer": "1", "expected": true}'], "line 1: a row has one text"),
        (['{"gold": "1", "completion": 1, "expected": true}'], "line 1: a row has one text"),
        (['{"completion": "1", "expected": true}'], "line 1: nothing to compare with; add 'gold', or a 'reference' object"),
        (['{"gold": [1], "completion": "1", "expected": true}'], "line 1: 'gold' is a string or a number, got [1]"),
        (['{"reference": "1", "completion": "1", "expected": true}'], "line 1: 'reference' is a JSON object, got '1'"),
        (['{"gold": "1", "completion": "1"}'], "line 1: no 'expected'; add true, false, null, a number or 'any'"),
        (['{"gold": "1", "completion": "1", "expected": "true"}'], "line 1: 'expected' is true, false, null, a number or 'any', got 'true'"),
        (['{"gold": "1", "completion": "1", "expected": NaN}'], "line 1: 'expected' is true, false, null, a number or 'any', got nan"),
        (['{"gold": "1", "completion": "1", "expected": 1, "form": "boxed"}'], "line 1: 'form' is one of any, tags, box, hash, line, got 'boxed'"),
        (['{"gold": "1", "completion": "1", "expected": 1, "form": ["box"]}'], "line 1: 'form' is one of any, tags, box, hash, line, got ['box']"),
        (["", " "], "cases.jsonl' has no rows; write one JSON object a line"),
    ],
)  # fmt: skip
def test_a_broken_row_is_refused_before_anything_is_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[str], message: str
):
    error = run(capsys, "test", write_cases(tmp_path / "cases.jsonl", *rows), exit_code=2)
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("test", "nowhere.jsonl"), "case file 'nowhere.jsonl' cannot be read: No such file or directory"),
        (("test", "latin1"), "it is not UTF-8 text"),
        (("test", "answers", "--reward", "accuracy"), "line 1: a bare 'answer' is for math_answer alone, got --reward accuracy"),
        (
            ("try", "accuracy", "--completion", "nowhere"),
            "option '--completion': cannot read 'nowhere': No such file or directory",
        ),
        (("try", "accuracy", "--completion", "latin1"), "option '--completion': 'latin1' is not UTF-8 text"),
        (("try", "accuracy", "--completion", "text", "--reference", "{"), "option '--reference': not JSON ("),
        (
            ("try", "accuracy", "--completion", "text", "--reference", "1"),
            "option '--reference': a JSON object is needed, got '1'",
        ),
        (("try", "math_answer", "--completion", "text"), "option '--gold': math_answer compares with a gold answer, none given"),
        (("try", "acuracy", "--completion", "text"), "no reward function 'acuracy'; choose from accuracy, "),
        (("try", "gone.py:f", "--completion", "text"), "no file "),
        (("rescore", "nowhere"), "run folder 'nowhere' does not exist"),
        (("rescore", "."), "run folder '.' holds no train traces"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
):
    monkeypatch.chdir(tmp_path)
    Path("latin1").write_bytes(b"\xe9")
    Path("text").write_text("1", encoding="utf-8")
    Path("answers").write_text('{"gold": "1", "answer": "1", "expected": true}\n', encoding="utf-8")
    error = run(capsys, *arguments, exit_code=2)
    assert message in error
    assert error.count("\n") == 1


def test_a_wide_table_fits_a_terminal(
    tmp_path: Path, puppet: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then believes in a terminal
    monkeypatch.setenv("COLUMNS", "100")
    row = {"id": "[red]r", "completion": "long " * 200 + "1", "gold": "\u202e7", "expected": False}
    shown = run(capsys, "test", write_cases(tmp_path / "cases.jsonl", row), "--reward", puppet, exit_code=1)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert max(map(len, plain.split(os.linesep))) <= 100
    assert "[red]r" in plain
    assert r"\u202e7" in plain
