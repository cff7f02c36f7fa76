"""`r1 doctor`, put together: facts of this machine and of the nodes, judged."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from r1.config import RunConfig
from r1.doctor.checks import CHECKS, check_memory
from r1.doctor.cluster_checks import check_clocks, check_data, check_memory_of_all
from r1.doctor.facts import gather
from r1.doctor.needs import Needs, needs_of, request_for
from r1.doctor.result import Result, ok, red
from r1.errors import UserError
from r1.storage import Storage, is_url, open_storage


@dataclass(kw_only=True, slots=True)
class Diagnosis:
    """What the doctor says."""

    results: list[Result] = field(default_factory=list)
    facts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """By machine: "here", and the cluster's nodes by name."""

    @property
    def is_well(self) -> bool:
        """Nothing is red."""
        return all(result.verdict != "red" for result in self.results)


def diagnose(config: RunConfig | None, address: str | None) -> Diagnosis:
    """Check this machine, and with an address every node of that cluster; with a configuration also what its run needs."""
    found = Diagnosis()
    here = gather(request_for(config))
    needs, problem = _needs(config)  # later: it keeps this process off a hub that does not answer
    found.facts["here"] = here
    nodes: Mapping[str, Mapping[str, Any]] = {}
    if address:
        nodes = _cluster(config, address, needs, found)
    else:
        found.results.append(ok("Ray", "no address given: a run starts Ray on this machine, with what it needs, on loopback"))
        found.results += _room_here(config, here)
        found.results += _of_machine(here, needs)
    if config is not None:
        if problem and not any(result.check == "model" and result.verdict == "red" for result in found.results):
            found.results.append(red("model", problem))
        data = check_data(here, nodes)
        found.results += [data] if data else []
        found.results += _run_dir(config)
    return found


def _needs(config: RunConfig | None) -> tuple[Needs | None, str | None]:
    """What the run needs, or why that cannot be told."""
    try:
        return needs_of(config) if config else None, None
    except UserError as error:
        return None, str(error)


def _of_machine(facts: Mapping[str, Any], needs: Needs | None) -> Iterator[Result]:
    for check in CHECKS:
        result = check(facts, needs)
        if result:
            yield result


def _room_here(config: RunConfig | None, here: Mapping[str, Any]) -> Iterator[Result]:
    if config and here["packages"].get("ray"):  # that it is missing is said of the packages
        from r1.runtime.placement import describe_room_here

        yield describe_room_here(config, here["cpus"], len(here["gpus"]))


def _storage(config: RunConfig | None) -> Storage | None:
    """None also for a URL that is none, or lacks its package: `_run_dir` says so."""
    with contextlib.suppress(UserError):
        return open_storage(str(config.run_dir)) if config and is_url(config.run_dir) else None
    return None


def _run_dir(config: RunConfig) -> Iterator[Result]:
    """Whether the folder could be made now, or the storage takes files."""
    from r1.run_place import folder_of_new, storage_of

    try:
        storage = storage_of(config, None)
        folder = folder_of_new(config, storage)
        yield ok("run_dir", f"{config.run_dir} can be written to" if storage else f"{folder} can be made")
    except UserError as error:
        yield red("run_dir", str(error))


def _cluster(
    config: RunConfig | None, address: str, needs: Needs | None, found: Diagnosis
) -> Mapping[str, Mapping[str, Any]]:
    """Join, ask all nodes, and judge them one by one and together."""
    from r1.runtime.cluster import connected
    from r1.runtime.node_checks import decisive, left_object, left_token
    from r1.runtime.node_probe import ask_nodes
    from r1.runtime.placement import describe_room

    os.environ["RAY_ADDRESS"] = address
    try:
        with connected():
            run_dir = Path(config.run_dir or "runs") if config and not is_url(config.run_dir) else None
            with left_token(run_dir) as token, left_object(_storage(config)) as left:
                answers = ask_nodes({**request_for(config), "token": token and str(token), "storage": left})
                together = list(decisive(answers, token))
            room = [describe_room(config)] if config else []
    except UserError as error:
        found.results.append(red("Ray", str(error)))
        found.results += _of_machine(found.facts["here"], needs)
        return {}
    found.results.append(ok("Ray", f"{address} answers: {len(answers.facts) + len(answers.silent)} node(s)"))
    found.results += room
    found.facts |= answers.facts
    for node, facts in answers.facts.items():
        results = (check(facts, needs) for check in CHECKS if check is not check_memory or needs is None)
        found.results += [replace(result, node=node) for result in results if result]
    found.results += [result for result in together if not result.node]
    memory = check_memory_of_all(answers.facts, needs)
    found.results += [memory] if memory else []
    found.results += [check_clocks(answers.skews)] if answers.skews else []
    return answers.facts
