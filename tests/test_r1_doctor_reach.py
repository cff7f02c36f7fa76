"""What this machine can reach, where nobody is: no test here needs a network."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from r1.doctor import reach

NOBODY = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def empty_caches(tmp_path, monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", NOBODY)


def test_a_hub_name_is_looked_for_in_the_cache(tmp_path):
    missing = reach.model_here("org/name")
    assert (missing["kind"], missing["found"], missing["hub"]) == ("hub", False, "cannot be reached (Connection refused)")
    snapshot = tmp_path / "hub/models--org--name/snapshots/1f"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"123")
    found = reach.model_here("org/name")
    assert (found["files"], found["hub"]) == ({"model.safetensors": 3}, None)


@pytest.mark.parametrize(
    ("value", "says"), [("1", "is not asked (offline by HF_HUB_OFFLINE)"), ("0", "cannot be reached (Connection refused)")]
)
def test_who_chose_to_be_offline_is_told(value, says, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert reach.model_here("org/name")["hub"] == says


def test_data_sets_are_looked_for_in_the_cache_and_the_hub_is_asked(tmp_path, monkeypatch):
    assert reach.data_sets_here([]) == {}
    (tmp_path / "datasets/org___data_set").mkdir(parents=True)
    silent = "cannot be reached (Connection refused)"
    assert reach.data_sets_here(["org/DataSet", "org/other"]) == {
        "org/DataSet": {"is_cached": True, "hub": silent},
        "org/other": {"is_cached": False, "hub": silent},
    }


@pytest.fixture
def dashboard():
    """Answers every GET with its `code`; yields (server, its address)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.paths.append(self.path)
            self.send_response(self.server.code)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.paths = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("code", "asks"), [(200, False), (401, True), (403, True), (500, False)])
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_dashboard_that_asks_for_a_token_refuses_whoever_has_none(code, asks, address, dashboard, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # this process's own setting says nothing of it
    monkeypatch.setenv("http_proxy", NOBODY)
    dashboard.code = code
    assert reach.asks_for_token(address, dashboard.server_port) is asks
    assert dashboard.paths == ["/api/jobs/"]


def test_a_dashboard_that_is_none_does_not_tell():
    assert reach.asks_for_token("127.0.0.1", 1) is None


def test_storage_is_read_and_written_and_left_as_it_was(tmp_path):
    (tmp_path / "left").write_text("left")
    assert reach.why_storage_fails(f"file://{tmp_path}", "left") is None
    assert [path.name for path in tmp_path.iterdir()] == ["left"]
    assert reach.why_storage_fails(f"file://{tmp_path}", "none").startswith("FileNotFoundError: ")
    (tmp_path / "other").write_text("something else")
    assert reach.why_storage_fails(f"file://{tmp_path}", "other") == "it gives back other bytes than the driver sent"
    assert reach.why_storage_fails("nonsense://bucket/run", "left") == "ValueError: Protocol not known: nonsense"


def test_storage_that_is_silent_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(reach, "STORAGE_LIMIT_S", 0.05)
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda url: threading.Event().wait(30))
    assert reach.why_storage_fails("memory://bucket/run", "left") == "no answer within 0.05 s"
