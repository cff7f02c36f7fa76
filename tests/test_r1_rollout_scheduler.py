import pytest
from tiny import prompt_batch

from r1.rollout.engine import requests_of
from r1.rollout.scheduler import GroupScheduler


def requests(count, first_ticket=0):
    return requests_of(prompt_batch(["1+1="] * count), first_ticket=first_ticket)


def tickets(given):
    return {name: [request.ticket for request in held] for name, held in given.items()}


def scheduler_with(*names, capacity=2):
    scheduler = GroupScheduler(capacity)
    for name in names:
        scheduler.add_worker(name)
    return scheduler


def test_groups_go_one_at_a_time_to_the_worker_with_the_fewest():
    scheduler = scheduler_with("a", "b", capacity=3)
    scheduler.submit(requests(5))
    assert tickets(scheduler.hand_out()) == {"a": [0, 2, 4], "b": [1, 3]}
    assert (scheduler.num_in_hand(), scheduler.num_in_hand("b"), scheduler.num_waiting) == (5, 2, 0)


def test_what_is_over_the_capacity_waits_for_whoever_is_free_first():
    scheduler = scheduler_with("a", "b", capacity=1)
    scheduler.submit(requests(4))
    assert tickets(scheduler.hand_out()) == {"a": [0], "b": [1]}
    assert scheduler.hand_out() == {}
    # b is quick, a is held up by a long completion.
    for done, following in ((1, 2), (2, 3)):
        assert scheduler.finish("b", done).ticket == done
        assert tickets(scheduler.hand_out()) == {"b": [following]}


def test_the_groups_of_a_lost_worker_come_first_and_in_order():
    scheduler = scheduler_with("a", "b")
    scheduler.submit(requests(6))
    scheduler.hand_out()
    assert scheduler.finish("a", 0).ticket == 0
    assert scheduler.remove_worker("a") == 1
    assert scheduler.finish("a", 2) is None  # what it says now comes too late
    scheduler.finish("b", 1)
    assert tickets(scheduler.hand_out()) == {"b": [2]}
    scheduler.add_worker("a")
    assert tickets(scheduler.hand_out()) == {"a": [4, 5]}


def test_a_group_is_finished_once():
    scheduler = scheduler_with("a")
    scheduler.submit(requests(1))
    scheduler.hand_out()
    assert scheduler.finish("a", 0) is not None
    assert scheduler.finish("a", 0) is None


def test_forgotten_groups_are_gone_and_the_workers_stay():
    scheduler = scheduler_with("a")
    scheduler.submit(requests(3))
    scheduler.hand_out()
    scheduler.forget()
    assert (scheduler.num_in_hand(), scheduler.num_waiting) == (0, 0)
    scheduler.submit(requests(1, first_ticket=7))
    assert tickets(scheduler.hand_out()) == {"a": [7]}


def test_without_a_worker_everything_waits():
    scheduler = GroupScheduler(1)
    scheduler.submit(requests(1))
    assert scheduler.hand_out() == {}
    with pytest.raises(ValueError, match="capacity must be at least 1, got 0"):
        GroupScheduler(0)
