import json
import re
from pathlib import Path

import pytest

from launch import bench_rewards
from launch.bench_rewards import KINDS, make_cases, math_verifys


def test_the_generated_completions_are_what_they_claim_to_be():
    cases = make_cases(0, 40)
    assert [case.kind for case in cases] == [kind for kind in KINDS for _ in range(40)]
    assert sum(case.expected for case in cases) == len(cases) / 2
    assert len({(case.gold, case.text.rpartition("</think>")[2]) for case in cases}) == len(cases)
    assert all(1000 < len(case.text) < 1200 for case in cases)
    assert make_cases(0, 40) == cases


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("percent", "text")])
def test_another_grader_agrees_with_what_is_called_right(kind: str):
    for case in make_cases(0, 4):
        if case.kind == kind:
            assert math_verifys(case) == case.expected, (case.gold, case.text[-60:])


@pytest.mark.slow
def test_a_file_of_cases_is_measured_kind_by_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    rows = [
        {"cat": "int", "gold": "7", "completion": "\\boxed{7}", "expected": True},
        {"cat": "int", "gold": "8", "completion": "\\boxed{9}", "expected": True},
        {"cat": "tag", "gold": "0.5", "answer": "1/2", "expected": True},
    ]
    path = tmp_path / "cases.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["bench_rewards", "--cases", str(path)])

    bench_rewards.main()

    shown = capsys.readouterr().out
    assert shown.startswith(f"3 cases of {path};")
    table = {line.split()[0]: re.findall(r"[\d.]+%?", line) for line in shown.splitlines() if "%" in line}
    # cases, and the shares that the two graders get right
    assert {kind: (numbers[0], numbers[5], numbers[10]) for kind, numbers in table.items()} == {
        "int": ("2", "50.0%", "50.0%"),
        "tag": ("1", "100.0%", "100.0%"),
        "all": ("3", "66.7%", "66.7%"),
    }


def test_a_broken_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["bench_rewards", "--cases", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit, match="2"):
        bench_rewards.main()
    assert "nowhere' cannot be read: No such file or directory" in capsys.readouterr().err
