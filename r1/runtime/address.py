"""Joining the cluster that somebody named, or saying within seconds why it cannot be joined."""

import logging
import os

import grpc
import ray
from ray._private.authentication.authentication_token_setup import _enable_token_auth
from ray._private.grpc_utils import init_grpc_channel  # knows Ray's settings for TLS and tokens; nothing public does
from ray._private.services import get_ray_address_from_environment
from ray._raylet import AuthenticationMode, AuthenticationTokenLoader, get_authentication_mode  # type: ignore[attr-defined]
from ray.core.generated.gcs_service_pb2 import GetClusterIdRequest
from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub
from ray.exceptions import AuthenticationError

from r1.errors import UserError
from tasks.hub import why_silent

TIME_LIMIT_S = 5.0
"""For the connection, and for each answer of whoever took it."""


def join(address: str) -> None:
    """`ray.init` for a cluster that runs. Raises `UserError`; by itself Ray tries for minutes where nobody answers.

    A token is sent where the cluster asks for one and there is one, unless RAY_AUTH_MODE says otherwise.
    """
    # By its name: of "auto" Ray would begin to ask for a token itself, and cut the ties to a cluster that has none.
    found = (get_ray_address_from_environment("auto", None) or address) if address == "auto" else address
    if found.startswith("ray://"):  # Ray would try it for 30 s, and what runs here is no Ray Client
        raise UserError(
            f"RAY_ADDRESS={address!r}: that is Ray Client, which r1 does not use; give the cluster's HOST:PORT, which ray start "
            "prints, or submit the run (launch/submit.sh)"
        )
    problem = why_unanswered(found)
    if problem is None:
        try:
            ray.init(address=found, log_to_driver=False, logging_level=logging.ERROR)
            return
        # http://..., which is the job server's; nobody there; another version of Ray or Python; no token, or a wrong one.
        except (ValueError, ConnectionError, RuntimeError, AuthenticationError) as error:
            problem = " ".join(str(error).split())
    raise UserError(
        f"RAY_ADDRESS={address!r}: cannot join that cluster ({problem}); unset it to start one here, or see ray status"
    )


def why_unanswered(address: str) -> str | None:
    """Why no cluster answers at HOST:PORT, in words; None where one does, and for the other forms (http://, auto where there is
    none), which `ray.init` itself refuses at once."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "//" in host:
        return None
    silent = why_silent(host.strip("[]"), int(port), TIME_LIMIT_S)
    if silent:
        return f"{address} {silent}; is it running, and is this its address? ray start prints it"
    # With TLS nobody answers who is asked like this: what a token is sent for is the user's word then.
    has_tls = os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")
    code = None if has_tls else _answer(grpc.insecure_channel(address))
    wants_token = code == grpc.StatusCode.UNAUTHENTICATED
    tokens = AuthenticationTokenLoader.instance()
    if wants_token and "RAY_AUTH_MODE" not in os.environ and tokens.has_token(ignore_auth_mode=True):
        _enable_token_auth()
    if wants_token or has_tls:
        try:
            code = _answer(init_grpc_channel(address))
        except AuthenticationError as error:  # RAY_AUTH_MODE=token, and no token to be found
            return " ".join(str(error).split())
    if code == grpc.StatusCode.UNAUTHENTICATED:
        where = "in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        return f"it asks for a token, and gets none or a wrong one from here; set RAY_AUTH_MODE=token and its token, {where}"
    if code is not None:
        return f"{address} takes connections and is no Ray cluster ({code.name}); is that the dashboard's port?"
    if not (wants_token or has_tls) and get_authentication_mode() == AuthenticationMode.TOKEN:
        # The cluster's own calls would be refused here, and every actor cancelled before it starts.
        return "it asks for no token, and this process does: set RAY_AUTH_MODE=disabled, or start the cluster with token"
    return None


def _answer(channel: grpc.Channel) -> grpc.StatusCode | None:
    """Ask somebody who takes connections what `ray.init` asks first, once, where it tries for 20 s or more; None: all is well."""
    try:
        NodeInfoGcsServiceStub(channel).GetClusterId(GetClusterIdRequest(), timeout=TIME_LIMIT_S)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    finally:
        channel.close()
    return None
