"""The pool where engines and learner share devices and take turns."""

from fake_pool import batch_of, dies, expected, manifest, sample, texts
from fake_ray import Dead, Late
from tiny import tiny_config

from r1.faults import FaultLog
from r1.runtime.cluster import Resources
from r1.runtime.rollout_pool import RolloutPool

SYNC = ["receive_weights", "load_weights", "reset_prefix_cache", "verify_weights"]
WAKING_SYNC = ["wake_up weights", "receive_weights", "load_weights", "wake_up kv_cache", "reset_prefix_cache", "verify_weights"]


def one_step(pool, engines, step):
    """As the loop does it: sample, pause, update, load. Returns the calls of each engine but those for groups."""
    for engine in engines.made:
        engine.calls.clear()
    groups = sample(pool, batch_of(6, version=step - 1, step=step))
    assert texts(groups) == expected(6)
    pool.pause()
    for engine in engines.made:
        engine.calls.append("the update")
    pool.load_weights(manifest(step))
    return [[call for call in engine.calls if call != "sample_group"] for engine in engines.made]


def test_colocated_engines_sleep_while_the_learner_works(make_pool, engines):
    pool, faults = make_pool(2, colocated=True)
    assert [engine.calls for engine in engines.made] == [WAKING_SYNC] * 2
    for step in (1, 2):
        assert one_step(pool, engines, step) == [["sleep", "the update", *WAKING_SYNC]] * 2
    assert faults.faults == []


def test_engines_with_devices_of_their_own_never_sleep(make_pool, engines):
    pool, _ = make_pool(2)
    assert [engine.calls for engine in engines.made] == [SYNC] * 2
    assert one_step(pool, engines, 1) == [["the update", *SYNC]] * 2


def test_colocated_engines_start_after_the_learner_has_its_memory(make_pool):
    config = tiny_config()
    pool = RolloutPool(config, Resources(num_cpus=1, count=2, colocated=True), FaultLog())
    assert pool.workers == {}
    pool.wait_until_ready()
    assert list(pool.workers) == ["rollout worker 0", "rollout worker 1"]
    assert list(RolloutPool(config, Resources(num_cpus=1, count=1), FaultLog()).workers) == ["rollout worker 0"]


def test_no_engine_starts_while_the_others_sleep(make_pool, engines):
    pool, faults = make_pool(2, colocated=True)
    engines.made[0].sleep = lambda: (_ for _ in ()).throw(Dead)
    pool.submit(batch_of(3))
    pool.pause()
    assert "rollout worker 0, phase sleep: the worker died" in faults.faults[0].text
    assert pool.references() == []
    pool.pause()
    assert engines.made[1].calls.count("sleep") == 1
    pool.forget()  # the learner was lost: it loads an older version, and they go on from there
    pool.load_weights(manifest(0))
    assert texts(sample(pool, batch_of(3))) == expected(3)
    assert engines.made[2].calls[: len(WAKING_SYNC)] == WAKING_SYNC
    assert len(engines.made) == 3
    assert len(faults.faults) == 1


def test_an_engine_that_is_just_starting_is_waited_for_and_sleeps_too(make_pool, engines):
    pool, _ = make_pool(2, colocated=True)
    engines.spoil = lambda engine, group: dies(engine, group) if engine.number == 1 else group
    num_tries = 0

    def slowly(engine):
        nonlocal num_tries
        num_tries += 1
        if num_tries < 100:
            engines.made.pop()
            raise Late

    engines.on_start = slowly
    assert texts(sample(pool, batch_of(9))) == expected(9)
    assert len(engines.made) == 2
    pool.pause()
    assert [engine.calls[-1] for engine in engines.made if engine.number != 1] == ["sleep", "sleep"]
