"""The pool against workers in this process: every way in which one can fail, and that nothing is lost or counted twice."""

import math
import re
from dataclasses import replace

import fake_ray
import pytest
from fake_ray import Dead, FakeHandle, Late
from tiny import prompt_batch, tiny_config

from r1.errors import RunError, SyncError
from r1.faults import FaultLog
from r1.rollout.scripted_engine import ScriptedEngine
from r1.runtime import rollout_pool, rollout_worker
from r1.runtime.cluster import Resources
from r1.runtime.rollout_pool import MAX_FAILURES_IN_A_ROW, MAX_LOSSES_IN_A_ROW, RolloutPool
from r1.types import WeightManifest


class Engines:
    """Makes the workers' engines, and remembers them by the order in which they were started."""

    def __init__(self):
        self.made = []
        self.spoil = lambda engine, group: group
        """What happens to a group before it leaves an engine."""
        self.on_start = lambda engine: None

    def __call__(self, options):
        engine = ScriptedEngine(lambda text, sample_id: f"{text} {sample_id}")
        engine.number = len(self.made)
        self.made.append(engine)
        self.on_start(engine)
        sample_group = engine.sample_group
        engine.sample_group = lambda request: self.spoil(engine, sample_group(request))
        return engine


@pytest.fixture
def engines():
    return Engines()


@pytest.fixture
def make_pool(monkeypatch, engines):
    monkeypatch.setattr(rollout_pool.ray, "wait", fake_ray.wait)
    monkeypatch.setattr(rollout_pool.ray, "get", fake_ray.get)
    monkeypatch.setattr(rollout_pool, "kill", lambda worker: None)
    monkeypatch.setattr(rollout_worker, "load_engine_class", lambda name: engines)

    class Starting:
        """An actor whose engine is made when it is first asked, in its own process."""

        def __getattr__(self, name):
            if "_worker" not in self.__dict__:
                self._worker = rollout_worker.RolloutWorker("", None)
            return getattr(self._worker, name)

    monkeypatch.setattr(rollout_pool, "rollout_actor", lambda config, resources: lambda: FakeHandle(Starting()))

    def make(num_workers=2, *overrides):
        faults = FaultLog()
        config = tiny_config("rollout.group_size=4", "rollout.max_num_seqs=8", *overrides)
        pool = RolloutPool(config, Resources(num_cpus=1, count=num_workers), faults)
        pool.wait_until_ready()
        pool.load_weights(manifest(0))
        return pool, faults

    return make


def manifest(version):
    return WeightManifest(policy_version=version, path="", num_bytes=0, tensors=())


def batch_of(count, version=0, step=1):
    return prompt_batch([f"{i}+1=" for i in range(count)], policy_version=version, step=step)


def sample(pool, batch):
    pool.submit(batch)
    return sorted(pool.collect(batch), key=lambda group: group.prompt.group_id)


def texts(groups):
    return [[completion.text for completion in group.completions] for group in groups]


def expected(count):
    return [[f"{i}+1= {sample_id}" for sample_id in range(4)] for i in range(count)]


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


def dies(engine, group):
    raise Dead


def hangs(engine, group):
    raise Late


def out_of_the_vocabulary(engine, group):
    return replace(group, completions=tuple(replace(c, token_ids=(999,) * len(c.token_ids)) for c in group.completions))


def not_a_number(engine, group):
    first = replace(group.completions[0], rollout_logprobs=(math.nan,) * len(group.completions[0].token_ids))
    return replace(group, completions=(first, *group.completions[1:]))


def an_old_version(engine, group):
    return replace(group, completions=tuple(replace(c, policy_version=c.policy_version - 1) for c in group.completions))


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
    pool._replace_if_late = lambda *arguments: None
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


def test_a_worker_that_cannot_start_at_all_ends_the_run_at_once(make_pool, engines):
    engines.on_start = lambda engine: (_ for _ in ()).throw(RunError("no room for the key-value cache"))
    with pytest.raises(RunError, match="rollout worker 0, phase start: no room for the key-value cache"):
        make_pool(2)


def test_what_was_dropped_does_not_come_back(make_pool, engines):
    pool, faults = make_pool(2)
    pool.submit(batch_of(6))
    engines.made[1].abort = lambda: (_ for _ in ()).throw(Dead)
    pool.forget()
    assert "rollout worker 1, phase abort: the worker died" in faults.faults[0].text
    assert texts(sample(pool, batch_of(3))) == expected(3)
    assert sum(engine.num_unfinished for engine in engines.made) == 0


def ahead(count, step, version):
    """A batch of a step that is begun ahead: its samples may be one version old."""
    return replace(batch_of(count, version=version, step=step), max_staleness=1)


def versions_of(groups):
    return sorted(c.policy_version for group in groups for c in group.completions[:1])


def test_groups_in_hand_go_on_with_new_weights_when_they_are_loaded_in_flight(make_pool, engines):
    pool, faults = make_pool(1, "rollout.max_staleness=1", "sync.in_flight=true")
    pool.submit(ahead(4, step=2, version=1))  # two at a time
    pool.pause()
    # The call that was under way has ended with the first group; the second stays in hand, the others wait.
    assert engines.made[0].calls.count("sample_group") == 1
    assert engines.made[0].num_unfinished == 1
    pool.load_weights(manifest(1))
    groups = list(pool.collect(ahead(4, step=2, version=1)))
    assert versions_of(groups) == [0, 1, 1, 1]
    assert faults.faults == []


def test_without_in_flight_updates_what_is_in_hand_is_finished_first(make_pool, engines):
    pool, _ = make_pool(1, "rollout.max_staleness=1")
    pool.submit(ahead(4, step=2, version=1))
    pool.pause()
    assert engines.made[0].calls.count("sample_group") == 2
    pool.load_weights(manifest(1))
    assert versions_of(pool.collect(ahead(4, step=2, version=1))) == [0, 0, 1, 1]


def test_samples_older_than_allowed_are_sampled_again(make_pool, engines):
    pool, faults = make_pool(1, "rollout.max_staleness=1")
    engines.spoil = lambda engine, group: an_old_version(engine, group) if engine.number == 0 else group
    pool.submit(ahead(1, step=2, version=1))  # the engine holds 0, and says -1
    assert versions_of(pool.collect(ahead(1, step=2, version=1))) == [0]
    assert "step 2: sampled by policy version [-1], wanted 1" in faults.faults[0].text


def test_what_is_cut_off_is_dropped_wherever_it_is(make_pool, engines):
    pool, faults = make_pool(1)
    batch = batch_of(6)
    pool.submit(batch)  # two in hand, four wait
    collected = pool.collect(batch)
    assert next(collected).prompt.group_id == 0
    pool.cut_off(batch)
    # The engine hears of it with its next call, and only then begins what comes next.
    assert texts(sample(pool, batch_of(2, step=2))) == expected(2)
    assert engines.made[0].calls.count("sample_group") <= 2 + 2
    assert engines.made[0].num_unfinished == 0
    assert faults.faults == []


def test_every_group_is_announced_as_soon_as_it_is_there(make_pool):
    pool, _ = make_pool(2)
    announced = []
    pool.on_group = announced.append
    pool.submit(batch_of(3))
    pool.pause()
    assert len(announced) == 3
    assert list(pool.collect(batch_of(3))) == announced


def test_an_earlier_step_goes_before_those_begun_ahead(make_pool, engines):
    pool, _ = make_pool(1, "rollout.max_staleness=2")
    order = []
    pool.on_group = lambda group: order.append(group.completions[0].text)
    pool.submit(replace(batch_of(4, version=2, step=3), max_staleness=2))  # two go to the worker at once
    later = replace(prompt_batch(["9+9="], policy_version=1, step=2), max_staleness=2, round=1)
    pool.submit(later)
    list(pool.collect(later))
    # Behind the two that were in hand, before the two that waited.
    assert order == ["0+1= 0", "1+1= 0", "9+9= 0"]
