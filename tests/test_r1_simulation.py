"""Cases that can be followed with a pencil: one token takes each engine a second, unless said otherwise."""

from dataclasses import replace

import pytest

from r1.errors import UserError
from r1.simulated_engine import EngineSpeed, SimulatedEngine
from r1.simulated_run import Setting, SimulatedRun
from r1.simulation import LognormalLengths, SampledLengths, simulate, speed_of, sweep

SECOND = EngineSpeed(iteration_s=1.0, sequence_s=0.0)
# Places for 4 completions: two groups of 2 at a time. A step: two groups, an update of 4 s, a sync of 2 s.
SETTING = Setting(num_engines=1, max_num_seqs=4, num_prompts=2, group_size=2, speed=SECOND, update_s=4.0, sync_s=2.0)


def ten_and_six(step, group_id):
    return [[10, 10], [6, 6]][group_id]


def ten(step, group_id):
    return [10, 10]


def sync_ends(setting, lengths, num_steps):
    """When each step's sync is over."""
    run = SimulatedRun(setting, lengths, num_steps)
    run.go()
    return [totals.now_s for totals in run.totals[1:]]


def test_strict_steps_add_up():
    # Groups of 10 and 6 tokens at once: 10 s, then 4 + 2. Busy 10 of 16 s; places: 2 x 10 + 2 x 6 = 32 of 4 x 16.
    one = simulate(SETTING, ten_and_six, num_steps=3)
    assert (one.step_s, one.learner_idle_share, one.engine_idle_share, one.slots_used_share) == (16, 12 / 16, 6 / 16, 0.5)
    assert (one.mode, one.tokens_per_s, one.staleness_mean, one.staleness_max) == ("strict", 32 / 16, 0, 0)


def test_with_draining_the_update_is_hidden_and_places_stay_empty():
    # Step 3 begins with a sync's end, say at 0. 0-10 its two groups; update of step 2 0-4, from then on nothing new begins;
    # 10 both done, sync 10-12. A step takes 12 s; busy 10 of them; 32 of 48 places; begun one version before its learner's.
    one = simulate(replace(SETTING, max_staleness=1), ten_and_six, num_steps=3, num_skipped=2)
    assert one.step_s == 12
    assert (one.learner_idle_share, one.slots_used_share) == pytest.approx((8 / 12, 32 / 48))
    assert one.engine_idle_share == pytest.approx(2 / 12)
    assert (one.staleness_mean, one.staleness_max) == (1, 1)


def test_in_flight_all_places_are_used_between_the_syncs():
    # 0 A1 (10), B1 (6); 6 A2; 10 B2 and step 1's update; 14-16 sync with 2 tokens of each left; 18 A3, B3, update; 22-24 sync;
    # 26 B3 done, A4; 30 A3 done, B4, update; 34-36 sync; 38 as at 18. So two steps in 20 s, of which 16 s with all 4 places full.
    in_flight = replace(SETTING, max_staleness=1, in_flight=True)
    assert sync_ends(in_flight, ten_and_six, 6) == [16, 24, 36, 44, 56, 64]
    one = simulate(in_flight, ten_and_six, num_steps=4, num_skipped=2)
    assert (one.step_s, one.learner_idle_share, one.staleness_mean, one.staleness_max) == (10, 0.6, 1, 1)
    assert one.engine_idle_share == pytest.approx(0.2)
    assert one.slots_used_share == pytest.approx(0.8)


def test_completions_that_are_done_make_the_others_faster():
    # 1 s + 1 s for each running completion. Two groups of (1, 3): one token of four 5 s, two more of two 2 x 3 s.
    speed = EngineSpeed(iteration_s=1.0, sequence_s=1.0)
    assert simulate(replace(SETTING, speed=speed), lambda step, group: [1, 3], num_steps=1).step_s == 5 + 6 + 4 + 2


def test_a_group_larger_than_the_batch_waits_for_places():
    # Places for 2, a group of 4 with 3, 1, 1, 2 tokens: 3 and 1, then 1 at 1 s, then 2 at 2 s: done after 4 s.
    engine = SimulatedEngine(SECOND, max_num_seqs=2)
    engine.add(7, [3, 1, 1, 2], prompt_tokens=0)
    seen = []
    while not (finished := engine.take_finished()):
        engine.advance(engine.next_s())
        seen.append(engine.now_s)
    assert (finished, seen[-1], engine.num_unfinished, engine.slot_s) == ([7], 4.0, 0, 7.0)


def test_one_long_completion_keeps_the_others_waiting():
    # Two engines, groups of 10 and 100 tokens, nothing else takes time: one is idle for 90 of 100 s, half of that on average.
    tail = replace(SETTING, num_engines=2, update_s=0.0, sync_s=0.0)
    one = simulate(tail, lambda step, group: [10, [10, 100][group]], num_steps=2)
    assert (one.step_s, one.engine_idle_share) == (100, pytest.approx(0.45))
    assert one.slots_used_share == pytest.approx((3 * 10 + 100) / (2 * 4 * 100))


def test_a_worker_sees_new_weights_and_groups_when_its_slice_is_over():
    # One group a step, slices of 4 s, update 5 s. 0-10 steps 1 and 2 together; update 10-15, idle engine, sync 15-17.
    # 17 step 3 begins, update of step 2 17-22; slices end at 21 and 25: sync 25-27. Then 2 tokens left: 29; step 4 began at 27.
    # Update of step 3 29-34; after the group at 29 slices end at 33, 37 (when step 4 is done as well): sync 37-39.
    sliced = replace(SETTING, num_prompts=1, update_s=5.0, max_staleness=1, in_flight=True, slice_s=4.0)
    assert sync_ends(sliced, ten, 3) == [17, 27, 39]
    assert sync_ends(replace(sliced, slice_s=0.0), ten, 3)[:2] == [17, 24]


def test_the_driver_takes_one_group_at_a_time():
    # Two engines, a group each, done at 10; 3 s for each group: the update begins at 16.
    assert sync_ends(replace(SETTING, num_engines=2, driver_group_s=3.0), ten, 1) == [16 + 4 + 2]


def test_prompts_are_computed_before_and_all_is_computed_anew_after_a_sync():
    # A prompt of 10 tokens takes 1 s. Step 1 0-11, step 2 11-12 and 3 tokens until 15; sync 15-17; then 10 + 2 x 3 tokens
    # anew: 1.6 s, and 7 tokens: 25.6. Update and sync: 31.6.
    speed = replace(SECOND, prefill_token_s=0.1)
    one_place = replace(SETTING, max_num_seqs=2, num_prompts=1, prompt_tokens=10, speed=speed, max_staleness=1, in_flight=True)
    assert sync_ends(one_place, ten, 2) == pytest.approx([17, 31.6])
    assert sync_ends(replace(SETTING, speed=speed, prompt_tokens=10), ten, 1) == pytest.approx([2 * 1 + 10 + 4 + 2])


@pytest.mark.parametrize("in_flight", [False, True])
@pytest.mark.parametrize("max_staleness", [1, 2, 4])
def test_nothing_is_staler_than_it_may_be(max_staleness, in_flight):
    lengths = LognormalLengths(median=30.0, sigma=1.0, max_tokens=300, group_size=4, seed=3)
    setting = replace(SETTING, num_engines=3, num_prompts=7, group_size=4, max_num_seqs=8, max_staleness=max_staleness)
    for update_s in (0.0, 20.0, 2000.0):
        one = simulate(replace(setting, update_s=update_s, in_flight=in_flight), lengths, num_steps=20, num_skipped=8)
        assert 0 < one.staleness_mean <= one.staleness_max <= max_staleness
    assert one.staleness_mean == max_staleness  # the learner is so slow that all is sampled as early as it may be
    assert one.step_s == pytest.approx(2000 + 2, rel=0.01)


def test_overlapping_never_loses_and_strict_waits():
    lengths = LognormalLengths(median=50.0, sigma=0.8, max_tokens=400, group_size=4, seed=1)
    setting = replace(SETTING, group_size=4, num_prompts=6, max_num_seqs=16, update_s=60.0)
    modes = [(0, False), (1, False), (1, True)]
    for scaling, counts in (("weak", [6, 24]), ("strong", [6, 6])):
        predictions = sweep(setting, lengths, engines=[1, 4], modes=modes, scaling=scaling, num_steps=6)
        assert [one.num_prompts for one in predictions] == [count for count in counts for _ in modes]
        for strict, drain, in_flight in (predictions[:3], predictions[3:]):
            assert strict.step_s > drain.step_s >= in_flight.step_s * 0.99
            assert strict.engine_idle_share > drain.engine_idle_share


def test_a_learner_that_grows_takes_as_long_for_a_batch_that_grows():
    setting = replace(SETTING, update_s=0.0, update_token_s=0.1, num_prompts=1)
    options = {"engines": [1, 4], "modes": [(0, False)], "scaling": "weak", "num_steps": 2}
    # 20 tokens of each engine: 2 s with one engine; 8 s with four, and 2 s with a learner four times as fast.
    assert [one.step_s for one in sweep(setting, ten, **options)] == [10 + 2 + 2, 10 + 8 + 2]
    assert [one.step_s for one in sweep(setting, ten, **options, learner_grows=True)] == [14, 14]


@pytest.mark.slow
def test_a_thousand_engines_run():
    lengths = LognormalLengths(median=100.0, sigma=1.0, max_tokens=1000, group_size=2, seed=0)
    setting = replace(SETTING, num_prompts=3)
    modes = [(0, False), (1, True)]
    strict, in_flight = sweep(setting, lengths, engines=[1024], modes=modes, scaling="weak", num_steps=1)
    assert (strict.num_engines, strict.num_prompts) == (1024, 3072)
    # 1 % of 6,144 completions are cut off at 1,000 tokens, so a strict step takes as long as one of them, and two at most.
    assert 1000 + 6 <= strict.step_s <= 2000 + 6
    assert in_flight.step_s < strict.step_s


def test_two_throughputs_make_an_engine():
    # 1 completion at 50 tokens/s: 0.02 s; 101 at 2,525: 0.04 s. 0.0002 s each, 0.0198 s in any case.
    speed = speed_of((101, 2525.0), (1, 50.0))
    assert (speed.iteration_s, speed.sequence_s) == pytest.approx((0.0198, 0.0002))
    assert speed.tokens_per_s(101) == pytest.approx(2525)
    with pytest.raises(UserError, match="give two different numbers"):
        speed_of((4, 50.0), (4, 60.0))
    with pytest.raises(UserError, match="fit no engine"):
        speed_of((1, 50.0), (4, 500.0))


def test_lengths_repeat_and_keep_to_their_distribution():
    lengths = LognormalLengths(median=100.0, sigma=0.5, max_tokens=200, group_size=1000, seed=0)
    drawn = lengths(1, 0)
    assert drawn == lengths(1, 0) != lengths(2, 0)
    # Half are below the median; 8.3 % lie above twice the median (ln 2 / 0.5 = 1.39 standard deviations) and are cut off.
    assert sum(length < 100 for length in drawn) == pytest.approx(500, abs=60)
    assert drawn.count(200) == pytest.approx(83, abs=35)
    sampled = SampledLengths(groups=[[1, 2], [30, 40]], group_size=2, seed=0)
    assert {tuple(sampled(1, group)) for group in range(20)} == {(1, 2), (30, 40)}
    more = replace(sampled, group_size=6)(1, 0)
    assert len(more) == 6
    assert set(more) in ({1, 2}, {30, 40})
