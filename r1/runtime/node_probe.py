"""Asking every node of the cluster what it is: a small actor on each, which takes no CPU, within a time limit."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import tasks.hub
from r1.doctor import facts, reach

TIME_LIMIT_S = 60.0
"""For all nodes: Ray starts a process on each, where it may unpack the upload first; 2 s on an idle machine."""
NUM_CLOCK_READINGS = 5


@dataclass(kw_only=True, slots=True)
class Answers:
    """What the nodes said, by name."""

    facts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    skews: dict[str, tuple[float, float]] = field(default_factory=dict)
    """See `r1.doctor.cluster_checks.check_clocks`."""
    silent: dict[str, str] = field(default_factory=dict)
    """Why there is no answer."""


def ask_nodes(request: Mapping[str, Any], time_limit_s: float = TIME_LIMIT_S) -> Answers:
    """Have each live node gather its facts (`r1.doctor.facts.gather`); Ray must be connected."""
    answers = Answers()
    with _by_value():
        actor = ray.remote(facts.Probe)
        probes = {
            name: actor.options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)).remote()
            for name, node_id in _names(ray.nodes()).items()
        }
    waiting = {probe.facts.remote(dict(request)): name for name, probe in probes.items()}
    ready, late = ray.wait(list(waiting), num_returns=len(waiting), timeout=time_limit_s)
    answers.silent = {waiting[reference]: f"did not answer within {time_limit_s:.0f} s" for reference in late}
    for reference in ready:
        name = waiting[reference]
        try:
            answers.facts[name] = ray.get(reference)
            answers.skews[name] = _skew(probes[name], time_limit_s)
        except RayError as error:  # its process cannot start there, or the node went away
            answers.silent[name] = f"cannot run a process ({str(error).strip().splitlines()[-1].strip()})"
    for probe in probes.values():
        ray.kill(probe)
    return answers


@contextmanager
def _by_value() -> Iterator[None]:
    """Send these modules' code and not their names: a node may have nothing of ours, or something else of that name."""
    modules = (facts, reach, tasks.hub)
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _names(nodes: list[dict[str, Any]]) -> dict[str, str]:
    """What people call the live nodes -> their ids: the host's name, with as much more as tells them apart."""
    alive = [node for node in nodes if node["Alive"]]
    hosts = Counter(node["NodeManagerHostname"] for node in alive)
    names = {}
    for node in alive:
        host, node_id = node["NodeManagerHostname"], node["NodeID"]
        names[f"{host} ({node_id[:6]})" if hosts[host] > 1 else host] = node_id
    return names


def _skew(probe: Any, time_limit_s: float) -> tuple[float, float]:
    """Seconds that a node's clock is ahead of ours, and half of the shortest round trip: its clock was read somewhere in it."""
    readings = []
    for _ in range(NUM_CLOCK_READINGS):
        before = time.time()
        there = ray.get(probe.clock.remote(), timeout=time_limit_s)
        after = time.time()
        readings.append(((after - before) / 2, there - (before + after) / 2))
    doubt_s, ahead_s = min(readings)
    return ahead_s, doubt_s
