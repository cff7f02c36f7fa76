"""The server behind `r1 serve`: two addresses, read only, and no path of a request is ever one of a file."""

import gzip
import ipaddress
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from r1.errors import UserError
from r1.report.live import LiveReport

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # No other site may show the page in a frame, or load the data as its own script or image.
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_DATA_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
_TEXT = "text/plain; charset=utf-8"
_GZIP_LEVEL = 5  # 0.01 s for the data of 50 steps


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own, out of everybody else's reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def open_server(report: LiveReport, host: str, port: int) -> "ReportServer":
    """Begin to listen; an address that cannot be had is a `UserError`."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(f"option '--host': {host!r} is no address ({error}); leave it out for loopback") from error
    try:
        return ReportServer(report, host, family, address)
    except OSError as error:
        remedy = "give another --port, or 0 for any that is free" if port else "leave --host out for loopback"
        raise UserError(f"option '--port': cannot listen on {host} port {port}: {error.strerror}; {remedy}") from error


class ReportServer(ThreadingHTTPServer):
    """Answers each request in a thread of its own."""

    daemon_threads = True  # Ctrl-C does not wait for a browser
    # A port that another server listens on is taken, whatever its options; our own of a moment ago is not.
    allow_reuse_address = True
    allow_reuse_port = False

    def __init__(self, report: LiveReport, host: str, family: int, address: Any) -> None:
        self.address_family = socket.AddressFamily(family)
        self.report = report
        self.only_loopback = is_loopback(host)
        super().__init__(address[:2] if family == socket.AF_INET else address, _Handler)

    def server_bind(self) -> None:
        # http.server would look the host's name up, which can take seconds without a network.
        socket_server_bind(self)

    @property
    def url(self) -> str:
        host = str(self.server_address[0])
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away in the middle is no news; anything else is a fault of ours, and is printed."""
        import sys

        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def socket_server_bind(server: ReportServer) -> None:
    """What http.server's own server_bind does, without a name lookup."""
    from socketserver import TCPServer

    TCPServer.server_bind(server)
    server.server_name, server.server_port = "r1", server.server_address[1]


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer
    server_version, sys_version = "r1", ""
    timeout = 30  # seconds of silence: a client that never ends its request must not keep a thread

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def __getattr__(self, name: str) -> Any:
        # http.server looks for do_METHOD, and calls a method that is not there 501, "unsupported".
        if name.startswith("do_"):
            return self._refuse_method
        raise AttributeError(name)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a line every two seconds, with text from whoever asks, has no place in a terminal."""

    def _answer(self) -> None:
        if not self._has_own_host():
            self._send(HTTPStatus.FORBIDDEN, b"this server answers to localhost only\n", _TEXT)
            return
        parts = urlsplit(self.path)
        if parts.path == "/":
            self._send_page()
        elif parts.path == "/data.json":
            have = parse_qs(parts.query).get("have", [""])[0]
            self._send(HTTPStatus.OK, self.server.report.answer(have), "application/json")
        else:
            self._send(HTTPStatus.NOT_FOUND, b"not found\n", _TEXT)

    def _has_own_host(self) -> bool:
        """Whether the browser was sent here by our name: a foreign one that points at loopback is DNS rebinding."""
        if not self.server.only_loopback:
            return True
        names = self.headers.get_all("Host") or []
        if len(names) != 1:
            return False
        try:
            # Any port: ssh may forward another one of the reader's machine.
            host = urlsplit(f"//{names[0]}").hostname
        except ValueError:  # brackets that do not close
            return False
        return host is not None and is_loopback(host)

    def _refuse_method(self) -> None:
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, b"GET and HEAD only\n", _TEXT, more={"Allow": "GET, HEAD"})

    def _accepts_gzip(self) -> bool:
        return "gzip" in self.headers.get("Accept-Encoding", "")

    def _send_page(self) -> None:
        report = self.server.report
        zipped = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        body, more = (report.zipped_page, zipped) if self._accepts_gzip() else (report.page, {})
        policy = f"{report.page_policy}; frame-ancestors 'none'"
        self._send(HTTPStatus.OK, body, "text/html; charset=utf-8", policy, more)

    def _send(
        self, status: HTTPStatus, body: bytes, content_type: str, policy: str = _DATA_POLICY, more: dict[str, str] | None = None
    ) -> None:
        headers = {**_HEADERS, "Content-Type": content_type, "Content-Security-Policy": policy, **(more or {})}
        if "Content-Encoding" not in headers and len(body) > 10_000 and self._accepts_gzip():
            body = gzip.compress(body, _GZIP_LEVEL)
            headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
