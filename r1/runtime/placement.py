"""Where the workers of a run go: one Ray placement group, planned first, reserved as a whole, removed at the end.

A bundle is what must be on one node: an engine with all its GPUs, a learner rank, or, where they share devices, an engine with
the ranks on its GPUs. Ray packs the bundles onto as few nodes as it can, and reserves all of them or none.

Colocated actors ask for no GPU of their own. Ray gives an actor a part of one GPU, never parts of several, and two halves of a
bundle of two GPUs may be the same GPU: so each bundle holds whole GPUs, is asked once which ones they are, and its actors are
told theirs. A replaced worker then finds itself on the same devices, whatever its neighbours do.
"""

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray._private.state import available_resources_per_node  # ray.util.tpu's own way; nothing public names the nodes
from ray.exceptions import GetTimeoutError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from r1.config import RunConfig
from r1.doctor.result import Result, ok, red, warning
from r1.errors import RunError, UserError
from r1.runtime.cluster import Resources

TICK_S = 1.0
"""How often Ctrl-C is looked for while the cluster is waited for."""
SAY_EVERY_S = 30.0

KINDS = ("GPU", "CPU")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """What must be on one node.

    >>> Bundle(holds="rollout worker", wants={"CPU": 1, "GPU": 2}).fits({"CPU": 8.0, "GPU": 5.0})
    2
    """

    holds: str
    """Who is in it, for people."""
    wants: Mapping[str, float]
    """Ray's resources, e.g. {"CPU": 1, "GPU": 2}."""

    def fits(self, node: Mapping[str, float]) -> int:
        """How many such bundles a node has room for."""
        return min(math.floor(node.get(kind, 0.0) / amount) for kind, amount in self.wants.items())

    def __str__(self) -> str:
        return " and ".join(f"{amount:g} {kind}" for kind, amount in sorted(self.wants.items(), reverse=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Which worker goes where."""

    bundles: Sequence[Bundle]
    rollout: Resources
    learner: Resources
    gpus_per_engine: int = 0
    """Where engine and ranks share them: to be found out by asking the bundle."""

    def wanted(self, kind: str) -> Counter[str]:
        """Who wants how much of a resource, in all."""
        wanted: Counter[str] = Counter()
        for bundle in self.bundles:
            wanted[bundle.holds] += bundle.wants.get(kind, 0)  # type: ignore[assignment]  # CPUs may be fractions
        return wanted


def plan_placement(config: RunConfig, num_gpus: float, *, has_learner: bool = True) -> Placement:
    """Which bundles the run needs on a cluster with so many GPUs; without any it runs on CPUs.

    has_learner: False where nothing is learnt; the engines then share their devices with nobody.
    """
    rollout, num_ranks = config.rollout, config.learner.num_ranks if has_learner else 0
    num_workers, tensor_parallel_size = rollout.num_workers, rollout.tensor_parallel_size
    colocated = has_learner and (rollout.placement == "colocated" or (rollout.placement is None and num_gpus == 1))
    if colocated and rollout.max_staleness:
        why = "" if rollout.placement else ", the default on a cluster with one GPU"
        raise UserError(
            f"rollout.max_staleness must be 0 with rollout.placement=colocated{why}: engines and learner take turns on the same "
            f"devices, got {rollout.max_staleness}; set it to 0, or rollout.placement=disaggregated"
        )
    workers, ranks = range(num_workers), range(num_ranks)
    if colocated and num_gpus:
        if num_ranks != num_workers * tensor_parallel_size:
            raise UserError(
                "rollout.placement=colocated needs one learner rank on each GPU of the engines: learner.num_ranks must be "
                f"rollout.num_workers x rollout.tensor_parallel_size = {num_workers * tensor_parallel_size}, got {num_ranks}"
            )
        wants = {"CPU": 1 + tensor_parallel_size, "GPU": tensor_parallel_size}
        return Placement(
            bundles=[Bundle(holds="rollout workers with their learner ranks", wants=wants)] * num_workers,
            rollout=Resources(num_cpus=1, count=num_workers, bundles=tuple(workers), colocated=True),
            learner=Resources(
                num_cpus=1,
                count=num_ranks,
                bundles=tuple(rank // tensor_parallel_size for rank in ranks),
                colocated=True,
            ),
            gpus_per_engine=tensor_parallel_size,
        )
    # On CPUs the same bundles serve both placements: nothing is shared, and taking turns is the pool's affair.
    engine = {"CPU": 1, "GPU": tensor_parallel_size} if num_gpus else {"CPU": tensor_parallel_size}
    rank_wants = {"CPU": 1, "GPU": 1} if num_gpus else {"CPU": 1}
    return Placement(
        bundles=[Bundle(holds="rollout workers", wants=engine)] * num_workers
        + [Bundle(holds="learner ranks", wants=rank_wants)] * num_ranks,
        rollout=Resources(
            num_cpus=engine["CPU"],
            num_gpus=engine.get("GPU", 0),
            count=num_workers,
            bundles=tuple(workers),
            colocated=colocated,
        ),
        learner=Resources(
            num_cpus=1,
            num_gpus=rank_wants.get("GPU", 0),
            count=num_ranks,
            bundles=tuple(num_workers + rank for rank in ranks),
            colocated=colocated,
        ),
    )


def shortage(placement: Placement, nodes: Sequence[Mapping[str, float]]) -> str | None:
    """Why the bundles do not fit these nodes, in words, or None. A puzzle of bundles that each fit somewhere is left to Ray.

    nodes: what each one has, in all or free.
    """
    for kind in KINDS:
        has, wanted = sum(node.get(kind, 0.0) for node in nodes), placement.wanted(kind)
        if wanted.total() > has:
            who = ", ".join(f"{name} {amount:g}" for name, amount in wanted.items())
            return f"{has:g} {kind}, this run wants {wanted.total():g} ({who})"
    for text, count in Counter(map(str, placement.bundles)).items():
        bundle = next(one for one in placement.bundles if str(one) == text)
        num_fitting = sum(bundle.fits(node) for node in nodes)
        if num_fitting < count:
            kind = "GPU" if "GPU" in bundle.wants else "CPU"
            on_each = ", ".join(f"{node.get(kind, 0.0):g}" for node in nodes)
            room = f"there is room for {num_fitting}" if num_fitting else "none has that"
            return f"{on_each} {kind} on its nodes, this run wants {count} x {text} on one node ({bundle.holds}): {room}"
    return None


@contextmanager
def placed(config: RunConfig, say: Callable[[str], None], *, has_learner: bool = True) -> Iterator[Placement]:
    """Reserve what the run needs, and give it back.

    Raises `UserError` at once for what this cluster never has, and after `deadline_s` for what others do not give back.
    say: gets a line on what is reserved, and on what is waited for. has_learner: as for `plan_placement`.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    placement = plan_placement(config, sum(node.get("GPU", 0.0) for node in nodes), has_learner=has_learner)
    missing = shortage(placement, nodes)
    if missing:
        raise UserError(f"the Ray cluster has {missing}; {_remedy(placement)}")
    beside = f"; rollout and learner {'take turns' if placement.rollout.colocated else 'have devices of their own'}"
    say(f"Ray: {_takes(placement, nodes)}{beside if has_learner else ''}")
    group = placement_group([dict(bundle.wants) for bundle in placement.bundles], strategy="PACK")
    try:
        _wait_for(group, placement, config.deadline_s, say)
        yield _inside(group, placement, config.deadline_s)
    finally:
        remove_placement_group(group)


def cpus_of(config: RunConfig) -> int:
    """One for each process of an engine and each learner rank."""
    return config.rollout.num_workers * config.rollout.tensor_parallel_size + config.learner.num_ranks


def describe_room(config: RunConfig) -> Result:
    """For `r1 doctor`: whether the cluster has what the run wants, without reserving it."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return _room(config, "the Ray cluster", nodes, list(available_resources_per_node().values()))


def describe_room_here(config: RunConfig, num_cpus: float, num_gpus: float) -> Result:
    """The same for a Ray that the run starts on this machine, which never has too few CPUs (`connected`)."""
    nodes = [{"CPU": max(num_cpus, cpus_of(config)), "GPU": num_gpus}]
    return _room(config, "Ray on this machine", nodes, nodes)


def _room(
    config: RunConfig, whose: str, nodes: Sequence[Mapping[str, float]], free: Sequence[Mapping[str, float]]
) -> Result:
    try:
        placement = plan_placement(config, sum(node.get("GPU", 0.0) for node in nodes))
    except UserError as error:
        return red("resources", str(error))
    missing, takes = shortage(placement, nodes), _takes(placement, nodes)
    if missing:
        return red("resources", f"{whose} has {missing}; {_remedy(placement)}")
    busy = shortage(placement, free)
    if busy:
        return warning("resources", f"{takes}, and others use it now (free: {busy}): a run waits for deadline_s")
    return ok("resources", f"this run takes {takes}")


def _takes(placement: Placement, nodes: Sequence[Mapping[str, float]]) -> str:
    """ "3 of 8 GPU, 3 of 64 CPU" """
    wanted = {kind: placement.wanted(kind).total() for kind in KINDS}
    has = {kind: sum(node.get(kind, 0.0) for node in nodes) for kind in KINDS}
    return ", ".join(f"{wanted[kind]:g} of {has[kind]:g} {kind}" for kind in KINDS if wanted[kind])


def _wait_for(group: Any, placement: Placement, deadline_s: float, say: Callable[[str], None]) -> None:
    start, said = time.monotonic(), 0.0
    while not group.wait(TICK_S):
        waited_s = time.monotonic() - start
        free = shortage(placement, list(available_resources_per_node().values())) or "room, but not for all bundles at once"
        if waited_s > deadline_s:
            raise UserError(
                f"the Ray cluster is busy: nothing was free for {waited_s:.0f} s; free: {free}; "
                "wait for the other jobs (ray status), start Ray with more, or raise deadline_s"
            )
        if said == 0.0 or waited_s - said > SAY_EVERY_S:
            said = waited_s
            say(f"waiting since {waited_s:.0f} s for the Ray cluster, at most {deadline_s:.0f} s; free: {free}")


def _inside(group: Any, placement: Placement, deadline_s: float) -> Placement:
    """The same placement within a group, with the devices of those that share them."""
    rollout, learner = replace(placement.rollout, group=group), replace(placement.learner, group=group)
    num_gpus = placement.gpus_per_engine
    if num_gpus:
        devices = _devices_of(group, len(placement.bundles), num_gpus, deadline_s)
        rollout = replace(rollout, devices=tuple(",".join(devices[bundle]) for bundle in rollout.bundles))
        learner = replace(
            learner, devices=tuple(devices[bundle][rank % num_gpus] for rank, bundle in enumerate(learner.bundles))
        )
    return replace(placement, rollout=rollout, learner=learner)


def _devices_of(group: Any, num_bundles: int, num_gpus: int, deadline_s: float) -> list[list[str]]:
    """The GPUs of each bundle, by the names that Ray would give them in CUDA_VISIBLE_DEVICES."""
    ask = ray.remote(num_cpus=0, num_gpus=num_gpus)(_visible_devices)
    answers = [
        ask.options(
            scheduling_strategy=PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=bundle)
        ).remote()
        for bundle in range(num_bundles)
    ]
    try:
        return [answer.split(",") for answer in ray.get(answers, timeout=deadline_s)]
    except GetTimeoutError as error:
        raise RunError(f"phase placement: no node told its GPUs within {deadline_s:.0f} s") from error


def _visible_devices() -> str:
    return os.environ["CUDA_VISIBLE_DEVICES"]


def _remedy(placement: Placement) -> str:
    if not placement.learner.count:
        return "start Ray with more, or lower rollout.num_workers or rollout.tensor_parallel_size"
    remedy = "start Ray with more, or lower rollout.num_workers, rollout.tensor_parallel_size or learner.num_ranks"
    num_gpus = placement.wanted("GPU").total()
    return f"{remedy}; rollout.placement=colocated shares the GPUs" if num_gpus and not placement.rollout.colocated else remedy
