"""A hub that is not there is noticed in seconds, and what was cached is used."""

import os
import socket
import subprocess
import sys
import threading

import pytest
from tiny import ROOT

from tasks import hub

NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def silent_port():
    """A port that lets nobody in and turns nobody away: its queue is full."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_why_silent(silent_port):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert hub.why_silent("127.0.0.1", listener.getsockname()[1], 5.0) is None
    assert hub.why_silent("127.0.0.1", 1, 5.0) == "cannot be reached (Connection refused)"
    assert hub.why_silent("127.0.0.1", silent_port, 0.2) == "did not answer within 0.2 s"
    assert hub.why_silent("a..b", 1, 5.0).startswith("cannot be reached (")


def test_a_name_server_that_is_silent_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(socket, "create_connection", lambda *args, **kwargs: threading.Event().wait(30))
    assert hub.why_silent("huggingface.co", 443, 0.05) == "did not answer within 0.1 s"


@pytest.mark.parametrize(
    ("url", "proxy", "expected"),
    [
        ("https://huggingface.co", None, ("huggingface.co", 443)),
        ("http://mirror:8080/hf", None, ("mirror", 8080)),
        ("https://huggingface.co", "http://proxy:3128", ("proxy", 3128)),
        ("https://huggingface.co", "proxy:3128", ("proxy", 3128)),
        ("http://mirror", "http://proxy:3128", ("mirror", 80)),  # that proxy is for https
    ],
)
def test_who_is_asked(url, proxy, expected, monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    if proxy:
        monkeypatch.setenv("https_proxy", proxy)
    assert hub.hub_address(url) == expected


def test_who_chose_to_be_offline_is_not_asked(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_ENDPOINT", NOBODY)
    assert hub.use_hub() is None


def test_a_data_set_is_refused_without_retries():
    # In a process of its own: the libraries stay offline from then on. Each of their six tries would leave a line.
    code = """
from tasks.rows import read_hub
try:
    list(read_hub("org/name", [None], "train", is_large=True))
except ValueError as error:
    print(error)
import datasets.config, huggingface_hub, os
print(datasets.config.HF_HUB_OFFLINE, huggingface_hub.is_offline_mode(), os.environ["HF_HUB_OFFLINE"])
"""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT), "HF_ENDPOINT": NOBODY},
        capture_output=True,
        text=True,
        timeout=100,
    )
    error, offline = result.stdout.splitlines()
    assert error.startswith(
        "option 'task.path': cannot load 'org/name', split 'train', from the hub (127.0.0.1:1 cannot be reached (Connection refused)); connect"
    )
    assert offline == "True True 1"
    assert "Retrying" not in result.stderr
