"""Whose fault it is when something fails: the worker's, another's, or the driver's own."""

from types import SimpleNamespace

import fake_ray
import pytest
from fake_pool import batch_of, expected, manifest, sample, texts
from fake_ray import Dead, FakeHandle, Late
from ray.exceptions import OutOfMemoryError
from tiny import prompt_batch, tiny_config

from r1.errors import RunError, ScoringError, SyncError, WorkerLost
from r1.faults import FaultLog
from r1.rollout.engine import generate
from r1.rollout.scripted_engine import ScriptedEngine
from r1.runtime import calls, evaluation_sampling, reward_pool
from r1.runtime.calls import TICK_S, Worker, call
from r1.runtime.cluster import Resources
from r1.runtime.reward_pool import RayScorer
from r1.runtime.rollout_team import MAX_FAILURES_IN_A_ROW
from r1.runtime.whereabouts import Whereabouts
from r1.types import Score
from tasks import TASKS


@pytest.mark.parametrize("not_looked_s", [2 * TICK_S, 100.0])
def test_what_the_driver_itself_was_held_up_is_no_lateness_of_the_workers(make_pool, not_looked_s):
    pool, faults = make_pool(2, "deadline_s=10")
    pool.submit(batch_of(4))
    team = pool._team
    # As if it had looked away so long, and the workers had been called 100 s ago.
    team._looked_at_s -= not_looked_s
    team._calls = {name: calls_since(call, 100.0) for name, call in team._calls.items()}
    team._last_progress = {name: since - 100.0 for name, since in team._last_progress.items()}
    pool.attend([])
    assert len(faults.faults) == (2 if not_looked_s < 1 else 0)


def calls_since(one, ago_s):
    return type(one)(phase=one.phase, reference=one.reference, since=one.since - ago_s)


def test_a_single_worker_that_fails_in_a_sync_is_replaced_a_few_times(make_pool, engines):
    pool, faults = make_pool(1)
    engines.made[0].verify_weights = damaged
    pool.pause()
    pool.load_weights(manifest(1))
    assert texts(sample(pool, batch_of(3, version=1, step=2))) == expected(3)
    assert "checksum differs; it is replaced" in faults.faults[0].text

    engines.on_start = lambda engine: setattr(engine, "verify_weights", damaged)
    engines.made[-1].verify_weights = damaged
    pool.pause()
    with pytest.raises(RunError, match=f"failed {MAX_FAILURES_IN_A_ROW + 1} times in a row, the last time: .*checksum differs"):
        pool.load_weights(manifest(2))


def damaged():
    raise SyncError("checksum differs")


def test_deaths_do_not_count_as_failures_of_its_own(make_pool, engines):
    pool, _ = make_pool(1)
    for number in range(MAX_FAILURES_IN_A_ROW + 1):
        pool._team.replace("rollout worker 0", WorkerLost(f"death {number}"))
        while pool._team.num_starting():
            pool._pump()
    pool._team.replace("rollout worker 0", SyncError("the first one of its own"))


def test_of_groups_that_were_cut_off_the_engines_hear_before_they_sleep(make_pool, engines):
    pool, faults = make_pool(1, colocated=True)
    [engine] = engines.made

    def sleep():
        assert engine.num_unfinished == 0, "asleep with groups in hand"

    engine.sleep = sleep
    batch = batch_of(4)
    pool.submit(batch)
    next(pool.collect(batch))
    pool.cut_off(batch)
    pool.pause()
    assert faults.faults == []


def test_groups_that_nobody_is_going_to_collect_are_announced(make_pool):
    pool, _ = make_pool(1)
    there, cut_off = [], []
    pool.on_group, pool.on_cut_off = there.append, cut_off.append
    batch = batch_of(6)
    pool.submit(batch)
    while len(there) < 3:
        pool._pump()
    taken = next(pool.collect(batch))
    pool.cut_off(batch)
    assert taken not in cut_off
    assert sorted(map(id, [taken, *cut_off])) == sorted(map(id, there))


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr(calls.ray, "wait", fake_ray.wait)
    monkeypatch.setattr(calls.ray, "get", fake_ray.get)


def broken():
    raise RuntimeError("Connection closed by peer")


def dead():
    raise Dead


def late():
    raise Late


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        (dead, WorkerLost, "learner rank 1, phase update: the worker died"),
        (late, RunError, "learner rank 0, phase update: RuntimeError: Connection closed by peer"),
        (broken, RunError, "learner rank 0, phase update: RuntimeError: Connection closed by peer"),
    ],
)
def test_a_rank_that_fails_since_another_died_is_not_the_reason(in_this_process, other, error, message):
    ranks = [
        Worker(name=f"learner rank {rank}", handle=FakeHandle(SimpleNamespace(update=update)))
        for rank, update in enumerate((broken, other))
    ]
    with pytest.raises(RunError, match=message) as raised:
        call(ranks, "update", phase="update", deadline_s=60.0)
    assert type(raised.value) is error


def test_a_worker_that_ray_killed_for_want_of_memory_is_lost(in_this_process, monkeypatch):
    def get(reference):
        raise OutOfMemoryError("the node has run out of memory")

    monkeypatch.setattr(calls.ray, "get", get)
    worker = Worker(name="rollout worker 0", handle=FakeHandle(SimpleNamespace(advance=lambda: 1)))
    with pytest.raises(WorkerLost, match=r"phase sample: the answer is lost \(OutOfMemoryError: the node has run out"):
        call([worker], "advance", phase="sample", deadline_s=60.0)


@pytest.fixture
def scorer(in_this_process, monkeypatch):
    """A reward worker that has replaced as many children as `judged` says, group by group."""
    replaced = iter([1, 0, 1, 2])

    def judge(group):
        return (Score(reward=1.0, breakdown={"accuracy": 1.0}),), next(replaced)

    handle = FakeHandle(SimpleNamespace(judge=judge, ready=Whereabouts))
    monkeypatch.setattr(reward_pool, "_options", lambda resources: {})
    started = SimpleNamespace(remote=lambda *arguments, **named: handle)
    monkeypatch.setattr(reward_pool.ray, "remote", lambda actor: SimpleNamespace(options=lambda **options: started))
    return RayScorer(tiny_config(), {"accuracy": 1.0}, "accuracy", Resources(num_cpus=1), FaultLog())


def groups_of_one(count):
    engine = ScriptedEngine(lambda text, sample_id: text)
    return generate(engine, prompt_batch(["1+1="] * count, group_size=1))


def test_a_replaced_child_is_counted_once_in_whatever_order_the_groups_were_judged(scorer):
    groups = groups_of_one(4)
    for group in groups:
        scorer.submit(group)
    assert len(scorer.collect(groups)) == 4
    assert scorer._faults.counts() == {"faults/reward_child": 2.0}


def test_scores_that_nobody_asks_for_are_dropped(scorer):
    groups = groups_of_one(3)
    for group in groups:
        scorer.submit(group)
    scorer.collect(groups[:1])
    scorer.drop(groups[1])
    assert [group for group, _ in scorer._waiting.values()] == [groups[2]]


def test_failed_scores_end_a_run_and_no_evaluation(scorer):
    task = SimpleNamespace(task=TASKS["arithmetic"], format_gates_accuracy=True)
    of_evaluation = evaluation_sampling._scorer(tiny_config(), SimpleNamespace(task=task), FaultLog(), None)
    failed = Score(reward=None, breakdown={"accuracy": None}, error="accuracy: no")
    groups = groups_of_one(5)  # one more than the 2 % of 200 that may
    for one in (scorer, of_evaluation):
        one.worker.handle.worker.judge = lambda group: ((failed,), 0)
        for group in groups:
            one.submit(group)
    with pytest.raises(ScoringError, match="5 of 5 scores failed, more than the 4 that may"):
        scorer.collect(groups)
    assert of_evaluation.collect(groups) == [(failed,)] * 5


def test_a_reward_pool_that_dies_too_often_is_no_lost_learner(scorer, monkeypatch):
    monkeypatch.setattr(reward_pool, "MAX_RESTARTS", 2)
    monkeypatch.setattr(reward_pool, "kill", lambda worker: None)
    scorer.worker.handle.worker.judge = lambda group: dead()
    [group] = groups_of_one(1)
    scorer.submit(group)
    with pytest.raises(RunError, match="the reward pool was restarted 2 times; the last time: reward pool, phase score") as raised:
        scorer.collect([group])
    assert not isinstance(raised.value, WorkerLost)
