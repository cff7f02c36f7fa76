"""Joining the cluster that somebody named, or saying within seconds why it cannot be joined."""

import logging

import grpc
import ray
from ray._private.grpc_utils import init_grpc_channel  # knows Ray's settings for TLS; nothing public does
from ray._private.services import get_ray_address_from_environment
from ray.core.generated.gcs_service_pb2 import GetClusterIdRequest
from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub
from ray.exceptions import AuthenticationError

from r1.errors import UserError
from tasks.hub import why_silent

TIME_LIMIT_S = 5.0
"""For the connection, and for the first answer of whoever took it."""
TOKEN = "in RAY_AUTH_TOKEN or ~/.ray/auth_token"


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
    """Why no cluster answers at HOST:PORT, or at the one that `auto` finds on this machine; None where one does.

    None as well for the other forms (http://, and auto where there is none), which `ray.init` itself refuses at once.
    """
    if address == "auto":
        address = get_ray_address_from_environment("auto", None) or ""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "//" in host:
        return None
    silent = why_silent(host.strip("[]"), int(port), TIME_LIMIT_S)
    if silent:
        return f"{address} {silent}; is it running, and is this its address? ray start prints it"
    try:
        channel = init_grpc_channel(address)
        try:
            # Somebody took the connection: the question that ray.init begins with, asked once where it tries for 20 s or more.
            NodeInfoGcsServiceStub(channel).GetClusterId(GetClusterIdRequest(), timeout=TIME_LIMIT_S)
        finally:
            channel.close()
    except AuthenticationError as error:  # RAY_AUTH_MODE=token, and no token to be found
        return " ".join(str(error).split())
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            return f"it asks for a token, and has none or a wrong one from here; set RAY_AUTH_MODE=token and its token, {TOKEN}"
        return f"{address} takes connections and is no Ray cluster ({error.code().name}); is that the dashboard's port?"
    return None
