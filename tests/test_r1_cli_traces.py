import subprocess
import sys
from pathlib import Path

import pytest
from scored_groups import scored_group

from r1.cli.main import main
from r1.cli.printing import printable
from r1.report.markup import escape
from r1.trace_choice import TraceChoice
from r1.traces import trace_path, write_traces

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Two steps of two groups; in step 2, group 1 holds the best, the worst and an unjudged completion."""
    middling = scored_group(["alpha", "beta"], [0.5, 0.6], group_id=0)
    mixed = scored_group(
        ["so 19.</think><answer>19</answer>", "\x1b[2J[red]hot[/red]\r\n" + "long " * 100 + "end", "gamma"],
        [1.1, 0.0, None],
        group_id=1,
        advantages=[1.25, -0.75, 0.0],
        breakdowns=[{"accuracy": 1.0, "reasoning_format": 1.0}, {"accuracy": 0.0, "reasoning_format": 0.0}, {"accuracy": None}],
        errors=[None, None, "accuracy: timed out after 2.0 s"],
        finish_reasons=["stop", "length", "stop"],
        num_tokens=[7, 64, 3],
        prefill="<think>",
    )
    write_traces(tmp_path, 1, [middling], template="plain")
    write_traces(tmp_path, 2, [middling, mixed], template="r1_zero_prefill")
    write_traces(tmp_path, 0, [scored_group(["before training"], [0.0])], template="plain", split="heldout")
    return tmp_path


def output_of(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What `r1 ARGUMENTS` prints into a pipe."""
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert (exit_.value.code, captured.err) == (0, "")
    return captured.out


def test_ls_lists_every_step_in_the_order_of_time(run_dir: Path, capsys: pytest.CaptureFixture[str]):
    header, _rule, *rows = [line.split() for line in output_of(capsys, "traces", "ls", run_dir).splitlines() if line.strip()]

    names = ["step", "split", "completions", "reward", "accuracy", "reasoning_format", "tokens", "truncated", "errors"]
    assert header == names
    assert rows == [
        ["0", "heldout", "1", "0.00", "0.00", "-", "2.0", "0.00", "0"],
        ["1", "train", "2", "0.55", "0.55", "-", "2.0", "0.00", "0"],
        # reward (0.5 + 0.6 + 1.1 + 0) / 4, accuracy (0.5 + 0.6 + 1 + 0) / 4 = 0.525, format (1 + 0) / 2,
        # tokens (2 + 2 + 7 + 64 + 3) / 5, 1 of 5 cut off
        ["2", "train", "5", "0.55", "0.53", "0.50", "15.6", "0.20", "1"],
    ]


def test_show_prints_the_first_completion_of_the_last_step(run_dir: Path, capsys: pytest.CaptureFixture[str]):
    shown = output_of(capsys, "traces", "show", run_dir)

    assert shown.startswith("step 2  train  group 0  sample 0  arithmetic  template r1_zero_prefill  problem problem-0\n")
    assert "alpha" in shown
    assert "beta" not in shown
    assert "4 more" in shown


def test_show_finds_the_last_step_with_a_completion_however_far_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for step in range(1, 16):
        choice = TraceChoice.parse("text" if step == 2 else "text:0")
        write_traces(tmp_path, step, [scored_group(["a"], [1.0])], template="plain", choice=choice)

    assert output_of(capsys, "traces", "show", tmp_path).startswith("step 2  train  group 0  sample 0")


def test_show_prints_everything_about_a_completion(run_dir: Path, capsys: pytest.CaptureFixture[str]):
    assert output_of(capsys, "traces", "show", run_dir, "--step", "2", "--best") == (
        "step 2  train  group 1  sample 0  arithmetic  template r1_zero_prefill  problem problem-1\n"
        "policy version 4  tokens 7  finish stop\n"
        "reward 1.10  accuracy 1.00  reasoning_format 1.00  advantage +1.25\n"
        'reference {"answer": "19"}\n'
        "answer 19\n"
        "--- prompt\n"
        "12+7=\n"
        "--- completion\n"
        "<think>so 19.</think><answer>19</answer>\n"
        "\n"
        "4 more; show them with -n 5\n"
    )


def test_best_and_worst_put_the_unjudged_last(run_dir: Path, capsys: pytest.CaptureFixture[str]):
    def rewards(option: str) -> list[str]:
        shown = output_of(capsys, "traces", "show", run_dir, option, "-n", "5")
        return [line.split()[1] for line in shown.splitlines() if line.startswith("reward ")]

    assert rewards("--best") == ["1.10", "0.60", "0.50", "0.00", "-"]
    assert rewards("--worst") == ["0.00", "0.50", "0.60", "1.10", "-"]


def test_show_chooses_a_group_or_the_heldout_rows(run_dir: Path, capsys: pytest.CaptureFixture[str]):
    assert "group 1  sample 0" in output_of(capsys, "traces", "show", run_dir, "--group", "1")
    heldout = output_of(capsys, "traces", "show", run_dir, "--heldout")
    assert "step 0  heldout" in heldout
    assert "before training" in heldout
    assert "advantage -\n" in heldout


def test_show_passes_over_a_last_step_that_is_damaged(run_dir: Path, capsys: pytest.CaptureFixture[str]):
    trace_path(run_dir, 3, "train").write_bytes(b"damaged")
    with pytest.raises(SystemExit) as ended:
        main(["traces", "show", str(run_dir)])
    shown = capsys.readouterr()
    assert not ended.value.code
    assert shown.out.startswith("step 2  train  group 0  sample 0")
    assert "step-000003.parquet' is damaged" in shown.err


def test_group_compares_the_siblings_and_prints_their_text(run_dir: Path, capsys: pytest.CaptureFixture[str]):
    shown = output_of(capsys, "traces", "group", run_dir, "--step", "2", "--group", "1")

    table = [line.split() for line in shown.splitlines() if line.startswith("    ") and line.strip()]
    assert table == [
        ["0", "1.10", "1.00", "1.00", "+1.25", "7", "stop"],
        ["1", "0.00", "0.00", "0.00", "-0.75", "64", "length"],
        ["2", "-", "-", "-", "+0.00", "3", "stop"],
    ]
    assert shown.count("--- prompt") == 1
    assert "--- sample 2, reward -, error accuracy: timed out after 2.0 s\n<think>gamma\n" in shown


@pytest.mark.parametrize("command", [("show", "--worst"), ("group", "--group", "1")])
def test_a_hostile_completion_is_shown_and_does_nothing(
    run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
):
    name, *options = command
    plain = output_of(capsys, "traces", name, run_dir, *options)
    assert r"\x1b[2J[red]hot[/red]\r" + "\n" + "long " * 100 + "end\n" in plain
    assert "\x1b" not in plain
    assert "\r" not in plain

    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then believes in a terminal
    monkeypatch.setenv("COLUMNS", "80")
    coloured = output_of(capsys, "traces", name, run_dir, *options)
    assert r"\x1b[2J[red]hot[/red]\r" in coloured
    assert "long " * 100 + "end" in coloured  # folding is left to the terminal: copied text has no foreign line breaks
    assert "\x1b[2J" not in coloured
    assert "\r" not in coloured


def test_thinking_answer_and_prefill_are_coloured_apart(
    run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)

    shown = output_of(capsys, "traces", "show", run_dir, "--best")

    underline, cyan, green, end = "\x1b[4m", "\x1b[36m", "\x1b[1;32m", "\x1b[0m"
    assert f"{underline}<think>{end}{cyan}so 19.{end}</think><answer>{green}19{end}</answer>" in shown


def test_printable_keeps_text_and_shows_the_codes_of_the_rest():
    assert printable("é 漢字 🙂\n\tx \\x1b") == "é 漢字 🙂\n\tx \\x1b"
    # C0 and C1 controls, a right-to-left override, an invisible space, a line separator, half a surrogate pair
    assert printable("\x00\x07\x7f\x9b\u202e\u200b\u2028\ud800") == r"\x00\x07\x7f\x9b\u202e\u200b\u2028\ud800"


def test_characters_that_nothing_is_drawn_for_are_shown_as_their_codes():
    fillers = "\u3164\u115f\u1160\uffa0\u2800\u034f\u180b\ufe00\ufe0e\U000e0100\U000e01ef"
    codes = r"\u3164\u115f\u1160\uffa0\u2800\u034f\u180b\ufe00\ufe0e\U000e0100\U000e01ef"
    assert printable(f"a{fillers}") == f"a{codes}"
    assert escape(f"1{fillers}9") == f"1{codes}9"
    # Every character that gives a reward nothing to see.
    assert all(printable(character).startswith("\\u") for character in "\u115f\u1160\u3164\uffa0\u2800")


@pytest.mark.parametrize("text", ["\u26a0\ufe0f", "\u2764\ufe0f", "1\ufe0f\u20e3", "\u2139\ufe0f", "\u203c\ufe0f", "\u2194\ufe0f"])
def test_the_sign_that_makes_an_emoji_stays_behind_its_symbol(text):
    assert printable(f"a {text} b") == f"a {text} b"


@pytest.mark.parametrize("before", ["", "a", "é", "漢", "1", "+", " ", "\u2800", "\u26a0\ufe0f"])
def test_the_sign_that_makes_an_emoji_hides_behind_nothing_else(before):
    assert printable(f"{before}\ufe0f") == printable(before) + r"\ufe0f"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "nowhere"), "error: run folder 'nowhere' does not exist; give the folder that the run writes to"),
        (("ls", "nowhere"), "error: run folder 'nowhere' does not exist"),
        (("show", "RUN", "--step", "9"), "error: no train traces of step 9 in "),
        (("show", "RUN", "--step", "2", "--group", "7"), "has no train group 7; choose one of 0, 1"),
        (("show", "RUN", "--best", "--worst"), "error: --best and --worst exclude each other"),
        (("group", "RUN", "--heldout", "--step", "2"), "steps with traces: 0"),
    ],
)
def test_what_cannot_be_shown_is_one_line_and_exit_code_2(
    run_dir: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
):
    with pytest.raises(SystemExit) as exit_:
        main(["traces", *(str(run_dir) if argument == "RUN" else argument for argument in arguments)])

    captured = capsys.readouterr()
    assert exit_.value.code == 2
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_run_without_traces_says_when_they_come(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exit_:
        main(["traces", "ls", str(tmp_path)])
    assert exit_.value.code == 2
    assert "holds no traces; the first appear when" in capsys.readouterr().err


def test_version_and_help(capsys: pytest.CaptureFixture[str]):
    assert output_of(capsys, "--version").startswith("r1 ")
    assert "r1 traces show RUN --step 12 --worst" in output_of(capsys, "--help")


@pytest.mark.slow
def test_a_pipe_of_few_letters_gets_codes_and_no_traceback(run_dir: Path):
    write_traces(run_dir, 3, [scored_group(["漢"], [0.0])], template="plain")

    shown = subprocess.run(
        [sys.executable, "-m", "r1.cli.main", "traces", "show", str(run_dir)],
        env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    assert rb"\u6f22" in shown.stdout


def test_the_command_imports_nothing_heavy(run_dir: Path):
    code = (
        "import sys, r1.cli.main\n"
        "light = {'torch', 'ray', 'vllm', 'transformers', 'pyarrow', 'pydantic', 'rich'} & set(sys.modules)\n"
        "assert not light, light\n"
        "try:\n"
        f"    r1.cli.main.main(['traces', 'show', {str(run_dir)!r}])\n"
        "except SystemExit as exit_:\n"
        "    assert exit_.code == 0\n"
        "heavy = {'torch', 'ray', 'vllm', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
