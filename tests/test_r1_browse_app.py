from dataclasses import replace

import pytest
from browsing import Driver, byte_tokenizer, drive, open_group, save_tokenizer, small_run, with_tokens
from scored_groups import scored_group

from r1.browse.completions import CompletionScreen
from r1.browse.lists import StepsScreen
from r1.browse.text_pane import TextPane
from r1.traces import write_traces

pytestmark = pytest.mark.slow  # imports Textual, and waits for its screens


def test_from_the_run_to_a_completion_and_back_out(tmp_path):
    small_run(tmp_path)

    async def scenario(driver: Driver) -> None:
        await driver.until_shown("0.55")  # the mean of step 2, from its file: there is no metrics.jsonl
        assert driver.where == tmp_path.name
        await open_group(driver, step=2, group=1)
        assert driver.where.endswith("› step 2 training › group 1 problem-1 › sample 0")
        assert driver.text == 'reference {"answer": "19"}\n<think>so 19.</think><answer>19</answer>'
        await driver.press("j")
        assert driver.text.endswith("the end")
        await driver.press("enter")
        assert isinstance(driver.app.screen, CompletionScreen)
        assert "policy_version    4\n" in driver.text
        assert "error             -\n" in driver.text
        await driver.press("right_square_bracket")  # the next sibling
        assert driver.where.endswith("sample 2")
        assert "error             accuracy: timed out after 2.0 s\n" in driver.text
        await driver.press("left_square_bracket", "left_square_bracket", "left_square_bracket")
        assert driver.where.endswith("sample 0")
        await driver.press("escape", "q", "q")
        assert isinstance(driver.app.screen, StepsScreen)
        await driver.press("q")

    assert drive(tmp_path, scenario).return_code == 0


def test_no_word_behind_an_emoji_is_cropped_away(tmp_path):
    words = [f"w{number}" for number in range(60)]
    write_traces(tmp_path, 1, [scored_group([" ".join(f"\u26a0\ufe0f{word}" for word in words)], [1.0])], template="plain")

    async def scenario(driver: Driver) -> None:
        await open_group(driver, step=1, group=0)
        assert [word for word in words if f"\u26a0\ufe0f{word}" not in driver.screen_text()] == []

    drive(tmp_path, scenario, size=(80, 40))


def test_hostile_text_is_shown_and_does_nothing(tmp_path):
    hostile = "\x1b[2J\x1b]0;title\x07[red]hot[/red] [@click=app.quit]x[/] \u202egnp.exe [/"
    group = scored_group([hostile], [1.0], question=f"{hostile}?")
    problem = replace(group.prompt.problem, problem_id=hostile)
    write_traces(tmp_path, 1, [replace(group, prompt=replace(group.prompt, problem=problem, task=hostile))], template="plain")
    shown = r"\x1b[2J\x1b]0;title\x07[red]hot[/red] [@click=app.quit]x[/] \u202egnp.exe [/"

    def check_screen(driver: Driver) -> None:
        everything = driver.screen_text()
        assert not {character for character in everything if ord(character) < 32 and character != "\n"}
        assert "\u202e" not in everything

    async def scenario(driver: Driver) -> None:
        await driver.until(lambda: len(driver.app.position.steps.shown) == 1)
        await driver.press("enter")
        await driver.until_shown(f"0  {shown}")  # its task, in the list of groups
        check_screen(driver)
        await driver.press("enter")
        await driver.until(lambda: driver.text.endswith(shown))
        check_screen(driver)
        await driver.press("slash")
        await driver.type_line(r"\[red\]")
        await driver.until_shown("1 completions of this step match")
        await driver.press("enter")
        assert f"question\n{shown}?\n" in driver.text
        assert driver.app.is_running
        check_screen(driver)

    drive(tmp_path, scenario, size=(250, 40))


@pytest.mark.slow
def test_filter_search_and_sort_of_completions(tmp_path):
    small_run(tmp_path)

    async def scenario(driver: Driver) -> None:
        await open_group(driver, step=2, group=1)
        completions = driver.app.position.completions
        await driver.press("f")
        await driver.type_line("<1")
        assert [line.key for line in completions.shown] == [(1, 1)]
        assert "1 of 3  ·  filter <1" in driver.screen_text()
        await driver.press("f")
        await driver.type_line("about 1")
        assert "filter: 'about' is none" in driver.screen_text()
        await driver.type_line("errors")
        assert [line.key for line in completions.shown] == [(1, 2)]
        await driver.press("f")
        await driver.type_line("")
        assert len(completions.shown) == 3
        await driver.press("slash")
        await driver.type_line("id.a|gam+a")
        await driver.until(lambda: completions.matches == {(1, 1), (1, 2)})
        assert completions.current.key == (1, 2)  # the cursor was on a match
        await driver.press("n")
        assert completions.current.key == (1, 1)
        assert len(driver.app.screen.query_one(TextPane).document.found) == 40
        await driver.press("n", "n", "N")
        assert completions.current.key == (1, 2)
        await driver.press("slash")
        await driver.type_line("(")
        assert "missing )" in driver.screen_text()
        await driver.press("escape")
        await driver.press("s", "s", "S")  # by reward, lowest first
        assert [line.key[1] for line in completions.shown] == [1, 0, 2]
        assert "sorted by reward ▲" in driver.screen_text()

    drive(tmp_path, scenario)


@pytest.mark.slow
def test_search_in_all_steps_and_the_other_filters(tmp_path):
    small_run(tmp_path)

    async def scenario(driver: Driver) -> None:
        steps = driver.app.position.steps
        await driver.press("slash")
        await driver.type_line("no idea")
        await driver.until_shown("2 of 5 steps have a match")
        assert {str(key) for key in steps.matches} == {"step 2 training", "step 3 training"}
        await driver.press("n")
        await driver.until(lambda: str(steps.current.key) == "step 2 training")
        await driver.press("f")
        await driver.type_line("truncated")
        await driver.until(lambda: [line.key.step for line in steps.shown] == [2, 3])
        await driver.press("enter")
        # The pattern goes on to what is inside of the step.
        await driver.until(lambda: driver.app.position.groups.matches == {1})
        await driver.press("q", "f")
        await driver.type_line("")
        await driver.press("h", "h")
        assert [line.key.step for line in steps.shown] == [0, 2]
        assert "held-out steps only" in driver.screen_text()

    drive(tmp_path, scenario)


@pytest.mark.slow
def test_steps_and_groups_follow_the_same_problem(tmp_path):
    small_run(tmp_path)

    async def scenario(driver: Driver) -> None:
        await open_group(driver, step=2, group=0)
        await driver.press("j", "enter")
        await driver.press("t")
        await driver.until(lambda: "step 3 training › group 0 problem-0 › sample 1" in driver.where)
        await driver.press("t")
        await driver.until_shown("there is no later step")
        await driver.press("right_curly_bracket")
        await driver.until(lambda: "group 1 problem-9 › sample 0" in driver.where)
        await driver.press("T")
        await driver.until(lambda: "step 2 training › group 1 problem-1" in driver.where)
        assert "no completion of problem-9" in driver.screen_text()
        await driver.press("t")
        await driver.until(lambda: "step 3 training" in driver.where)
        for _ in range(2):  # the second while the first is being read
            driver.app.go_to_neighbour(-1)
        await driver.until(lambda: "step 1 training › group 0 problem-0" in driver.where)
        await driver.press("h")
        await driver.until(lambda: "step 0 held-out › group 0 problem-0 › sample 0" in driver.where)
        assert "evaluated after 0" in driver.text
        await driver.press("h")
        await driver.until(lambda: "step 1 training" in driver.where)
        await driver.press("t", "h")
        await driver.until(lambda: "step 2 held-out" in driver.where)
        await driver.press("T", "h")
        await driver.until(lambda: "step 1 training" in driver.where)  # not where `h` came from: its neighbour in time
        await driver.press("h")
        await driver.until(lambda: "step 0 held-out" in driver.where)
        await driver.press("q", "q", "q")
        # The lists behind have come along.
        assert str(driver.app.position.steps.current.key) == "step 0 held-out"

    drive(tmp_path, scenario)


@pytest.mark.slow
def test_colours_come_and_say_what_they_mean(tmp_path):
    save_tokenizer(tmp_path)
    values = [0.0] * 4 + [2.0] + [0.0] * 3
    write_traces(tmp_path, 1, [with_tokens(scored_group(["ab漢cde"], [1.0], advantages=[0.5]), [values])], template="plain")

    async def scenario(driver: Driver) -> None:
        await open_group(driver, step=1, group=0)
        pane = driver.app.screen.query_one(TextPane)
        legends = []
        for _ in range(5):
            await driver.press("c")
            await driver.until(lambda: "…" not in driver.screen_text().splitlines()[-3])
            legends.append(driver.screen_text().splitlines()[-3].strip())
            if legends[-1].startswith("entropy"):
                # Its third byte of 漢 has the entropy, which colours the whole of the character, and nothing else.
                [span] = pane.document.layers[1]
                assert pane.document.text[span.start : span.end] == "漢"
        assert [legend.split("  ")[0] for legend in legends] == [
            "advantage, of every token",
            "|old - rollout| log-probability",
            "entropy of the policy",
            "sampled with probability",
            "",
        ]

    drive(tmp_path, scenario)


@pytest.mark.slow
def test_without_a_tokenizer_the_reason_is_said(tmp_path):
    write_traces(tmp_path, 1, [with_tokens(scored_group(["ab"], [1.0]))], template="plain")

    async def scenario(driver: Driver) -> None:
        await open_group(driver, step=1, group=0)
        await driver.press("c", "c")
        await driver.until_shown("no colours by mismatch: no tokenizer.json")
        assert driver.app.screen.query_one(TextPane).document.layers[1] == []

    drive(tmp_path, scenario)





@pytest.mark.slow
def test_a_long_text_folds_scrolls_and_finds(tmp_path):
    text = "word " * 20_000 + "needle " + "漢字 " * 1000
    write_traces(tmp_path, 1, [scored_group([text], [1.0])], template="plain")

    async def scenario(driver: Driver) -> None:
        await open_group(driver, step=1, group=0)
        await driver.press("enter", "slash")
        await driver.type_line("needle")
        await driver.until_shown("word needle 漢字")
        await driver.press("g")
        assert "question" in driver.screen_text()
        await driver.press("n")
        await driver.until_shown("word needle 漢字")
        await driver.press("G")
        await driver.until_shown("prompt")
        await driver.press("Q")

    assert drive(tmp_path, scenario).return_code == 0


def test_the_byte_tokenizer_of_these_tests_decodes_utf_8():
    assert byte_tokenizer().decode(list("é漢🙂 a\n".encode())) == "é漢🙂 a\n"


@pytest.mark.slow
def test_keys_leave_a_group_that_the_filter_hides_for_the_next_that_is_listed(tmp_path):
    for step in (1, 2):
        groups = [scored_group([f"of group {i}"], [1.0 if (step, i) == (2, 0) else 0.0], group_id=i) for i in range(3)]
        write_traces(tmp_path, step, groups, template="plain")

    async def scenario(driver: Driver) -> None:
        await open_group(driver, step=1, group=0)
        await driver.press("q", "f")
        await driver.type_line("<0.6")
        await driver.press("enter")
        await driver.until(lambda: "step 1 training › group 0" in driver.where)
        await driver.press("t")
        await driver.until(lambda: "step 2 training › group 0" in driver.where)  # the same problem, which the filter hides
        await driver.press("right_curly_bracket")
        await driver.until(lambda: "step 2 training › group 1" in driver.where)

    drive(tmp_path, scenario)
