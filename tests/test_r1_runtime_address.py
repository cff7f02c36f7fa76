"""A cluster that is not there is refused in seconds; nothing here starts Ray."""

import socket
import threading

import pytest

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


def test_auto_is_the_cluster_that_it_finds(monkeypatch):
    monkeypatch.setattr(address, "get_ray_address_from_environment", lambda place, temp_dir: "127.0.0.1:1")
    assert "127.0.0.1:1 cannot be reached" in address.why_unanswered("auto")
    monkeypatch.setattr(address, "get_ray_address_from_environment", lambda place, temp_dir: None)
    assert address.why_unanswered("auto") is None


@pytest.mark.parametrize("place", ["local", "http://127.0.0.1:8265", "ray://127.0.0.1:10001", "nonsense"])
def test_other_forms_are_left_to_ray(place):
    assert address.why_unanswered(place) is None
