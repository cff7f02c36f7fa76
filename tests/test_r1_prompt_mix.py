from collections import Counter

import pytest
from tiny import MODEL
from transformers import AutoTokenizer

from r1.errors import UserError
from r1.prompt_mix import CYCLE, HeldoutPrompts, PromptMix, take_turns
from r1.prompt_stream import PromptStream, make_prompt_stream
from r1.prompts import get_template
from r1.types import Progress, Prompt
from tasks import TASKS
from tasks.arithmetic import addition


def stream_of(task, num_prompts, seed=0, pass_rates=None):
    prompts = [
        Prompt(group_id=0, task=task, problem=addition(i, 0), text=f"{i}", prefill="", token_ids=(1,)) for i in range(num_prompts)
    ]
    return PromptStream(prompts=prompts, seed=seed, pass_rates=pass_rates)


def numbers(prompts):
    return [int(prompt.text) for prompt in prompts]


@pytest.fixture(scope="module")
def stream():
    problems = [addition(10 + i, 5) for i in range(10)] + [addition(123456789, 123456789)]
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    return make_prompt_stream(problems, TASKS["arithmetic"], get_template("plain"), tokenizer, max_prompt_tokens=10, seed=0)


@pytest.fixture(scope="module")
def mix(stream):
    return PromptMix(streams=[stream], weights=[1.0], seed=0)


def ids(batch):
    return [prompt.problem.problem_id for prompt in batch.prompts]


def test_too_long_prompts_are_skipped_and_counted(stream):
    assert len(stream.prompts) == 10
    assert stream.num_skipped == 1


def test_it_is_an_error_if_all_are_too_long(stream):
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    with pytest.raises(UserError, match=r"all 1 prompts are longer than 3 tokens, the shortest has 4; raise it to at least 4"):
        make_prompt_stream([addition(1, 2)], TASKS["arithmetic"], get_template("plain"), tokenizer, max_prompt_tokens=3, seed=0)


def test_each_epoch_visits_every_problem_once_in_another_order(stream, mix):
    steps = [ids(mix.batch(Progress(num_prompts_drawn=drawn), num_prompts=4, group_size=2)) for drawn in range(0, 20, 4)]
    walk = [problem_id for step in steps for problem_id in step]
    assert sorted(walk[:10]) == sorted(walk[10:]) == sorted(p.problem.problem_id for p in stream.prompts)
    assert walk[:10] != walk[10:]


def test_prompts_depend_on_how_many_were_drawn_before_and_on_nothing_else(mix):
    later = mix.batch(Progress(step=3, policy_version=5, num_prompts_drawn=8), num_prompts=4, group_size=2)
    assert ids(later) == ids(mix.batch(Progress(num_prompts_drawn=8), num_prompts=4, group_size=2))
    # A run that goes on with more prompts a step neither repeats nor leaves out any.
    assert ids(mix.batch(Progress(num_prompts_drawn=4), num_prompts=8, group_size=2))[4:] == ids(later)
    assert (later.step, later.policy_version) == (4, 5)
    assert [prompt.group_id for prompt in later.prompts] == [0, 1, 2, 3]


def test_an_order_that_was_dropped_is_made_again_the_same():
    stream = stream_of("a", 6)
    early = numbers(stream.drawn(i) for i in range(6))
    for index in (6, 12, 18, 24):  # further epochs push the first one out
        stream.drawn(index)
    assert numbers(stream.drawn(i) for i in range(6)) == early


def test_easy_first_follows_the_pass_rates_in_each_epoch():
    # Of 4 problems "0+0" .. "3+0"; the third was not measured and counts as 0.5.
    rates = {"0+0": 0.25, "1+0": 0.75, "3+0": 0.6}
    stream = stream_of("a", 4, pass_rates=rates)
    assert numbers(stream.drawn(i) for i in range(8)) == [1, 3, 2, 0, 1, 3, 2, 0]


def test_tasks_take_turns_evenly_by_their_weights():
    # 3 : 1: every fourth turn is the second task's, in the middle of its quarter.
    assert take_turns([3.0, 1.0])[:8] == [0, 0, 1, 0, 0, 0, 1, 0]
    turns = take_turns([0.5, 0.3, 0.2])
    assert Counter(turns) == {0: 500, 1: 300, 2: 200}
    for first in range(0, CYCLE, 10):  # each ten has its share, but for one
        assert abs(turns[first : first + 10].count(0) - 5) <= 1
    # A weight too small for the cycle still gets a turn.
    assert Counter(take_turns([1e6, 1.0]))[1] == 1


def test_a_mixture_walks_through_each_task_without_gaps_over_the_borders_of_its_cycle():
    mix = PromptMix(streams=[stream_of("a", 700), stream_of("b", 300, seed=1)], weights=[2.0, 1.0], seed=0)
    drawn = mix.batch(Progress(), num_prompts=2 * CYCLE, group_size=2).prompts
    for task, stream, num_prompts in (("a", mix.streams[0], 1334), ("b", mix.streams[1], 666)):
        of_task = [prompt for prompt in drawn if prompt.task == task]
        assert len(of_task) == num_prompts
        assert numbers(of_task) == numbers(stream.drawn(i) for i in range(num_prompts))
    # Resumed in the middle: the same prompts.
    later = mix.batch(Progress(num_prompts_drawn=997), num_prompts=10, group_size=2).prompts
    assert [(p.task, p.text) for p in later] == [(p.task, p.text) for p in drawn[997:1007]]


def test_held_out_sets_get_their_completions_and_seeds_of_their_own(mix):
    heldout = HeldoutPrompts(streams=[stream_of("big", 40), stream_of("small", 3)], num_completions=16, seed=7)
    big, small = heldout.batches(step=2, policy_version=5)
    assert (len(big.prompts), big.group_size) == (16, 1)
    assert (len(small.prompts), small.group_size) == (3, 5)  # 16 // 3
    assert heldout.describe() == "big 16 x 1, small 3 x 5"
    group_ids = [prompt.group_id for prompt in (*big.prompts, *small.prompts)]
    assert group_ids == list(range(19))  # one trace file holds both
    assert (big.round, small.round) == (0, 1)
    assert big.seed == small.seed != mix.batch(Progress(), num_prompts=4, group_size=1).seed
