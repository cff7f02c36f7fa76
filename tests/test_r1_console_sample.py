import io
import re

from rich.console import Console
from run_consoles import groups_of, panel, plain, terminal
from run_records import run_config, step

from r1.console import RunConsole
from r1.run_output import RunOutput


def test_the_panel_shows_one_of_the_best_of_an_odd_step_and_any_of_an_even_one():
    groups = groups_of(*(f"<think>thought {i}</think><answer>{i}</answer>" for i in range(64)), rewards=(0.0,) * 63 + (1.1,))
    seen = {}
    for number in range(1, 21):
        shown, written = terminal(100)
        with shown:
            shown.show_groups(number, groups)
            lines = panel(written)
        heading = next(line for line in lines if line.startswith(f"step {number}: "))
        seen[number] = (re.sub(r".*: (.*)  \(.*", r"\1", heading), lines[-1])

    assert {seen[number] for number in range(1, 21, 2)} == {("best of 64", "<think>thought 63</think><answer>63</answer>")}
    assert {seen[number][0] for number in range(2, 21, 2)} == {"one at random of 64"}
    # ten draws of 64: two or three may agree, all alike they are not; and the next run of the seed draws the same
    assert len({seen[number][1] for number in range(2, 21, 2)}) > 5
    shown, written = terminal(100)
    with shown:
        shown.show_groups(2, groups)
        assert panel(written)[-1] == seen[2][1]


def test_a_sample_is_shown_in_its_colours_with_what_it_earned():
    shown, written = terminal(80)
    text = "<think>two and two</think><answer>4</answer>"
    with shown:
        shown.show_groups(1, groups_of(text, rewards=(1.1,), breakdowns=[{"accuracy": 1.0, "format": None}], num_tokens=[9]))
        lines = panel(written)

    assert lines[-4].startswith("step 1: best of 1  (group 0, sample 0) ─")
    assert lines[-3:] == ["question 12+7=", "reward 1.10 (accuracy 1.00, format -), advantage +0.00, 9 tokens", text]
    assert "<think>\x1b[36mtwo and two\x1b[0m</think><answer>\x1b[1;32m4\x1b[0m</answer>" in written.getvalue()


def test_a_sample_that_is_never_closed_or_never_thinks_is_shown_as_it_is():
    for text in ("<think>easy<answer>178", "178", "", "<think>", "</think></think>4", "<answer>3</answer><think>2"):
        shown, written = terminal(80)
        with shown:
            shown.show_groups(2, groups_of(text))
            lines = panel(written)
        assert lines[-1] == (text or "reward 0.00 (accuracy 0.00), advantage +0.00, 2 tokens"), text


def test_a_long_sample_is_cut_in_its_middle_and_says_how_much_is_missing():
    # 100 lines of 20 characters, 2,000 with the line breaks: 1,000 tokens, so two characters a token
    text = "\n".join(f"line {number:<14}" for number in range(99)) + "\n<answer>7</answer>   "
    for width, height in ((80, 24), (120, 50)):
        shown, written = terminal(width, height)
        with shown:
            shown.show_groups(1, groups_of(text, rewards=(1.0,), num_tokens=[1000]))
            lines = panel(written)
        # 12 lines: heading, question, reward, 9 of the text: 6 from its beginning, the marker, 2 from its end
        heading = next(number for number, line in enumerate(lines) if line.startswith("step 1: best"))
        assert len(lines) - heading == 12
        assert lines[heading + 3 : heading + 9] == [f"line {number}" for number in range(6)]
        more = re.fullmatch(r"\.\.\. about (\d+) more tokens \.\.\.", lines[heading + 9])
        assert more
        # 8 lines of at most 20 characters are shown, 80 tokens; trailing blanks are not counted
        assert 915 <= int(more[1]) <= 975
        assert lines[-2:] == ["line 98", "<answer>7</answer>"]


def test_a_long_question_gets_two_lines_and_an_error_of_several_lines_one():
    shown, written = terminal(80)
    with shown:
        shown.show_groups(2, groups_of("\n".join("abcdefghijkl"), question="how many\n\n" * 100, errors=["Traceback\nValueError"]))
        lines = panel(written)

    heading = next(number for number, line in enumerate(lines) if line.startswith("step 2: one at random"))
    assert len(lines) - heading == 12
    asked = "question " + "how many " * 17  # 162 cells in two lines, broken between words
    assert " ".join(lines[heading + 1 : heading + 3]) in asked
    assert lines[heading + 3] == "reward 0.00 (accuracy 0.00), advantage +0.00, 2 tokens; Traceback ValueError"
    # 8 lines are left for 12: 5, the marker, 2
    assert lines[heading + 4 :] == [*"abcde", "... about 1 more tokens ...", *"kl"]


def test_a_very_long_sample_is_no_work():
    shown, written = terminal(80)
    with shown:
        shown.show_groups(1, groups_of("<think>" + "wait " * 100_000 + "</think><answer>7</answer>", num_tokens=[100_000]))
        lines = panel(written)
    assert lines[-1].endswith("</think><answer>7</answer>")
    assert "... about 99," in lines[-3]


HOSTILE = "\x1b[2J\x1b]0;owned\x07[bold red]19[/bold red]\u202e\x9b31m\r\n\nstep 13/60  reward 9.99 :smile:"


def test_a_model_cannot_command_the_terminal():
    shown, written = terminal(120)
    with shown:
        shown.show_groups(1, groups_of(HOSTILE, question=HOSTILE, errors=[HOSTILE]))
        lines = panel(written)

    assert "\x1b[2J" not in written.getvalue()
    assert "\x1b]" not in written.getvalue()
    assert "\x07" not in written.getvalue()
    assert "\u202e" not in written.getvalue()
    assert "\x9b" not in written.getvalue()
    assert r"\x1b[2J\x1b]0;owned\x07[bold red]19[/bold red]\u202e\x9b31m\r" in lines
    assert "step 13/60  reward 9.99 :smile:" in lines


def test_a_model_cannot_forge_the_lines_of_a_log():
    shown, written = plain()
    with shown:
        shown.show_groups(1, groups_of(HOSTILE, question=HOSTILE, errors=[HOSTILE]))

    first, second = written.getvalue().splitlines()
    assert first.startswith("sample of step 1, best of 1: reward 0.00 (accuracy 0.00), advantage +0.00, 2 tokens; ")
    assert second.startswith(r"  \x1b[2J\x1b]0;owned\x07[bold red]19[/bold red]")
    assert second.endswith(" step 13/60 reward 9.99 :smile:")


def test_a_log_gets_a_sample_now_and_then_in_two_lines():
    shown, written = plain(num_steps=50)
    with shown:
        for number in range(1, 51):
            shown.show_groups(number, groups_of("<think>a\n\nb</think>" + "c" * 1000, num_tokens=[500]))

    lines = written.getvalue().splitlines()
    steps = [int(line.removeprefix("sample of step ").partition(",")[0]) for line in lines[::2]]
    assert steps == [1, 2, 4, 5, 8, 10, 15, 16, 20, 25, 30, 32, 35, 40, 45, 50]  # powers of two, tenths of 50
    assert lines[0] == (
        "sample of step 1, best of 1: reward 0.00 (accuracy 0.00), advantage +0.00, 500 tokens; group 0, sample 0"
    )
    # 400 of 1,018 characters are shown, the blank line left out: 500 x (1 - 400 / 1018) = 303.5
    assert re.fullmatch(r"  12\+7= -> <think>a b</think>c{248} \.\.\. about 304 more tokens \.\.\. c{134}", lines[1])


def test_a_log_without_completions_has_no_sample():
    shown, written = plain()
    with shown:
        shown.show_groups(1, [])
    assert written.getvalue() == ""


def test_a_terminal_that_lacks_a_character_gets_its_code():
    raw = io.BytesIO()
    written = io.TextIOWrapper(raw, encoding="latin-1", write_through=True)
    console = Console(file=written, force_terminal=True, width=80, height=24, _environ={"TERM": "xterm"})
    with RunConsole(run_config(), RunOutput(console)) as shown:
        shown.show_groups(1, groups_of("π is 3 × 1"))
        shown.show(step(1, {"reward": 0.5}))
    assert "\\u03c0 is 3 × 1".encode("latin-1") in raw.getvalue()


def test_a_sample_that_is_not_stored_says_so():
    # text:0.04 draws groups by (seed, step, group_id), and group 0 of step 1 is none of them; text:0 keeps none, and text all.
    for option, place in (("text:0.04", "group 0, sample 0, not stored"), ("text:0", "group 0, sample 0, not stored"), ("text", "group 0, sample 0")):
        written = io.StringIO()
        shown = RunConsole(run_config(logging={"traces": option}), RunOutput(Console(file=written, width=200)))
        shown.show_groups(1, groups_of("8", rewards=(1.0,)))
        assert written.getvalue().splitlines()[0].endswith(f"; {place}"), option
