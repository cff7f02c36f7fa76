"""A rollout pool over workers in this process: fixtures, loaded by conftest.py, and what its tests say in short."""

from dataclasses import replace

import fake_ray
import pytest
from fake_ray import Dead, FakeHandle
from tiny import prompt_batch, tiny_config

from r1.faults import FaultLog
from r1.rollout.scripted_engine import ScriptedEngine
from r1.runtime import rollout_pool, rollout_team, rollout_worker
from r1.runtime.cluster import Resources
from r1.runtime.rollout_pool import RolloutPool
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
    monkeypatch.setattr(rollout_team, "kill", lambda worker: None)
    monkeypatch.setattr(rollout_worker, "load_engine_class", lambda name: engines)

    class Starting:
        """An actor whose engine is made when it is first asked, in its own process."""

        def __getattr__(self, name):
            if "_worker" not in self.__dict__:
                self._worker = rollout_worker.RolloutWorker("", None)
            return getattr(self._worker, name)

    monkeypatch.setattr(rollout_team, "rollout_actor", lambda config, resources: lambda index: FakeHandle(Starting()))

    def make(num_workers=2, *overrides, colocated=False, has_learner=True):
        faults = FaultLog()
        config = tiny_config("rollout.group_size=4", "rollout.max_num_seqs=8", *overrides)
        pool = RolloutPool(config, Resources(num_cpus=1, count=num_workers, colocated=colocated), faults)
        pool.wait_until_ready()
        if has_learner:
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


def dies(engine, group):
    raise Dead


def an_old_version(engine, group):
    return replace(group, completions=tuple(replace(c, policy_version=c.policy_version - 1) for c in group.completions))
