import io
import re
import sys
from collections.abc import Mapping

import pytest
from rich.console import Console
from run_consoles import CSI, groups_of, panel, plain, terminal
from run_records import Event, Metrics, heldout, run_config
from run_records import step as event

from r1.console import RunConsole, is_sample_step
from r1.run_output import RunOutput

METRICS = {
    "reward": 0.61,
    "accuracy": 0.55,
    "reward/reasoning_format": 0.83,
    "completion_tokens": 47.1,
    "zero_variance_share": 0.12,
    "clip_low_share": 0.01,
    "clip_high_share": 0.02,
    "mismatch": 3.1e-7,
}
TIMINGS_S = {"sample": 1.4, "score": 0.1, "update": 0.8, "publish": 0.02, "load": 0.03, "write": 0.05}
SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


def step(number: int, metrics: Metrics = METRICS, timings_s: Mapping[str, float] = TIMINGS_S) -> Event:
    return event(number, metrics, timings_s)


def test_a_pipe_gets_one_plain_line_a_step():
    shown, written = plain()
    with shown:
        shown.show(step(12))

    # clip 0.01 + 0.02; a step takes 1.4 + 0.1 + 0.8 + 0.02 + 0.03 + 0.05 = 2.4 s; left 48 x 2.4 = 115.2 s = 1:55
    assert written.getvalue() == (
        "step 12/60  reward 0.61  accuracy 0.55  format 0.83  tokens 47.1  zero-variance 0.12  clip 0.03  mismatch 3.1e-07"
        "  sample 1.4s  score 0.1s  update 0.8s  publish 0.0s  load 0.0s  write 0.1s  2.4 s/step  left 1:55\n"
    )


def test_a_line_leaves_out_what_was_not_measured():
    shown, written = plain()
    with shown:
        shown.show(heldout(0, accuracy=0.25, completion_tokens=61.0))
        shown.show(step(60, {"clip_high_share": 0.05, "reward": None}, {}))

    assert written.getvalue().splitlines() == [
        "held-out at step 0  accuracy 0.25  tokens 61.0",
        "step 60/60  reward nan  clip 0.05  0.0 s/step  left 0:00",  # null in the record: it was not finite
    ]


def test_the_time_left_follows_the_last_steps():
    shown, written = plain(events=[step(number, {}, {"sample": 9.0}) for number in range(1, 31)])
    with shown:
        for number, seconds in ((31, 1.0), (32, 3.0)):
            shown.show(step(number, {}, {"sample": seconds}))

    # After step 31: 29 x 1 s. After step 32: 28 x (1 + 3) / 2 s = 56 s. The 30 steps of before a resume do not count.
    assert [line.rpartition("left ")[2] for line in written.getvalue().splitlines()] == ["0:29", "0:56"]


def test_a_terminal_gets_one_line_a_step_however_narrow_it_is():
    for width in (60, 80, 120):
        shown, written = terminal(width)
        with shown:
            shown.show(step(12))
        lines = [line for line in CSI.sub("", written.getvalue()).splitlines() if line.startswith("step 12/60  ")]
        assert [len(line) <= width for line in lines] == [True]
        # "step 12/60" 10, reward 11, accuracy 13, format 11, two between each: 51 cells; 13 more with "tokens 47.1"
        assert lines[0].startswith("step 12/60  reward 0.61  accuracy 0.55  format 0.83"), lines
        assert ("tokens" in lines[0]) == (width > 60)


@pytest.mark.parametrize(("mismatch", "is_red"), [(1e-4, False), (1.1e-4, True), (None, True)])
def test_a_mismatch_above_the_bound_is_red(mismatch: float | None, is_red: bool):
    shown, written = terminal(200)
    with shown:
        shown.show(step(1, {"mismatch": mismatch}))

    # the bound is sync.max_logprob_diff = 1e-4; None was not finite
    assert ("\x1b[1;31m" in written.getvalue()) == is_red


def test_the_panel_shows_where_the_run_stands():
    shown, written = terminal(80)
    with shown:
        shown.show(heldout(0, accuracy=0.25, accuracy_error=0.05))
        shown.show(step(1, METRICS | {"reward": 0.25, "completion_tokens": 40.0}))
        shown.show(step(2, METRICS | {"reward": 0.75, "completion_tokens": 50.0}))
        shown.show(step(3, METRICS | {"reward": 0.75, "completion_tokens": 42.0, "truncated_share": 0.1, "entropy": 0.3}))
        lines = panel(written)

    assert lines[0].startswith("quickstart, after step 3 (+- against the 10 steps before) ──")
    # 57 steps of 2.4 s are 136.8 s = 2:17
    assert re.search(r" 3/60  left 2:17  step 4 0:0\d$", lines[1])
    assert "━" in lines[1]
    # reward 0.75 - (0.25 + 0.75) / 2 = +0.25; tokens 42 - (40 + 50) / 2 = -3; truncated and entropy had no value before
    assert [line.split() for line in lines[2:5]] == [
        ["reward", "0.75", "+0.25", "tokens", "42.0", "-3.0", "zero-variance", "0.12", "+0.00"],
        ["accuracy", "0.55", "+0.00", "truncated", "0.10", "clip", "0.03", "+0.00"],
        ["format", "0.83", "+0.00", "entropy", "0.300", "mismatch", "3.1e-07", "+0.0e+00"],
    ]
    assert lines[5:] == [
        "seconds 2.4: sample 1.4, score 0.1, update 0.8, publish 0.0, load 0.0, write 0.1",
        "held-out accuracy 0.25 +- 0.05 after step 0",
    ]


def test_the_panel_compares_with_the_ten_steps_before():
    shown, written = terminal(80)
    with shown:
        for number in range(1, 13):
            shown.show(step(number, {"reward": float(number)}))
        lines = panel(written)

    # 12 - (2 + 3 + ... + 11) / 10 = 12 - 6.5
    assert lines[2].split() == ["reward", "12.00", "+5.50"]


def test_the_panel_shows_the_last_evaluation_against_the_first():
    shown, written = terminal(80)
    with shown:
        for number, accuracy in ((0, 0.25), (20, 0.5), (40, 0.75)):
            shown.show(heldout(number, accuracy=accuracy))
        lines = panel(written)

    assert lines[-1] == "held-out accuracy 0.75 after step 40, 0.25 after step 0"


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 24), (80, 18), (40, 24), (80, 14), (80, 8), (20, 5)])
def test_the_panel_fits_the_terminal_and_leaves_room_above(width: int, height: int):
    text = "<think>" + "wide 数字 " * 500 + "</think>"
    shown, written = terminal(width, height)
    with shown:
        shown.show(heldout(0, accuracy=0.25))
        shown.show(step(1, METRICS | {"kl": 0.1, "entropy": 0.2, "truncated_share": 0.5}))
        shown.show(step(2, METRICS | {"kl": 0.1, "entropy": 0.2, "truncated_share": 0.5}))
        shown.show(step(3, METRICS | {"kl": 0.1, "entropy": 0.2, "truncated_share": 0.5}))
        shown.show_groups(4, groups_of(text, num_tokens=[1000]))
        lines = panel(written)

    # Three lines are left above, but on a terminal that has hardly room for the numbers.
    assert len(lines) <= (height - 3 if height >= 14 else height)
    if (width, height) == (80, 24):
        assert len(lines) == 21
        assert any(line.startswith("warnings truncated: docs/tuning.md") for line in lines)
    assert all(len(line) + len(re.findall("[数字]", line)) <= width for line in lines)


def test_warnings_come_in_words_and_once():
    for make in (plain, terminal):
        shown, written = make()
        with shown:
            for number in range(1, 21):
                shown.show(step(number, {"truncated_share": 0.5}))
        text = " ".join(CSI.sub("", written.getvalue()).split())
        assert text.count("warning: 50 % of the completions were cut off at 1,024 tokens") == 1
        assert "see docs/tuning.md#truncated" in text


def test_a_resumed_run_remembers_what_was_said_and_compares_with_what_was():
    before = [heldout(0, accuracy=0.25), *(step(number, {"truncated_share": 0.5, "reward": 0.5}) for number in range(1, 11))]
    shown, written = terminal(events=before)
    with shown:
        assert panel(written)[0].startswith("quickstart, after step 10 ")
        shown.show(step(11, {"truncated_share": 0.5, "reward": 0.75}))
        lines = panel(written)
    assert lines[2].split()[:3] == ["reward", "0.75", "+0.25"]
    assert lines[-2:] == ["held-out accuracy 0.25 after step 0", "warnings truncated: docs/tuning.md"]
    assert "warning: " not in written.getvalue()


def test_a_run_that_goes_back_forgets_what_is_done_again():
    shown, written = terminal()
    with shown:
        for number in range(1, 11):
            shown.show(step(number, {"reward": 0.25 if number < 5 else 9.0}))
        shown.rewind(4)
        lines = panel(written)
        assert lines[0].startswith("quickstart, after step 4 ")
        assert " 4/60 " in lines[1]
        shown.show(step(5, {"reward": 0.5}))
        assert panel(written)[2].split() == ["reward", "0.50", "+0.25"]


def test_the_panel_says_what_the_run_does_now():
    shown, written = terminal()
    with shown:
        shown.begin("held-out evaluation")
        assert re.search(r" 0/60  held-out evaluation 0:0\d$", panel(written)[1])
        shown.show_groups(1, groups_of("19"))
        assert re.search(r" 0/60  step 1: weight sync 0:0\d$", panel(written)[1])


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, RuntimeError])
def test_the_terminal_is_given_back_however_the_run_ends(error: type[BaseException] | None):
    shown, written = terminal()
    stdout, stderr = sys.stdout, sys.stderr
    try:
        with shown:
            shown.show(step(1))
            assert written.getvalue().count(HIDE_CURSOR) == 1
            assert SHOW_CURSOR not in written.getvalue()
            if error:
                raise error
    except (KeyboardInterrupt, RuntimeError):
        pass
    shown.close()  # a second time

    after = written.getvalue().rpartition(SHOW_CURSOR)
    assert after[1]
    # the panel is wiped, and nothing is drawn below: lines up, each erased
    assert re.fullmatch(r"\r(\x1b\[1A\x1b\[2K)+", after[2])
    assert (sys.stdout, sys.stderr) == (stdout, stderr)


def test_forced_colours_in_a_pipe_do_not_move_the_cursor(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    written = io.StringIO()
    with RunConsole(run_config(), RunOutput(Console(file=written, width=200))) as shown:
        shown.show(step(1))
        shown.show_groups(3, groups_of("19"))
    assert HIDE_CURSOR not in written.getvalue()
    assert written.getvalue().startswith("\x1b[2mstep \x1b[0m\x1b[1m1/60\x1b[0m")
    assert written.getvalue().count("\n") == 1


def test_what_was_said_before_a_run_went_back_can_be_said_again():
    shown, written = plain()
    with shown:
        for number in range(1, 11):
            shown.show(step(number, {"truncated_share": 0.5 if number > 4 else 0.0}))
        shown.rewind(4)
        for number in range(5, 11):
            shown.show(step(number, {"truncated_share": 0.5}))
    assert written.getvalue().count("warning: ") == 2


def test_the_time_left_forgets_steps_of_long_ago():
    shown, written = plain()
    with shown:
        for number in range(1, 31):
            shown.show(step(number, {}, {"sample": 100.0 if number <= 10 else 1.0}))
    assert written.getvalue().splitlines()[-1].endswith("left 0:30")  # 30 steps of a second: the mean of the last 20


def test_a_log_shows_ten_samples_of_a_short_run():
    # 19 steps: powers of two, each second step (19 / 10 rounded up), the last
    assert [step for step in range(1, 20) if is_sample_step(step, 19)] == [1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 19]


def test_a_mismatch_of_stale_tokens_is_not_red():
    rollout = {"num_prompts": 4, "group_size": 4, "max_prompt_tokens": 8, "max_completion_tokens": 64, "max_staleness": 1}
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=200, height=24, _environ={"TERM": "xterm"})
    with RunConsole(run_config(rollout=rollout), RunOutput(console)) as shown:
        shown.show(step(1, {"mismatch": 0.3}))  # the bound is 1e-4
    assert "\x1b[1;31m" not in written.getvalue()
