"""The learner's ranks as one, with ranks that are plain objects."""

import fake_ray
from fake_ray import FakeHandle
from tiny import tiny_config

from r1.faults import FaultLog
from r1.runtime import calls, learner_group
from r1.runtime.cluster import Resources
from r1.runtime.learner_group import LearnerGroup


class Rank:
    def __init__(self, number):
        self.number = number

    def token_values(self, group_ids):
        return {(group_id, self.number): f"of rank {self.number}" for group_id in sorted(group_ids)}


class FakeActor:
    """What `ray.remote` makes of a class: each `remote()` is the next rank."""

    num_started = 0

    def options(self, **options):
        return self

    def remote(self):
        self.num_started += 1
        return FakeHandle(Rank(self.num_started - 1))


def test_what_each_rank_says_of_its_tokens_comes_together(monkeypatch, tmp_path):
    monkeypatch.setattr(calls.ray, "wait", fake_ray.wait)
    monkeypatch.setattr(calls.ray, "get", fake_ray.get)
    monkeypatch.setattr(learner_group.ray, "remote", lambda kind: FakeActor())
    resources = Resources(num_cpus=1, count=2)
    group = LearnerGroup(tiny_config("learner.num_ranks=2"), resources, tmp_path, str(tmp_path / "weights"), FaultLog())
    assert group.token_values({0, 2}) == {
        (0, 0): "of rank 0",
        (2, 0): "of rank 0",
        (0, 1): "of rank 1",
        (2, 1): "of rank 1",
    }
