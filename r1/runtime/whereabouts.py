"""Where the processes of a run are: each says so once it is up; people read it in the log and in summary.json."""

import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray

import r1
from r1.weight_transport import Place


@dataclass(frozen=True, kw_only=True, slots=True)
class Whereabouts:
    """Where an actor's process is; all empty until it has said so.

    >>> Whereabouts(pid=4711, node_id="5bd8c9f2a1", address="10.0.0.7").node
    '5bd8c9f2 (10.0.0.7)'
    """

    pid: int | None = None
    """Of its process; of that node."""
    node_id: str = ""
    """Ray's. Not the machine's name, which containers share that share nothing else."""
    address: str = ""
    """Of the node."""
    code: str = ""
    """The folder there that r1 was imported from."""
    devices: tuple[str, ...] = ()
    """Its GPUs, see `Place`."""

    @property
    def place(self) -> Place:
        return Place(node_id=self.node_id, devices=self.devices)

    @property
    def node(self) -> str:
        """For people."""
        return f"{self.node_id[:8]} ({self.address})"


NOWHERE = Whereabouts()


def whereabouts(devices: tuple[str, ...] = ()) -> Whereabouts:
    """Of this process."""
    code = str(Path(r1.__file__).parents[1])
    if not ray.is_initialized():  # asking would start a cluster
        return Whereabouts(pid=os.getpid(), code=code, devices=devices)
    node_id = ray.get_runtime_context().get_node_id()
    return Whereabouts(pid=os.getpid(), node_id=node_id, address=ray.util.get_node_ip_address(), code=code, devices=devices)


class Roster:
    """Which worker is where: told when there are several nodes and whenever that changes, and kept for the summary."""

    def __init__(self, workers: Callable[[], Iterable[tuple[str, Whereabouts]]], say: Callable[[str], None]) -> None:
        """workers: (name, whereabouts) of each worker as it is now."""
        self._workers, self._say = workers, say
        self._known: dict[str, Whereabouts] = {}

    def look(self) -> None:
        """Note where they are now; one that is just starting is where it was."""
        known, self._known = self._known, self._known | {name: at for name, at in self._workers() if at.node_id}
        if len({at.node_id for at in self._known.values()}) > 1:
            for name, at in self._known.items():
                if name not in known or known[name].node_id != at.node_id:
                    self._say(f"{name} is on node {at.node}")

    def record(self) -> dict[str, Any]:
        """Worker -> where it was seen last."""
        return {name: asdict(at) for name, at in self._known.items()}
