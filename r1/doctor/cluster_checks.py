"""Checks of machines together: pure functions of the facts of all nodes, by the node's name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1.doctor.needs import Needs
from r1.doctor.result import Result, ok, red, warning
from r1.sizes import size

Nodes = Mapping[str, Mapping[str, Any]]

MAX_SKEW_S = 2.0


def check_same_versions(nodes: Nodes) -> Result:
    """Values travel between processes as pickles, and weights by the engines' own protocol: all nodes need the same."""
    versions = {node: {"python": facts["python"], **facts["packages"]} for node, facts in nodes.items()}
    first, *others = versions
    for other in others:
        for name, here in versions[first].items():
            there = versions[other].get(name)
            if here != there:
                text = f"{name} is {here or 'missing'} on {first} and {there or 'missing'} on {other}"
                return red("same versions", f"{text}: install the same lock on all nodes (requirements/)")
    return ok("same versions", f"on all {len(nodes)} nodes")


def check_same_code(nodes: Nodes) -> Result:
    """The lesson behind it: a stale copy that was installed on one node is imported there in place of the upload."""
    with_code = {node: facts for node, facts in nodes.items() if facts["code"]}  # one without is red by itself
    first, *others = with_code or {"": {}}
    for other in others:
        if with_code[other]["code"] != with_code[first]["code"]:
            there, here = (f"{facts['code']} in {facts['origins']['r1'][0]}" for facts in (with_code[other], with_code[first]))
            return red("same code", f"r1 is {here} on {first} and {there} on {other}: pip uninstall r1 there, or update it")
    kinds = {node: _kind(facts["origins"]["r1"][0]) for node, facts in with_code.items()}
    for other in others:
        if kinds[other] != kinds[first]:
            text = f"r1 is {kinds[first]} on {first} and {kinds[other]} on {other}"
            return red("same code", f"{text}: bring it to all nodes in one way")
    return ok("same code", f"on all {len(nodes)} nodes")


def _kind(folder: str) -> str:
    """How the code got to a node: two ways of it hold the same code by accident only.

    >>> _kind("/tmp/ray/session_1/runtime_resources/working_dir_files/_ray_pkg_1f"), _kind("/home/me/r1")
    ('an upload', 'a checkout')
    """
    parts = Path(folder).parts
    return "an upload" if "working_dir_files" in parts else "installed" if "site-packages" in parts else "a checkout"


def check_same_model(nodes: Nodes) -> Result | None:
    """Engines and learner each read model.path on their own node."""
    found = {node: facts["model"]["files"] for node, facts in nodes.items() if facts["model"] and facts["model"]["files"]}
    if not found:
        return None
    first, *others = found
    for other in others:
        if found[other] != found[first]:
            return red("same model", f"model.path has other files on {other} than on {first}: copy it again, or share the folder")
    return ok("same model", f"the same files on all {len(found)} nodes")


def check_run_dir(nodes: Nodes, token: str, writer: str) -> Result:
    """token: what `writer` has written there for the others to find. Learner ranks write their checkpoints wherever they run."""
    blind = [node for node, facts in nodes.items() if facts["token"] != token]
    if blind:
        return red(
            "run_dir",
            f"{blind[0]} does not see what {writer} wrote into run_dir: give a folder that all nodes share, or a storage's URL",
        )
    locked = [node for node, facts in nodes.items() if not facts["disk"]["writable"]]
    if locked:
        return red("run_dir", f"{locked[0]} may not write into run_dir: change its rights, or choose another folder")
    return ok("run_dir", "every node sees what is written there")


def check_data(driver: Mapping[str, Any], nodes: Nodes) -> Result | None:
    """The driver alone reads problems; a submitted job's driver runs on a node."""
    if not driver["files"] and not driver["data_sets"]:
        return None
    missing = [path for path, can_read in driver["files"].items() if not can_read]
    if missing:
        return red("data", f"task.path: {missing[0]} cannot be read here: give a file's absolute path, or a hub name")
    for name, found in driver["data_sets"].items():
        if found["hub"] and not found["is_cached"]:
            return red("data", f"task.path: {name} is not in the cache, and the hub {found['hub']}: connect, or give a file")
    for node, facts in nodes.items():
        missing = [path for path, can_read in facts["files"].items() if not can_read]
        if missing:
            return warning("data", f"{missing[0]} cannot be read on {node}: the driver needs it, and must not start there")
    for name, found in driver["data_sets"].items():
        if found["hub"]:
            return warning("data", f"the hub {found['hub']}: of {name} there is what the cache has; streamed ones are not kept")
    said = [f"{len(driver['files'])} file(s) can be read{' on all nodes' if nodes else ''}"] if driver["files"] else []
    said += [f"the hub, which is to have {', '.join(driver['data_sets'])}, answers"] if driver["data_sets"] else []
    return ok("data", "; ".join(said))


def check_clocks(skews: Mapping[str, tuple[float, float]]) -> Result:
    """skews: node -> (seconds that it is ahead of the driver, half of the round trip: how far off that may be)."""
    worst = max(skews, key=lambda node: abs(skews[node][0]))
    ahead_s, doubt_s = skews[worst]
    found = f"{worst} is {abs(ahead_s):.3f} s {'ahead' if ahead_s > 0 else 'behind'} (± {doubt_s:.3f})"
    if abs(ahead_s) - doubt_s > MAX_SKEW_S:
        return red(
            "clocks",
            f"{found}, at most {MAX_SKEW_S:g} s: certificates and storages refuse what comes from another time, and nobody can "
            "put the nodes' logs in order; switch on NTP (chrony, systemd-timesyncd)",
        )
    return ok("clocks", found)


def check_memory_of_all(nodes: Nodes, needs: Needs | None) -> Result | None:
    """Of a run on CPUs: all its processes on all nodes, and the largest of them on one."""
    # Nodes on one machine (a test's cluster) share its memory.
    free = {facts["host"]: facts["memory_free"] for facts in nodes.values() if facts["memory_free"] is not None}
    if needs is None or not free or any(facts["gpus"] for facts in nodes.values()):
        return None
    found = f"{size(sum(free.values()))} free on {len(free)} machine(s), at most {size(max(free.values()))} on one"
    largest = max(needs.engine, needs.rank)
    wants = f"this run wants about {size(needs.memory)}, {size(largest)} of it in one process"
    if sum(free.values()) < needs.memory or max(free.values()) < largest:
        return red("memory", f"{found}, {wants}: fewer rollout.num_workers or learner.num_ranks, or more nodes")
    return ok("memory", f"{found}, {wants}")


def check_answers(silent: Mapping[str, str]) -> Result:
    """silent: node -> why it has not answered."""
    if silent:
        node, why = next(iter(silent.items()))
        return red("nodes", f"{node} {why}: no worker can start there; see ray status, and the log of its raylet")
    return ok("nodes", "all answer")
