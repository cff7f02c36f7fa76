"""The learner's checkpoints of a run at a URL: ranks that share the driver's folder write into it, others send their part.

With all ranks on the driver's node a checkpoint is there when it is on the disk, and the driver sends it (r1/run_mirror.py).
Otherwise it is there when every node has sent its part: only then can all nodes go on from it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray

from r1.node_scratch import NodeScratch
from r1.run_place import PARTS_AT_URL, writer_of
from r1.runtime.calls import Worker, call
from r1.storage import Storage

INDEX = "learner/.metadata"


class HasScratch:
    """What a learner rank knows of its own node's files, when the run is at a URL."""

    scratch: NodeScratch | None = None

    def open_scratch(self, url: str, writer: str) -> tuple[bool, str]:
        """From now on folders are relative to this node's scratch folder; whether it is the driver's, and the node's id."""
        self.scratch = NodeScratch(url, writer)
        return self.scratch.is_drivers, ray.get_runtime_context().get_node_id()

    def of_scratch(self, method: str, *arguments: Any) -> Any:
        """Call a method of this node's `NodeScratch`."""
        return getattr(self.scratch, method)(*arguments)


class LearnerNodes:
    """Which rank of each node fetches and sends files, and whether they need to be sent at all."""

    def __init__(
        self,
        workers: Sequence[Worker],
        storage: Storage,
        run_dir: Path,
        deadline_s: float,
        send_checkpoint: Callable[[Path], None] = lambda checkpoint: None,
    ) -> None:
        """send_checkpoint: has one that is whole on the driver's node sent, and waits for it."""
        self._send_checkpoint = send_checkpoint
        self._run_dir, self._deadline_s = run_dir, deadline_s
        places = call(workers, "open_scratch", storage.url, writer_of(run_dir), phase="start", deadline_s=deadline_s)
        self.share_folder = all(is_drivers for is_drivers, _ in places)
        """Whether all ranks write into the driver's folder."""
        first_of_node: dict[str, Worker] = {}
        for worker, (_, node) in zip(workers, places, strict=True):
            first_of_node.setdefault(node, worker)
        self._senders = list(first_of_node.values())[: 1 if self.share_folder else None]
        self._workers = workers
        self._sent_from: Path | None = None

    def fetch(self, checkpoint: Path) -> None:
        """Have every node hold the checkpoint's learner/."""
        at_url = checkpoint / PARTS_AT_URL
        if self.share_folder and not at_url.exists():  # it has never left this node
            return
        if not at_url.exists():  # written when all ranks were on the driver's node, which may have been killed before it was sent
            self._send_checkpoint(checkpoint)
        self._call("fetch", self._name(checkpoint), phase="restore")
        if self.share_folder:
            at_url.unlink()

    def drop(self, checkpoint: Path) -> None:
        """It is loaded: other nodes than the driver's need it no more."""
        if not self.share_folder:
            self._call("drop", self._name(checkpoint), phase="restore")

    def problem_of_sending(self, partial: Path, limit_s: float) -> str | None:
        """Send what the ranks have written into `partial`; None when it is there, else what is in the way."""
        if self.share_folder:
            return None
        name = self._name(partial)
        about = f"sending {name}"
        if self._sent_from != partial:
            self._take_index(partial)
            final = str(Path(name).with_name(partial.name.removeprefix(".partial-")))
            self._call("start_send", name, final, phase="checkpoint", about=about)
            self._sent_from = partial
        problems = self._call("finish_send", limit_s, phase="checkpoint", about=about, deadline_s=limit_s + self._deadline_s)
        first = next((problem for problem in problems if problem is not None), None)
        if first is None:
            (partial / PARTS_AT_URL).touch()
        return first

    def _take_index(self, partial: Path) -> None:
        """What makes a checkpoint of a folder without the tensors of other nodes: their index, which the first rank has."""
        index = partial / INDEX
        if not index.is_file():
            arguments = ("read", f"{self._name(partial)}/{INDEX}")
            [content] = call(self._workers[:1], "of_scratch", *arguments, phase="checkpoint", deadline_s=self._deadline_s)
            index.parent.mkdir(exist_ok=True)
            index.write_bytes(content)

    def _name(self, folder: Path) -> str:
        return folder.relative_to(self._run_dir).as_posix()

    def _call(self, method: str, *arguments: Any, phase: str, about: str = "", deadline_s: float | None = None) -> list[Any]:
        deadline_s = self._deadline_s if deadline_s is None else deadline_s
        return call(self._senders, "of_scratch", method, *arguments, phase=phase, about=about, deadline_s=deadline_s)
