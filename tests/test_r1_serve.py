import gzip
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from report_runs import run_of_two_steps

from r1.errors import UserError
from r1.report.live import LiveReport
from r1.report.server import ReportServer, is_loopback, open_server

ROOT = Path(__file__).parents[1]


@contextmanager
def served(report: LiveReport, host: str = "127.0.0.1") -> Iterator[ReportServer]:
    server = open_server(report, host, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return run_of_two_steps(tmp_path / "run")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server for the tests that only ask: the page takes 0.4 s to make."""
    run = run_of_two_steps(tmp_path_factory.mktemp("served") / "run")
    with served(LiveReport([run], 6)) as server:
        yield server.server_port


def ask(port: int, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, dict(response.getheaders()), body


def ask_raw(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_the_page_and_its_headers(port: int):
    status, headers, page = ask(port)

    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"<h2>Samples</h2>" in page
    assert int(headers["Content-Length"]) == len(page)
    assert headers["Server"].strip() == "r1"
    for name, value in {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }.items():
        assert headers[name] == value
    assert "Access-Control-Allow-Origin" not in headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "connect-src 'self'" in policy
    assert policy.endswith("frame-ancestors 'none'")
    assert "unsafe" not in policy.replace("style-src 'unsafe-inline'", "")


def test_the_data_say_how_far_the_run_is(port: int):
    status, headers, body = ask(port, "/data.json")
    answer = json.loads(body)

    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'; sandbox"
    assert (answer["last_step"], answer["num_steps"], answer["is_over"], answer["problem"]) == (2, 4, False, None)
    assert 0 <= answer["age_s"] < 600
    assert [sample["key"] for sample in answer["content"]["samples"]] == ["run0-train-1"]
    assert "accuracy" in [figure["key"] for figure in answer["content"]["figures"]]


def test_hostile_text_is_escaped_twice_in_the_data(port: int):
    *_, body = ask(port, "/data.json")
    (sample,) = json.loads(body)["content"]["samples"]

    assert not {b"<", b">"} & {body[i : i + 1] for i in range(len(body))}
    assert "&lt;script&gt;window.hacked = 1&lt;/script&gt;" in sample["html"]
    assert not {"<script", "<img", "<svg"} & {sample["html"][i : i + 7] for i in range(len(sample["html"]))}


def test_a_page_that_has_this_version_gets_no_content_again(port: int):
    version = json.loads(ask(port, "/data.json")[2])["version"]
    answer = json.loads(ask(port, f"/data.json?have={version}")[2])

    assert (answer["version"], answer["content"], answer["last_step"]) == (version, None, 2)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "NONSENSE"])
def test_other_methods_are_refused(port: int, method: str):
    status, headers, _ = ask(port, "/", method)

    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_head_has_the_headers_alone(port: int):
    answer = ask_raw(port, b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    assert int(re.search(rb"Content-Length: (\d+)", answer)[1]) > 1_000_000
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "path",
    [
        *("/metrics.jsonl", "/config.json", "/..", "/../config.json", "/%2e%2e/config.json", "//etc/passwd", "/etc/passwd"),
        *("/favicon.ico", "/data.json/", "/data.json/../config.json", "/index.html", "/\\config.json"),
    ],
)
def test_no_path_is_one_of_a_file(port: int, path: str):
    status, headers, body = ask(port, path)

    assert (status, body) == (404, b"not found\n")
    assert headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("localhost", 200), ("localhost:9000", 200), ("127.0.0.1", 200), ("127.0.0.1:1", 200), ("[::1]:80", 200), ("LOCALHOST", 200)),
        *(("evil.example", 403), ("evil.example:8642", 403), ("localhost.evil.example", 403), ("127.0.0.1.evil.example", 403)),
        *(("192.168.0.1", 403), ("0.0.0.0", 403), ("evil.example@localhost.evil.example", 403), ("[::1", 403), ("", 403)),
    ],
)
def test_another_name_that_points_here_is_refused(port: int, host: str, status: int):
    assert ask(port, "/data.json", Host=host)[0] == status


@pytest.mark.parametrize("hosts", [b"", b"Host: localhost\r\nHost: evil.example\r\n"])
def test_exactly_one_host_is_needed(port: int, hosts: bytes):
    assert b" 403 " in ask_raw(port, b"GET /data.json HTTP/1.1\r\n" + hosts + b"\r\n").split(b"\r\n")[0]


def test_off_loopback_any_name_will_do(run: Path):
    with served(LiveReport([run], 0), "0.0.0.0") as server:
        assert ask(server.server_port, "/data.json", Host="trainer.example:8642")[0] == 200


def test_what_is_asked_for_zipped_comes_zipped(port: int):
    _, plain_headers, page = ask(port, "/", **{"Accept-Encoding": "identity"})
    _, headers, zipped = ask(port, "/", **{"Accept-Encoding": "gzip, deflate"})
    _, data_headers, data = ask(port, "/data.json", **{"Accept-Encoding": "gzip"})

    assert "Content-Encoding" not in plain_headers
    assert (headers["Content-Encoding"], gzip.decompress(zipped) == page) == ("gzip", True)
    assert len(zipped) < len(page) / 2
    assert data_headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(data))["last_step"] == 2


def test_a_browser_that_goes_away_prints_nothing_and_the_server_goes_on(port: int, capfd: pytest.CaptureFixture[str]):
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            # Closed with unread data: the server's next write is refused.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    assert ask(port, "/data.json")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_port_in_use_is_an_error_of_one_line(run: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"^option '--port': cannot listen on 127.0.0.1 port {port}: .*give another --port"):
            open_server(LiveReport([run], 0), "127.0.0.1", port)


def test_an_address_that_is_none_is_refused(run: Path):
    with pytest.raises(UserError, match="^option '--host': 'no host at all' is no address"):
        open_server(LiveReport([run], 0), "no host at all", 0)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("node1", False)],
)
def test_what_loopback_is(host: str, expected: bool):
    assert is_loopback(host) is expected


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_command_says_where_and_ctrl_c_ends_it(run: Path, host: str):
    command = [sys.executable, "-m", "r1.cli.main", "serve", str(run), "--port", "0", "--host", host]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background ignores Ctrl-C, and its children would as well.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    lines = [process.stdout.readline()]
    if host == "0.0.0.0":
        lines.append(process.stdout.readline())
    port = int(lines[-1].split(":")[2].split("/")[0])
    assert ask(port, "/data.json")[0] == 200
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    assert (process.returncode, out, err) == (0, "ended\n", "")
    assert ("warning: --host 0.0.0.0: anybody who reaches port" in lines[0]) == (host == "0.0.0.0")
    assert lines[-1] == f"http://{host}:{port}/  (Ctrl-C ends it)\n"
