"""The pool where steps are begun ahead, cut off, and weights loaded in flight."""

from dataclasses import replace

from fake_pool import an_old_version, batch_of, expected, manifest, sample, texts
from tiny import prompt_batch


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
