"""Statistics, searches and problems over stored completions, on runs written by hand."""

from dataclasses import replace

import pytest
from scored_groups import scored_group

from r1.errors import UserError
from r1.trace_problems import most_changed, problem_places, read_problem
from r1.trace_search import first_match, search
from r1.trace_stats import TraceStats, summarize_all, trace_stats
from r1.traces import write_traces


def of_task(group, task):
    return replace(group, prompt=replace(group.prompt, task=task))


@pytest.fixture
def run(tmp_path):
    """Step 1: two groups of two tasks. Step 3: one group, in which two siblings say the same."""
    first = scored_group(
        ["<think>Wait, let me check. 7</think><answer>7</answer>", "8"],
        [1.0, 0.0],
        breakdowns=[{"accuracy": 1.0}, {"accuracy": 0.0}],
        finish_reasons=["stop", "length"],
        num_tokens=[40, 10],
    )
    other = scored_group(["waiting: 8", "8"], [None, 0.5], group_id=1, errors=["late", None], num_tokens=[25, 25])
    write_traces(tmp_path, 1, [first, of_task(other, "countdown")], template="plain")
    write_traces(tmp_path, 3, [scored_group(["9", "9", "8"], [0.0, 0.0, 1.0], prefill="<think>")], template="r1_zero_prefill")
    write_traces(tmp_path, 0, [scored_group(["heldout"], [0.0])], template="plain", split="heldout")
    return tmp_path


def test_statistics_by_step(run):
    first, second = trace_stats(run)
    assert first == TraceStats(
        key=1,
        num_completions=4,
        num_errors=1,
        reward=0.5,  # (1 + 0 + 0.5) / 3
        breakdown={"accuracy": 0.5},  # (1 + 0 + 0.5) / 3, where a reward stands for its part
        completion_tokens=25.0,  # (40 + 10 + 25 + 25) / 4
        truncated_share=0.25,
        duplicate_share=0.0,  # "8" twice, in two groups
        reflections=20.0,  # "Wait," and "let me check", not "waiting": 2 in 100 tokens
    )
    assert (second.key, second.num_completions, second.reflections) == (3, 3, 0.0)
    assert second.duplicate_share == pytest.approx(1 / 3)


def test_statistics_by_task_and_finish_reason(run):
    by_task = {line.key: line for line in trace_stats(run, by="task")}
    assert {key: line.num_completions for key, line in by_task.items()} == {"arithmetic": 5, "countdown": 2}
    assert by_task["arithmetic"].reward == pytest.approx(2 / 5)
    by_finish = {line.key: (line.num_completions, line.reward) for line in trace_stats(run, by="finish_reason")}
    assert by_finish == {"length": (1, 0.0), "stop": (6, pytest.approx(2.5 / 5))}
    assert [line.key for line in trace_stats(run, "heldout", by="task")] == ["arithmetic"]


def test_a_run_without_traces_has_no_statistics(tmp_path):
    assert (trace_stats(tmp_path), summarize_all(tmp_path), search(tmp_path, "a"), problem_places(tmp_path)) == ([], [], [], {})


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("He had to wait. How long did he wait? We wait for 3 hours", 0),
        ("Wait. Is it 3? But wait, no", 2),
        ("so wait: that is 4; wait... it is 5. Wait it is", 3),
        ("let me check, let me double-check, let me recheck, let's verify, let us consider, let me just think", 6),
        ("Let me add 3. Alternatively, hmmm, on second thought: hold on", 4),
        ("let’s re-examine", 1),
    ],
)
def test_what_a_reflection_is(tmp_path, text, count):
    write_traces(tmp_path, 1, [scored_group([text], [0.0], num_tokens=[1000])], template="plain")
    assert trace_stats(tmp_path)[0].reflections == count


@pytest.mark.parametrize(
    ("pattern", "part", "keys"),
    [
        ("8", "completion", [{(0, 1), (1, 0), (1, 1)}, {(0, 2)}]),
        ("(?i)WAIT", "completion", [{(0, 0), (1, 0)}, set()]),
        ("^7$", "answer", [{(0, 0)}, set()]),
        ("7", "thinking", [{(0, 0)}, set()]),
        ("^9$", "thinking", [set(), {(0, 0), (0, 1)}]),  # behind the prefill, and never closed
        ("^<think>", "completion", [{(0, 0)}, {(0, 0), (0, 1), (0, 2)}]),
        (r"12\+7", "question", [{(0, 0), (0, 1), (1, 0), (1, 1)}, {(0, 0), (0, 1), (0, 2)}]),
    ],
)
def test_what_matches_where(run, pattern, part, keys):
    found = search(run, pattern, part=part)
    assert [step.step for step in found] == [1, 3]
    assert [set(step.keys) for step in found] == keys


def test_matches_are_counted_and_come_with_their_rewards(run):
    [first, _] = search(run, "7|8")
    assert (first.num_completions, first.num_matches) == (4, 5)  # 7 twice, three times 8
    assert dict(zip(first.keys, first.rewards, strict=True)) == {(0, 0): 1.0, (0, 1): 0.0, (1, 0): None, (1, 1): 0.5}


def test_a_pattern_that_re2_does_not_take_is_a_user_error(run):
    for pattern in ("(?=a)", "(", "[", r"(a)\1"):
        with pytest.raises(UserError, match=r"pattern '.*': .*re2"):
            search(run, pattern)


@pytest.mark.parametrize(
    ("text", "pattern", "place"),
    [
        ("a wait b wait", "wait", (2, 6)),
        ("é漢🙂wait", "w(a)(?:i|x)t", (3, 7)),
        ("\x00\x00x", "x", (2, 3)),
        ("abc", "$", (3, 3)),
        ("abc", "z", (0, 0)),
    ],
)
def test_the_first_match(text, pattern, place):
    assert first_match(text, pattern) == place


def test_problems_and_when_they_were_sampled(run):
    assert problem_places(run) == {"problem-0": [1, 3], "problem-1": [1]}
    assert [(row.step, row.group_id, row.sample_id) for row in read_problem(run, 3, "problem-0")] == [(3, 0, 0), (3, 0, 1), (3, 0, 2)]
    assert read_problem(run, 3, "problem-1") == []


def test_the_problem_that_changed_most(tmp_path):
    rewards = {1: ([0.0, 0.0], [1.0, None], [0.5, 0.5]), 2: ([0.0, 1.0], [0.0, 0.0], [0.0, 1.0])}
    for step, of_groups in rewards.items():
        groups = [scored_group(["a", "b"], values, group_id=group_id) for group_id, values in enumerate(of_groups)]
        write_traces(tmp_path, step, groups, template="plain")
    write_traces(tmp_path, 3, [scored_group(["a"], [0.0])], template="plain")
    # Means: problem 0 from 0 to 0.5, back to 0 at step 3; problem 1 from 1 to 0; problem 2 stays at 0.5.
    places = problem_places(tmp_path)
    assert most_changed(tmp_path, "train", places) == "problem-1"
    assert most_changed(tmp_path, "train", places, [2, 3]) == "problem-0"
    assert most_changed(tmp_path, "train", {"problem-2": [2]}) is None
