"""Which node a place is on: for work that goes anywhere, and for a reserved place whose node has died.

Ray looks for another node by itself as soon as it has noticed; until then a worker that is started there dies at once, which
costs it one more try.
"""

import time
from collections.abc import Mapping
from typing import Any

import ray
from ray._private.state import available_resources_per_node
from ray.util import placement_group_table

from r1.errors import RunError
from r1.runtime.cluster import Resources
from r1.runtime.placement import Bundle, Placement, shortage

TICK_S = 0.5
"""How often is looked whether a place has been found."""
NOBODY = Resources(num_cpus=0, count=0)
REMEDY = "start that node again, or another (ray status), and go on from the last checkpoint with --resume RUN"


def roomiest_node(
    total: Mapping[str, float], free: Mapping[str, float], reserved: Mapping[str, float], home: str
) -> str:
    """The node with most CPUs left; of several that have as many `home`, or else the first one by name.

    total, free, reserved: node -> CPUs that it has, that nobody holds, and that this run has reserved there. Ray's figures of
    what is free may be some seconds old, and not know of the reservation yet.

    >>> roomiest_node({"a": 8, "b": 8}, {"a": 8, "b": 8}, {"b": 4}, home="b")
    'a'
    """
    left = {node: min(free.get(node, 0.0), has - reserved.get(node, 0.0)) for node, has in total.items()}
    return max(sorted(left), key=lambda node: (left[node], node == home), default=home)


def node_for_rewards(group: Any) -> str:
    """The node that has most CPUs to spare beside what the run has reserved, as `group`; else the driver's own."""
    reserved: dict[str, float] = {}
    if group is not None:
        table = placement_group_table(group)
        for bundle, node_id in table["bundles_to_node_id"].items():
            reserved[node_id] = reserved.get(node_id, 0.0) + table["bundles"][bundle].get("CPU", 0.0)
    total = {node["NodeID"]: node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]}
    free = {node_id: has.get("CPU", 0.0) for node_id, has in available_resources_per_node().items()}
    return roomiest_node(total, free, reserved, home=ray.get_runtime_context().get_node_id())


def missing_places(resources: Resources, holds: str, index: int | None = None) -> str | None:
    """Why some of these workers have no place any more, in words, or None: each has one, as far as Ray knows.

    holds: who they are, for people. index: of the one in question; without it, all of them.
    """
    if resources.group is None:
        return None
    asked = range(resources.count) if index is None else [index]
    node_of = nodes_of(resources)
    lost = {resources.bundles[one] for one in asked if not node_of[one]}
    if not lost:
        return None
    wants = placement_group_table(resources.group)["bundles"]
    bundles = [Bundle(holds=holds, wants=wants[bundle]) for bundle in sorted(lost)]
    wanted = Placement(bundles=bundles, rollout=NOBODY, learner=NOBODY)
    free = shortage(wanted, list(available_resources_per_node().values())) or "room, but Ray has not taken it yet"
    return f"a node is gone, and no other has a place for {holds}; free: {free}"


def nodes_of(resources: Resources) -> list[str]:
    """Ray's id of each worker's node, "" where it has no place."""
    node_of = placement_group_table(resources.group)["bundles_to_node_id"]
    return [node_of[bundle] for bundle in resources.bundles]


def wait_for_places(resources: Resources, holds: str, deadline_s: float) -> None:
    """Block until each of these workers has a place on a node that lives; raises `RunError` when they have none in time."""
    start = time.monotonic()
    while missing := missing_places(resources, holds):
        waited_s = time.monotonic() - start
        if waited_s > deadline_s:
            raise RunError(f"{holds}, phase placement, waited {waited_s:.0f} s: {missing}; {REMEDY}")
        time.sleep(TICK_S)
