"""A Ray cluster of several nodes on this machine, whose nodes know nothing of this checkout and can be killed one by one.

Each node is a `ray start --block` with an address of its own (127.0.0.x is this machine on Linux), so that Ray takes them for
different machines. Their Python has the locked packages, and cannot import what this checkout holds.
"""

import contextlib
import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from urllib.request import Request, urlopen

import psutil

START_S = 300.0
"""How long a node may take to come up; it takes 10 s on an idle machine of two cores."""
STORE_BYTES = 80_000_000
"""Of each node's object store; 75 MiB is the least that Ray takes."""
NOTICED_SOON = {
    # A node that is gone is declared dead after some 3 s, and not after 15 or more. One that is only slow has 10 s to answer.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "10000",
    "RAY_health_check_failure_threshold": "3",
}


class RayNodes:
    """The cluster. Use it with `closing`: nothing is left of it."""

    def __init__(self) -> None:
        # Not pytest's tmp_path: Ray puts sockets there, whose paths may have 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="r1n"))
        # PYTHONPATH does not follow the .pth file by which the checkout is installed for editing, as site-packages does.
        self.python = self.folder / "python/bin/python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.folder / "python"], check=True)
        self.token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        """For whoever asks this cluster for something."""
        left_out = ("RAY_", "PYTHON", "VIRTUAL_ENV")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(left_out)},
            "PYTHONPATH": sysconfig.get_path("purelib"),
            **self.token,
            **NOTICED_SOON,
        }
        self._nodes: dict[str, subprocess.Popen] = {}
        """Address -> its `ray start`."""
        self._logs: dict[str, Path] = {}
        """Address -> what it said; of nodes that were killed as well."""
        port, dashboard_port = free_port(), free_port()
        self._gcs = f"127.0.0.2:{port}"
        self.job_server = f"http://127.0.0.1:{dashboard_port}"
        # No CPU on the head: it has enough to do in a real cluster, and of a run only the driver must be there.
        ports = [f"--port={port}", f"--dashboard-port={dashboard_port}", f"--ray-client-server-port={free_port()}"]
        try:
            self.head = self._start(0, ["--head", *ports])
        except BaseException:
            self.close()
            raise

    def add_node(self, num_cpus: int = 1) -> str:
        """Start a node and return its address once it is there."""
        return self._start(num_cpus, [f"--address={self._gcs}"])

    def kill_node(self, address: str) -> None:
        """SIGKILL the node with everything on it, at once, as when a machine goes down."""
        node = self._nodes.pop(address)
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended by itself
            kill_tree(psutil.Process(node.pid))
        node.wait()

    def alive(self) -> set[str]:
        """The addresses of the nodes that Ray takes for living."""
        return {node["node_ip"] for node in self.state("nodes") if node["state"] == "ALIVE"}

    def actors(self) -> dict[str, str]:
        """Class of each living actor -> address of its node."""
        nodes, actors = [], []
        while not (nodes and actors):  # each time that is not answered takes 30 s, or pytest's own limit ends it
            nodes, actors = self.state("nodes"), self.state("actors")
        address = {node["node_id"]: node["node_ip"] for node in nodes}
        return {actor["class_name"]: address[actor["node_id"]] for actor in actors if actor["state"] == "ALIVE"}

    def state(self, kind: str) -> list[dict]:
        """What Ray says of its nodes, actors, placement_groups ...; nothing while the job server does not answer."""
        headers = {"Authorization": f"Bearer {self.token['RAY_AUTH_TOKEN']}"}
        request = Request(f"{self.job_server}/api/v0/{kind}?limit=1000", headers=headers)
        try:
            with urlopen(request, timeout=30) as answer:
                return json.load(answer)["data"]["result"]["result"]
        except OSError:  # it is just starting, or busy
            return []

    def run_python(self, code: str) -> subprocess.CompletedProcess:
        """Run code as a node would, outside any job."""
        command = [self.python, "-c", code]
        return subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=START_S)

    def close(self) -> None:
        """End all nodes and remove their files."""
        for address in list(self._nodes):
            self.kill_node(address)
        shutil.rmtree(self.folder)

    def _start(self, num_cpus: int, arguments: list[str]) -> str:
        address = f"127.0.0.{len(self._logs) + 2}"
        self._logs[address] = self.folder / f"{address}.log"
        arguments = [
            *arguments,
            f"--node-ip-address={address}",
            # Nodes that share one unpack the upload into the same folder, and clear it away for each other.
            f"--temp-dir={self.folder / str(len(self._logs))}",
            f"--num-cpus={num_cpus}",
            f"--object-store-memory={STORE_BYTES}",
            f"--dashboard-agent-listen-port={free_port()}",
        ]
        with self._logs[address].open("w") as log:
            self._nodes[address] = subprocess.Popen(
                [self.python, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats", *arguments],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_S
        while address not in self.alive():
            said = self._logs[address].read_text()
            assert self._nodes[address].poll() is None, f"ray start ended: {said}"
            assert time.monotonic() < deadline, f"no node after {START_S:.0f} s: {said}"
            time.sleep(0.5)
        return address


def free_port() -> int:
    """A port that nobody has, and that the kernel gives to nobody who asks for just any (from 32768 up), as Ray itself does."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):  # it is taken
            probe.bind(("", port))
            return port


def kill_tree(top: psutil.Process) -> None:
    """SIGKILL a process and everything below it."""
    # The children are listed while their parents live: an orphan is nobody's child.
    processes = [top, *top.children(recursive=True)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive
