import random
from dataclasses import replace

import pytest
from tiny import prompt_batch

from r1.rollout.engine import requests_of
from r1.rollout.scheduler import GroupScheduler


def requests(count, first_ticket=0, group_size=1):
    return requests_of(prompt_batch(["1+1="] * count, group_size=group_size), first_ticket=first_ticket)


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


def test_a_worker_holds_completions_up_to_its_capacity():
    scheduler = scheduler_with("a", "b", capacity=8)
    scheduler.submit([*requests(3, group_size=4), *requests(4, first_ticket=3, group_size=1)])
    assert tickets(scheduler.hand_out()) == {"a": [0, 2], "b": [1, 3, 4, 5, 6]}
    scheduler.submit(requests(1, first_ticket=7))
    assert scheduler.hand_out() == {}  # eight each
    scheduler.finish("b", 6)
    assert tickets(scheduler.hand_out()) == {"b": [7]}


def test_a_group_above_the_capacity_goes_to_a_worker_that_has_nothing_else():
    scheduler = scheduler_with("a", capacity=8)
    scheduler.submit(requests(2, group_size=16))
    assert tickets(scheduler.hand_out()) == {"a": [0]}
    scheduler.finish("a", 0)
    assert tickets(scheduler.hand_out()) == {"a": [1]}


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


class LooksAtEveryWorker:
    """The scheduler in its plainest form: of the workers with the fewest groups the first that was added."""

    def __init__(self, capacity):
        self.capacity, self.waiting, self.in_hand = capacity, [], {}

    def submit(self, given):
        self.waiting += given

    def add_worker(self, name):
        self.in_hand[name] = {}

    def remove_worker(self, name):
        lost = self.in_hand.pop(name, {})
        self.waiting[:0] = lost.values()
        return len(lost)

    def hand_out(self):
        given = {}
        while self.waiting and self.in_hand:
            name = min(self.in_hand, key=lambda worker: len(self.in_hand[worker]))
            if len(self.in_hand[name]) >= self.capacity:
                break
            request = self.waiting.pop(0)
            self.in_hand[name][request.ticket] = request
            given.setdefault(name, []).append(request)
        return given

    def finish(self, name, ticket):
        return self.in_hand.get(name, {}).pop(ticket, None)

    def num_in_hand(self, name=None):
        return sum(len(held) for worker, held in self.in_hand.items() if name in (None, worker))

    @property
    def num_waiting(self):
        return len(self.waiting)

    def forget(self):
        self.waiting = []
        self.in_hand = {name: {} for name in self.in_hand}


@pytest.mark.parametrize("seed", range(60))
def test_it_hands_out_as_if_it_looked_at_every_worker(seed):
    chance = random.Random(seed)
    names = [f"worker {index}" for index in range(chance.randint(1, 7))]
    capacity = chance.randint(1, 4)
    ours, plain = GroupScheduler(capacity), LooksAtEveryWorker(capacity)
    [template] = requests(1)
    num_tickets, added, held = 0, set(), []
    weights = {"submit": 3, "add": 2, "remove": 1, "hand_out": 5, "finish": 9, "forget": 0.2}

    def both(method, *arguments):
        answers = [getattr(scheduler, method)(*arguments) for scheduler in (ours, plain)]
        assert answers[0] == answers[1], (method, arguments)
        if method == "hand_out":
            assert list(answers[0]) == list(answers[1])  # workers in the same order too
        return answers[0]

    for _ in range(400):
        name = chance.choice(names)
        [what] = chance.choices(list(weights), weights.values())
        if what == "submit":
            new = [replace(template, ticket=num_tickets + i) for i in range(chance.randint(1, 5))]
            num_tickets += len(new)
            both("submit", new)
        elif what == "add" and name not in added:
            added.add(name)
            both("add_worker", name)
        elif what == "remove":  # also of workers that are not there
            added.discard(name)
            both("remove_worker", name)
        elif what == "hand_out":
            given = both("hand_out")
            held += [(worker, request.ticket) for worker, of_worker in given.items() for request in of_worker]
        elif what == "finish" and held:  # also of groups that were lost meanwhile
            both("finish", *held.pop(chance.randrange(len(held))))
        elif what == "forget":
            both("forget")
        both("num_in_hand")
        both("num_in_hand", name)
        assert ours.num_waiting == plain.num_waiting
