from dataclasses import dataclass, replace

import pytest
from browsing import small_run
from scored_groups import scored_group

from r1.browse.filters import parse_filter
from r1.browse.lines import StepKey, run_columns
from r1.browse.listing import Column, Listing
from r1.browse.position import Position
from r1.browse.reader import RunReader
from r1.browse.run_folders import find_runs, run_line
from r1.errors import UserError
from r1.trace_search import search
from r1.traces import trace_path, write_traces


@dataclass(frozen=True)
class Line:
    key: str
    reward: float | None = None
    num_errors: int | None = 0
    num_truncated: float | None = 0


COLUMNS = [Column(title="key", value=lambda line: line.key), Column(title="reward", value=lambda line: line.reward, spec=".1f")]
LINES = [Line("b", 0.5), Line("a", 1.0, num_truncated=1), Line("d", None, num_errors=1), Line("c", 0.3)]


def listing_of(lines=LINES):
    listing = Listing()
    listing.replace(lines, COLUMNS)
    return listing


def keys(listing):
    return "".join(line.key for line in listing.shown)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", "badc"),
        (">0.5", "a"),
        (">= 0.5", "ba"),
        ("<.5", "c"),
        ("<=0.5", "bc"),
        ("=0.3", "c"),
        ("!=0.5", "ac"),  # an unjudged completion passes no comparison
        ("errors", "d"),
        ("truncated", "a"),
        (">0.4 <0.9", "b"),
        ("=1 truncated", "a"),
        (">-1", "bac"),
    ],
)
def test_a_filter_keeps_what_meets_all_of_its_conditions(text, kept):
    listing = listing_of()
    listing.set_filter(parse_filter(text))
    assert keys(listing) == kept


def test_sums_of_weights_are_found_by_the_number_that_is_shown():
    assert parse_filter("=0.3").keeps(Line("x", 0.1 + 0.2))  # 0.30000000000000004


@pytest.mark.parametrize("text", ["0.5", "error", ">", "> x", "==1", ">1e3"])
def test_what_is_no_filter_says_what_is(text):
    with pytest.raises(UserError, match=r"give >0.5, .* errors or truncated"):
        parse_filter(text)


def test_sort_goes_through_the_columns_and_back_to_the_own_order():
    listing = listing_of()
    orders = []
    for _ in range(3):
        listing.cycle_sort()
        orders.append((listing.sorted_by, keys(listing)))
    # texts from A, numbers from the highest, what has no value last
    assert orders == [("key", "abcd"), ("reward", "abcd"), (None, "badc")]


def test_reversed_the_unknown_stays_last_and_the_cursor_shows_the_top():
    listing = listing_of()
    listing.move_to_key("d")
    listing.cycle_sort()
    listing.cycle_sort()
    assert listing.current.key == "a"
    listing.reverse()
    assert keys(listing) == "cbad"
    assert listing.current.key == "c"
    assert not listing.is_descending()


def test_the_cursor_stays_on_its_item():
    listing = listing_of()
    listing.cycle_sort()
    listing.move_to_key("c")
    listing.set_filter(parse_filter("<0.6"))
    assert (listing.current.key, listing.index) == ("c", 1)
    listing.replace([Line("z", 0.1), *LINES], COLUMNS)
    assert listing.current.key == "c"
    listing.set_filter(parse_filter("truncated"))  # its item is gone: the nearest that is left
    assert listing.current.key == "a"


def test_an_empty_list_has_no_current_item_and_no_match():
    listing = listing_of([])
    listing.matches = {"a"}
    assert listing.current is None
    assert not listing.move(1)
    assert not listing.move_to_match(1)
    assert listing.index == 0


def test_matches_are_visited_around_the_ends():
    listing = listing_of()
    listing.matches = {"b", "d"}
    visited = []
    for direction in (1, 1, -1):
        assert listing.move_to_match(direction)
        visited.append(listing.current.key)
    assert visited == ["d", "b", "d"]
    assert listing.move_to_match(1, from_here=True)
    assert listing.current.key == "d"


def test_steps_come_in_the_order_of_time_and_the_cursor_stands_on_the_last(tmp_path):
    position = Position(RunReader(small_run(tmp_path)))
    position.show_steps(position.reader.step_keys(), {})
    names = [str(line.key) for line in position.steps.shown]
    assert names == ["step 0 held-out", "step 1 training", "step 2 training", "step 2 held-out", "step 3 training"]
    assert position.steps.current.key == StepKey(3, False)
    position.cycle_splits()
    assert [line.key.step for line in position.steps.shown] == [1, 2, 3]
    position.cycle_splits()
    assert [line.key.step for line in position.steps.shown] == [0, 2]


def test_a_group_is_summed_up_by_hand(tmp_path):
    reader = RunReader(small_run(tmp_path))
    group = reader.step(StepKey(2, False)).groups[1]
    # rewards 1.1 and 0: mean 0.55, sample standard deviation sqrt(2 * 0.55**2) = 0.7778; lengths 7, 64, 3
    assert group.reward == pytest.approx(0.55)
    assert group.spread == pytest.approx(0.7778, abs=1e-4)
    assert (group.best, group.num_truncated, group.num_errors) == (1.1, 1, 1)
    assert group.tokens == pytest.approx(74 / 3)
    assert [line.key for line in group.completions] == [(1, 0), (1, 1), (1, 2)]


def test_another_step_opens_at_the_same_problem_else_at_the_same_group(tmp_path):
    position = Position(RunReader(small_run(tmp_path)))
    step_1, step_2, step_3 = (position.reader.step(StepKey(step, False)) for step in (1, 2, 3))
    assert position.show_step(step_2) == ""
    position.groups.move_to(1)
    # problem-1 is not in step 3, whose group 1 is another problem; step 1 has one group only
    assert "no completion of problem-1" in position.show_step(step_3)
    assert position.groups.current.key == 1
    assert "another problem" in position.show_step(step_1)
    assert position.groups.current.key == 0
    assert position.show_step(step_2) == ""
    assert position.groups.current.key == 0


def position_in_hidden_group(run_dir, group_id, rewards):
    """Inside of a group of step 2 whose groups have these rewards; the list shows those below 0.6, and was last at the top."""
    for step in (1, 2):
        groups = [scored_group(["a"], [0.0 if step == 1 else reward], group_id=i) for i, reward in enumerate(rewards)]
        write_traces(run_dir, step, groups, template="plain")
    position = Position(RunReader(run_dir))
    position.show_step(position.reader.step(StepKey(1, False)))
    position.groups.set_filter(parse_filter("<0.6"))
    position.groups.move_to_key(group_id)
    position.open_group(position.groups.current, {})
    position.show_step(position.reader.step(StepKey(2, False)))
    return position


@pytest.mark.parametrize(
    ("opened", "by", "arrived"),
    # Groups 1, 2 and 4 are listed.
    [(0, [1], 1), (0, [1, 1], 2), (0, [-1], None), (3, [1], 4), (3, [-1], 2), (3, [-1, -1], 1), (5, [1], None), (5, [-1], 4)],
)
def test_from_a_group_that_the_filter_hides_one_goes_to_its_neighbours_in_the_list(tmp_path, opened, by, arrived):
    position = position_in_hidden_group(tmp_path, opened, [1.0, 0.0, 0.5, 1.0, 0.5, 1.0])
    assert [line.key for line in position.groups.shown] == [1, 2, 4]
    assert all([position.groups.move(one) for one in by]) == (arrived is not None)
    if arrived is not None:
        assert position.groups.current.key == arrived


def test_a_hidden_group_has_its_place_in_the_order_of_the_list_until_it_is_left(tmp_path):
    position = position_in_hidden_group(tmp_path, 3, [1.0, 0.0, 0.5, 0.9, 0.5, 1.0])
    position.groups.reverse()
    position.groups.stand_at(3)
    assert [line.key for line in position.groups.shown] == [4, 2, 1]
    assert position.groups.move(1)
    assert position.groups.current.key == 2
    position.groups.stand_at(3)
    position.close_group()  # the cursor is where the list draws it, at group 2, and moves from there
    assert position.groups.move(1)
    assert position.groups.current.key == 1


def test_a_problem_is_found_where_it_has_another_place(tmp_path):
    first, second = (scored_group(["a"], [0.0], group_id=group_id) for group_id in (0, 1))
    write_traces(tmp_path, 1, [first, second], template="plain")
    moved = replace(first, prompt=replace(first.prompt, group_id=5))
    write_traces(tmp_path, 2, [replace(second, prompt=replace(second.prompt, group_id=0)), moved], template="plain")
    position = Position(RunReader(tmp_path))
    position.show_step(position.reader.step(StepKey(1, False)))
    assert position.show_step(position.reader.step(StepKey(2, False))) == ""
    assert (position.groups.current.key, position.groups.current.problem_id) == (5, "problem-0")


def test_neighbours_and_the_other_split(tmp_path):
    position = Position(RunReader(small_run(tmp_path)))
    position.show_steps(position.reader.step_keys(), {})
    assert position.neighbour_step(StepKey(2, False), 1) == StepKey(3, False)
    assert position.neighbour_step(StepKey(3, False), 1) is None
    assert position.neighbour_step(StepKey(2, True), -1) == StepKey(0, True)
    assert position.other_split(StepKey(3, False)) == StepKey(2, True)
    assert position.other_split(StepKey(1, False)) == StepKey(0, True)
    assert position.other_split(StepKey(0, True)) == StepKey(1, False)  # nothing earlier: the first


def test_a_file_that_is_gone_or_new_is_told_from_one_that_is_the_same(tmp_path):
    reader = RunReader(small_run(tmp_path))
    rows = reader.step(StepKey(2, False))
    assert reader.warning_about(rows) == ""
    write_traces(tmp_path, 2, [scored_group(["other"], [0.0])], template="plain")
    assert "written anew" in reader.warning_about(rows)
    trace_path(tmp_path, 2, "train").unlink()
    assert "gone from the disk" in reader.warning_about(rows)
    with pytest.raises(UserError, match="gone"):
        reader.step(StepKey(2, False))


def test_search_looks_in_question_and_completion(tmp_path):
    reader = RunReader(small_run(tmp_path))
    assert reader.search(StepKey(2, False), "wait") == {(0, 0)}
    assert reader.search(StepKey(2, False), "^what is") == {(0, 0), (0, 1)}
    assert reader.search(StepKey(2, False), "nowhere") == set()


@pytest.mark.parametrize(
    "last",
    [
        b'{"kind": "step", "step": 5, "metr\n',  # glued off by an editor, or by a disk
        b'{"kind": "step", "metrics": {}}\n',
        b'{"kind": "step", "step": 5, "metrics": []}\n',
        b'["kind": "step"]\n',
        b'{"kind": "heldout", "step": 5}\n',
        b'{"kind": "step", "step": 5, "metrics": {"\xff": 1}}\n',
    ],
)
def test_a_run_whose_metrics_are_damaged_is_listed_with_the_others_and_says_so(tmp_path, last):
    run, other = small_run(tmp_path / "damaged"), small_run(tmp_path / "other")
    (run / "metrics.jsonl").write_bytes(b'{"kind": "step", "step": 4, "metrics": {"reward": 0.5}}\n' + last)
    lines = [run_line(run), run_line(other)]
    assert [(line.key.name, line.last_step, line.reward, line.unreadable) for line in lines] == [
        ("damaged", 3, None, "metrics.jsonl"),  # the last of its trace files
        ("other", 3, None, ""),
    ]
    assert [column.cell(lines[0]) for column in run_columns(lines) if column.title == "not readable"] == ["metrics.jsonl"]
    assert "not readable" not in [column.title for column in run_columns(lines[1:])]


@pytest.mark.parametrize("pattern", ["<think>so", "^so", "^<think>", "(?i)THINK>no"])
def test_search_finds_what_grep_finds(tmp_path, pattern):
    reader = RunReader(small_run(tmp_path))
    for found in search(tmp_path, pattern):  # no pattern is in a question
        assert reader.search(StepKey(found.step, False), pattern) == set(found.keys)
    # Group 1 of step 2 has the prefill <think>, and its completions 0 and 1 begin with "so" and "no".
    expected = {"<think>so": {(1, 0)}, "^so": set(), "^<think>": {(1, 0), (1, 1), (1, 2)}, "(?i)THINK>no": {(1, 1)}}
    assert reader.search(StepKey(2, False), pattern) == expected[pattern]


def test_runs_are_found_and_summed_up_from_the_end_of_their_metrics(tmp_path):
    run = small_run(tmp_path / "runs" / "one")
    (run / "metrics.jsonl").write_text(
        '{"kind": "heldout", "step": 2, "metrics": {"accuracy": 0.25}}\n'
        '{"kind": "step", "step": 4, "metrics": {"reward": 0.5}}\n'
        '{"kind": "step", "step": 5, "metrics": {"rew',  # the run is being killed
        encoding="utf-8",
    )
    (tmp_path / "runs" / "no run").mkdir()
    assert find_runs(tmp_path / "runs") == [run]
    line = run_line(run)
    assert (line.last_step, line.reward, line.heldout_accuracy) == (4, 0.5, 0.25)
    assert find_runs(run) == [run]
    with pytest.raises(UserError, match="is no run and holds none"):
        find_runs(tmp_path / "runs" / "no run")
    with pytest.raises(UserError, match="does not exist"):
        find_runs(tmp_path / "nowhere")
