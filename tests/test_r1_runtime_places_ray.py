"""What Ray says of reserved places when a node dies, on a cluster of nodes that are processes of this machine."""

import time

import pytest
import ray
from ray.cluster_utils import Cluster
from ray_nodes import NOTICED_SOON
from tiny import tiny_config

from r1.errors import RunError
from r1.runtime.placement import placed
from r1.runtime.places import missing_places, node_for_rewards, nodes_of, wait_for_places

pytestmark = [pytest.mark.slow, pytest.mark.ray]


def wait_until(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_place_whose_node_is_gone_is_missing_until_another_node_comes(monkeypatch):
    for name, value in NOTICED_SOON.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = tiny_config("rollout.num_workers=2")
    # A CPU each: the two engines and the learner take all three nodes.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        with placed(config, lambda text: None) as placement:
            here, node_ids = ray.get_runtime_context().get_node_id(), nodes_of(placement.rollout)
            index = next(index for index, node_id in enumerate(node_ids) if node_id != here)
            [lost] = [node for node in nodes if node.node_id == node_ids[index]]
            assert missing_places(placement.rollout, "rollout workers") is None
            cluster.remove_node(lost, allow_graceful=False)
            wait_until(lambda: missing_places(placement.rollout, f"rollout worker {index}", index))
            assert missing_places(placement.rollout, f"rollout worker {index}", index) == (
                f"a node is gone, and no other has a place for rollout worker {index}; free: 0 CPU, this run wants 1 "
                f"(rollout worker {index} 1)"
            )
            assert missing_places(placement.learner, "learner ranks") is None
            with pytest.raises(RunError, match="rollout workers, phase placement, waited 1 s: a node is gone"):
                wait_for_places(placement.rollout, "rollout workers", 1.0)
            cluster.add_node(num_cpus=1)
            wait_for_places(placement.rollout, "rollout workers", 60.0)
            # Of nodes that have no CPU left the rewards take the driver's own.
            assert node_for_rewards(placement.rollout.group) == here
            roomy = cluster.add_node(num_cpus=2)
            wait_until(lambda: node_for_rewards(placement.rollout.group) == roomy.node_id)
    finally:
        ray.shutdown()
        cluster.shutdown()
