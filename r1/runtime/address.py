"""Joining the cluster that somebody named, or saying within seconds why it cannot be joined."""

import logging

import grpc
import ray
from ray._private.grpc_utils import init_grpc_channel  # knows Ray's settings for TLS; nothing public does
from ray.exceptions import AuthenticationError

from r1.errors import UserError
from tasks.hub import why_silent

TIME_LIMIT_S = 5.0
"""For the connection, and for the first word of whoever took it."""


def join(address: str) -> None:
    """`ray.init` for a cluster that runs. Raises `UserError`; by itself Ray tries for minutes where nobody answers."""
    problem = why_unanswered(address)
    if problem is None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            return
        # http://..., which is the job server's; nobody there; another version of Ray or Python; no token, or a wrong one.
        except (ValueError, ConnectionError, RuntimeError, AuthenticationError) as error:
            problem = " ".join(str(error).split())
    raise UserError(
        f"RAY_ADDRESS={address!r}: cannot join that cluster ({problem}); unset it to start one here, or see ray status"
    )


def why_unanswered(address: str) -> str | None:
    """Why no cluster answers at HOST:PORT, in words; None where one does, and for the other forms (auto, http://), which
    `ray.init` itself refuses at once."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "//" in host:
        return None
    silent = why_silent(host.strip("[]"), int(port), TIME_LIMIT_S)
    if silent:
        return f"{address} {silent}; is it running, and is this its address? ray start prints it"
    channel = init_grpc_channel(address)
    try:
        # Somebody took the connection. What is no cluster (a dashboard, a firewall) never says the words that gRPC begins with.
        grpc.channel_ready_future(channel).result(timeout=TIME_LIMIT_S)
    except grpc.FutureTimeoutError:
        return f"{address} takes connections and does not speak Ray's language; the dashboard's port is not the cluster's"
    finally:
        channel.close()
    return None
