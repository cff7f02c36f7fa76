"""A Ray of one's own that nobody outside this machine can reach. docs/security.md says what that is worth."""

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray._private.ray_constants as ray_constants
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]


@contextmanager
def on_loopback() -> Iterator[None]:
    """Have the Ray that is started inside listen on 127.0.0.1 alone, with a token of its own, until the end of the block.

    By itself Ray 2.60 listens on every interface of a Linux machine, and keeps its token in ~/.ray/auth_token, for every user
    of the machine to read.
    """
    variables = _variables()
    # What Ray does on macOS. `_node_ip_address="127.0.0.1"` would not do it: ray.init puts the outer address in its place.
    is_cluster, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    os.environ.update(variables)
    AuthenticationTokenLoader.instance().reset_cache()  # this process may have had another Ray
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = is_cluster
        for name in variables:
            del os.environ[name]
        AuthenticationTokenLoader.instance().reset_cache()


def _variables() -> dict[str, str]:
    """Environment variables that the processes of a run inherit; none that is set already."""
    interface = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")  # lo0 on macOS
    variables = {
        # Where learner ranks and engines listen for one another: else wherever the host's name leads.
        "GLOO_SOCKET_IFNAME": interface,
        "NCCL_SOCKET_IFNAME": interface,
        "VLLM_HOST_IP": "127.0.0.1",
    }
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        variables["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    return {name: value for name, value in variables.items() if name not in os.environ}
