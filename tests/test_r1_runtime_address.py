"""A cluster that is not there is refused in seconds; nothing here starts Ray."""

import os
import socket
import threading

import grpc
import pytest
from ray._raylet import AuthenticationMode

from r1.errors import UserError
from r1.runtime import address
from r1.runtime.cluster import connected


@pytest.fixture
def listener(monkeypatch):
    monkeypatch.setattr(address, "TIME_LIMIT_S", 0.5)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        found.listen()
        yield found


def refusal(place, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", place)
    with pytest.raises(UserError) as caught, connected():
        pass
    return str(caught.value)


def test_a_port_where_nobody_is(monkeypatch):
    assert refusal("127.0.0.1:1", monkeypatch).startswith(
        "RAY_ADDRESS='127.0.0.1:1': cannot join that cluster (127.0.0.1:1 cannot be reached (Connection refused); is it running"
    )


def test_somebody_who_takes_the_connection_and_says_nothing(listener, monkeypatch):
    place = f"127.0.0.1:{listener.getsockname()[1]}"
    assert f"{place} takes connections and is no Ray cluster (" in refusal(place, monkeypatch)


def test_somebody_who_speaks_another_language(listener, monkeypatch):
    def answer():
        client, _ = listener.accept()
        client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        client.close()

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    place = f"127.0.0.1:{listener.getsockname()[1]}"
    assert f"{place} takes connections and is no Ray cluster (" in refusal(place, monkeypatch)


def test_the_address_of_the_job_server_is_explained_by_ray(monkeypatch):
    assert "It looks like you set RAY_ADDRESS to an HTTP address" in refusal("http://127.0.0.1:1", monkeypatch)


def test_ray_client_is_refused_by_its_name_and_not_tried(monkeypatch):
    monkeypatch.setattr(address.ray, "init", lambda **options: pytest.fail("it was tried"))
    for place in ("ray://127.0.0.1:1", "ray://head.example"):
        assert refusal(place, monkeypatch).startswith(f"RAY_ADDRESS={place!r}: that is Ray Client, which r1 does not use; give the")


def test_auto_is_the_cluster_that_it_finds(monkeypatch):
    monkeypatch.setattr(address, "get_ray_address_from_environment", lambda place, temp_dir: "127.0.0.1:1")
    assert "RAY_ADDRESS='auto': cannot join that cluster (127.0.0.1:1 cannot be reached" in refusal("auto", monkeypatch)


class Gcs:
    """A cluster as far as it is asked here; `token` is the one that it wants."""

    def __init__(self, token):
        self.token = token

    def answer(self, channel):
        return None if self.token in (None, channel) else grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("wants", "has", "mode", "says"),
    [
        (None, None, None, None),
        (None, "secret", None, None),
        ("secret", "secret", None, None),
        ("secret", "secret", "token", None),
        ("secret", "secret", "disabled", "it asks for a token, and gets none or a wrong one from here; set RAY_AUTH_MODE=token"),
        ("secret", None, None, "it asks for a token, and gets none"),
        ("secret", "wrong", None, "it asks for a token, and gets none or a wrong one"),
        (None, "secret", "token", "it asks for no token, and this process does: set RAY_AUTH_MODE=disabled"),
    ],
)
def test_tokens(wants, has, mode, says, listener, monkeypatch):
    modes = {None: AuthenticationMode.DISABLED, "disabled": AuthenticationMode.DISABLED, "token": AuthenticationMode.TOKEN}
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    if mode:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)

    class Loader:
        @staticmethod
        def instance():
            return Loader

        @staticmethod
        def has_token(ignore_auth_mode):
            return has is not None

    def current():
        return os.environ.get("RAY_AUTH_MODE")

    monkeypatch.setattr(address, "_answer", Gcs(wants).answer)
    monkeypatch.setattr(address, "AuthenticationTokenLoader", Loader)
    monkeypatch.setattr(address, "_enable_token_auth", lambda: monkeypatch.setenv("RAY_AUTH_MODE", "token"))
    monkeypatch.setattr(address, "get_authentication_mode", lambda: modes[current()])
    monkeypatch.setattr(address.grpc, "insecure_channel", lambda place: "no token")
    monkeypatch.setattr(address, "init_grpc_channel", lambda place: has if current() == "token" else "no token")
    found = address.why_unanswered(f"127.0.0.1:{listener.getsockname()[1]}")
    assert found is None if says is None else found.startswith(says)
    if wants is None:  # a token is not sent to whoever does not ask
        assert current() == mode


@pytest.mark.parametrize("place", ["auto", "local", "http://127.0.0.1:8265", "nonsense"])
def test_other_forms_are_left_to_ray(place):
    assert address.why_unanswered(place) is None
