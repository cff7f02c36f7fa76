"""The pool against workers in this process: every way in which one can fail, and that nothing is lost or counted twice."""

import math
import re
from dataclasses import replace

import pytest
from fake_pool import an_old_version, batch_of, dies, expected, manifest, sample, texts
from fake_ray import Dead, Late

from r1.errors import PublisherLost, RunError, SyncError, WorkerLost
from r1.runtime import rollout_pool
from r1.runtime.rollout_team import MAX_FAILURES_IN_A_ROW, MAX_LOSSES_IN_A_ROW


def test_every_group_comes_back_once_whatever_the_number_of_workers(make_pool, engines):
    for num_workers in (1, 2, 4):
        pool, faults = make_pool(num_workers)
        assert texts(sample(pool, batch_of(9))) == expected(9)
        assert faults.faults == []
    # 9 groups over 4 workers: none did all of it.
    assert all(engine.calls.count("sample_group") < 9 for engine in engines.made[-4:])


def test_weights_are_loaded_by_all_and_none_samples_with_old_ones(make_pool, engines):
    pool, _ = make_pool(2)
    pool.submit(batch_of(3))
    pool.pause()
    assert sum(engine.calls.count("sample_group") for engine in engines.made) == 3
    pool.submit(batch_of(3, version=1, step=2))
    pool.load_weights(manifest(1))
    assert {engine.policy_version for engine in engines.made} == {1}
    assert {c.policy_version for group in pool.collect(batch_of(3)) for c in group.completions} == {0}
    assert {c.policy_version for group in pool.collect(batch_of(3, step=2)) for c in group.completions} == {1}


def hangs(engine, group):
    raise Late


def out_of_the_vocabulary(engine, group):
    return replace(group, completions=tuple(replace(c, token_ids=(999,) * len(c.token_ids)) for c in group.completions))


def not_a_number(engine, group):
    first = replace(group.completions[0], rollout_logprobs=(math.nan,) * len(group.completions[0].token_ids))
    return replace(group, completions=(first, *group.completions[1:]))


def given_up(engine, group):
    return replace(group, completions=(*group.completions[:3], replace(group.completions[3], finish_reason="abort")))


def raises(engine, group):
    raise KeyError("x")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (dies, "rollout worker 1, phase sample, policy version 0: the worker died after"),
        (hangs, "rollout worker 1, phase sample, policy version 0: no answer within the deadline, for"),
        (out_of_the_vocabulary, "a token id outside the vocabulary of 256"),
        (not_a_number, "a log-probability that is not finite"),
        (given_up, "the engine gave it up"),
        (an_old_version, r"phase sample: step 1: sampled by policy version \[-1\], wanted 0"),
        (raises, "rollout worker 1, phase sample, policy version 0: KeyError: 'x'"),
    ],
)
def test_a_worker_that_fails_is_replaced_and_its_groups_are_sampled_again(make_pool, engines, fault, message):
    # A deadline that has always passed would replace whoever is asked; a fake that answers does so at once.
    pool, faults = make_pool(2, "deadline_s=0.3")
    engines.spoil = lambda engine, group: fault(engine, group) if engine.number == 1 else group
    assert texts(sample(pool, batch_of(9))) == expected(9)
    [one] = faults.faults
    assert re.search(message, one.text), one.text
    assert "it is replaced, " in one.text
    assert faults.counts() == {"faults/rollout_worker": 1.0}
    # The new one has the current weights, proved, before its first group.
    assert engines.made[2].calls[:4] == ["receive_weights", "load_weights", "reset_prefix_cache", "verify_weights"]
    pool.pause()
    pool.load_weights(manifest(1))
    assert engines.made[2].policy_version == 1


@pytest.mark.parametrize(("fault", "allowed"), [(dies, MAX_LOSSES_IN_A_ROW), (not_a_number, MAX_FAILURES_IN_A_ROW)])
def test_a_worker_that_fails_again_and_again_ends_the_run(make_pool, engines, fault, allowed):
    pool, faults = make_pool(1)
    engines.spoil = fault
    with pytest.raises(RunError, match=f"rollout worker 0 failed {allowed + 1} times in a row, the last time: "):
        sample(pool, batch_of(2))
    assert len(faults.faults) == allowed


def test_a_worker_that_fails_in_a_sync_is_replaced(make_pool, engines):
    pool, faults = make_pool(2)
    engines.made[0].verify_weights = lambda: (_ for _ in ()).throw(SyncError("lm_head computes with other weights"))
    pool.pause()
    pool.load_weights(manifest(1))
    assert texts(sample(pool, batch_of(5, version=1, step=2))) == expected(5)
    assert "lm_head computes with other weights; it is replaced, 0 groups are sampled again" in faults.faults[0].text
    assert engines.made[2].policy_version == 1


def test_a_worker_that_answers_and_finishes_nothing_is_replaced(make_pool, engines, monkeypatch):
    monkeypatch.setattr(rollout_pool, "STALLED_DEADLINES", 1000)
    pool, faults = make_pool(2, "deadline_s=0.3")
    slow = engines.made[1]
    slow.step = lambda: []
    pool._slice_s = 0.01
    assert texts(sample(pool, batch_of(5))) == expected(5)
    [one] = faults.faults
    assert "rollout worker 1, phase sample, policy version 0: no group finished within the deadline, for 0 s" in one.text


def test_a_step_of_which_nothing_comes_back_ends_the_run(make_pool, engines):
    # The same worker goes on and on: only the step's own limit is left.
    pool, _ = make_pool(1, "deadline_s=0.1")
    pool._slice_s = 0.01
    pool._team._replace_if_late = lambda *arguments: None
    engines.made[0].step = lambda: []
    message = r"step 1, phase sample, policy version 0: no group was finished for 0 s; 0 groups wait, rollout worker 0 has 2; raise deadline_s"
    with pytest.raises(RunError, match=message):
        sample(pool, batch_of(2))


def test_weights_that_no_worker_can_load_are_not_the_workers_fault(make_pool, engines):
    pool, faults = make_pool(2)
    for engine in engines.made:
        engine.verify_weights = lambda: (_ for _ in ()).throw(SyncError("checksum differs"))
    pool.pause()
    with pytest.raises(SyncError, match="rollout worker 0, phase verify: checksum differs"):
        pool.load_weights(manifest(1))
    assert faults.faults == []


def gone(manifest, *, verify):
    if manifest.policy_version:
        raise PublisherLost("no file")


def test_a_learner_that_dies_after_it_published_is_not_the_workers_fault(make_pool, engines):
    pool, faults = make_pool(2)
    for engine in engines.made:
        engine.receive_weights = gone
    pool.pause()
    with pytest.raises(WorkerLost, match="rollout worker 0, phase transfer: no file"):  # the loop starts another learner
        pool.load_weights(manifest(1))
    assert faults.faults == []


def test_a_worker_that_starts_when_the_learner_is_dead_does_not_try_for_ever(make_pool, engines):
    pool, faults = make_pool(2)

    def start(engine):
        engine.receive_weights = lambda manifest, *, verify: (_ for _ in ()).throw(PublisherLost("no file"))

    engines.on_start = start
    engines.spoil = lambda engine, group: dies(engine, group) if engine.number == 1 else group
    with pytest.raises(WorkerLost, match="rollout worker 1, phase transfer: no file"):
        sample(pool, batch_of(9))
    # With the new learner's weights all are there again.
    engines.on_start = lambda engine: None
    pool.forget()
    pool.load_weights(manifest(1))
    assert texts(sample(pool, batch_of(5, version=1, step=2))) == expected(5)
    assert "the worker died" in faults.faults[0].text
    assert "no file; it is replaced" in faults.faults[1].text


def test_a_worker_that_cannot_start_at_all_ends_the_run_at_once(make_pool, engines):
    engines.on_start = lambda engine: (_ for _ in ()).throw(RunError("no room for the key-value cache"))
    with pytest.raises(RunError, match="rollout worker 0, phase start: no room for the key-value cache"):
        make_pool(2)


@pytest.mark.parametrize("fault", [dies, not_a_number, raises])
def test_without_a_learner_a_worker_that_fails_is_replaced_and_keeps_the_models_own_weights(make_pool, engines, fault):
    pool, faults = make_pool(2, has_learner=False)
    engines.spoil = lambda engine, group: fault(engine, group) if engine.number == 1 else group
    assert texts(sample(pool, batch_of(9))) == expected(9)
    assert faults.counts() == {"faults/rollout_worker": 1.0}
    assert len(engines.made) == 3
    assert not any(call.endswith("weights") for engine in engines.made for call in engine.calls)


def test_without_a_learner_a_replacement_that_does_not_start_is_tried_as_often_as_any_other(make_pool, engines):
    pool, faults = make_pool(1, has_learner=False)
    engines.spoil = dies
    engines.on_start = lambda engine: (_ for _ in ()).throw(RunError("no room for the key-value cache"))
    with pytest.raises(RunError, match=f"failed {MAX_FAILURES_IN_A_ROW + 1} times in a row.*no room for the key-value cache"):
        sample(pool, batch_of(2))
    assert len(faults.faults) == 1 + MAX_FAILURES_IN_A_ROW


def test_what_was_dropped_does_not_come_back(make_pool, engines):
    pool, faults = make_pool(2)
    pool.submit(batch_of(6))
    engines.made[1].abort = lambda: (_ for _ in ()).throw(Dead)
    pool.forget()
    assert "rollout worker 1, phase abort: the worker died" in faults.faults[0].text
    assert texts(sample(pool, batch_of(3))) == expected(3)
    assert sum(engine.num_unfinished for engine in engines.made) == 0


@pytest.mark.parametrize("until", ["the learner is free", "the next version"])
def test_a_replacement_that_the_learner_has_no_time_for_waits(make_pool, engines, until):
    pool, _ = make_pool(2)
    busy = [True]
    pool._team._weights.can_reach = lambda worker, manifest: not busy[0]
    engines.spoil = lambda engine, group: dies(engine, group) if engine.number == 1 else group
    assert texts(sample(pool, batch_of(9))) == expected(9)
    assert engines.made[2].calls == []  # it is up, and holds weights that nobody asked for
    version = 0
    if until == "the learner is free":
        busy[0] = False
        pool.attend([])
    else:
        pool.pause()
        pool.load_weights(manifest(version := 1))
    assert texts(sample(pool, batch_of(9, version=version, step=2))) == expected(9)
    assert engines.made[2].calls[:4] == ["receive_weights", "load_weights", "reset_prefix_cache", "verify_weights"]
    assert engines.made[2].calls.count("sample_group") > 0
