"""How nodes are asked, without a cluster; tests/test_launch_refusals.py asks two real ones."""

import json
import subprocess
import sys
import time

import pytest
import ray
from ray import cloudpickle

from r1.doctor import facts
from r1.runtime import node_probe


def test_what_is_sent_needs_nothing_of_ours_there(tmp_path):
    with node_probe._by_value():
        (tmp_path / "probe").write_bytes(cloudpickle.dumps(facts.Probe))
    code = """
import json, os, sys
sys.path[:] = [folder for folder in sys.path if not os.path.isdir(os.path.join(folder, "rewards"))]
for name in ("r1", "rewards", "tasks", "launch"):
    sys.modules[name] = None  # as where it is not installed: importing it fails
from ray import cloudpickle
probe = cloudpickle.loads(open("probe", "rb").read())()
print(json.dumps(probe.facts({"packages": ["ray"], "model": "org/name"})))
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = json.loads(result.stdout)
    assert found["packages"]["ray"] == ray.__version__
    assert found["origins"] == {"r1": [], "rewards": [], "tasks": [], "launch": []}
    assert found["code"] is None
    assert found["model"]["kind"] == "hub"


def test_nodes_are_called_by_their_host_and_by_more_where_that_is_not_enough():
    def node(host, node_id, alive=True):
        return {"Alive": alive, "NodeManagerHostname": host, "NodeID": node_id}

    nodes = [node("a", "1111111"), node("b", "2222222"), node("b", "3333333"), node("a", "4444444", alive=False)]
    assert node_probe._names(nodes) == {"a": "1111111", "b (222222)": "2222222", "b (333333)": "3333333"}


class Clock:
    """A node's: `ahead_s` before ours, with an answer after `there_s`, which takes `back_s` to come back."""

    def __init__(self, ahead_s, *travels):
        self.now, self.ahead_s, self.travels = 1000.0, ahead_s, list(travels)
        self.clock = self

    def remote(self):
        there_s, back_s = self.travels.pop(0)
        self.now += there_s
        answer = self.now + self.ahead_s
        self.now += back_s
        return answer


def test_the_skew_is_taken_from_the_shortest_round_trip(monkeypatch):
    # Of 0.1 s there and 0.1 back the middle is exact; of 1 s there and none back the answer is half a second off.
    probe = Clock(3.0, (1.0, 0.0), (0.1, 0.1), *[(0.0, 1.0)] * 3)
    monkeypatch.setattr(time, "time", lambda: probe.now)
    monkeypatch.setattr(ray, "get", lambda reference, timeout: reference)
    ahead_s, doubt_s = node_probe._skew(probe, 1.0)
    assert ahead_s == pytest.approx(3.0)
    assert doubt_s == pytest.approx(0.1)
