"""HTTP for the reviewer's side: a small server for one kind of request, and a POST."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

from appliance.core.errors import EdgesealError, InputError

Answering = Callable[[str, bytes], tuple[int, str, bytes]]
"""(path, body of a POST) -> status, content type, body."""

_TIMEOUT_S = 10.0
_MAX_ANSWER = 64 << 10
_DRAINED = 1 << 20


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "edgeseal", ""
    timeout = 10
    answering: Answering
    limit: int

    def do_POST(self) -> None:
        """Any path; the answerer knows which."""
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            self._send(411, "text/plain", b"a Content-Length is needed\n", close=True)
        elif int(length) > self.limit:
            self.rfile.read(min(int(length), _DRAINED))  # else the reset overtakes the answer
            self._send(413, "text/plain", b"too large\n", close=True)
        else:
            self._send(*self.answering(urlsplit(self.path).path, self.rfile.read(int(length))))

    def _send(self, status: int, content_type: str, body: bytes, *, close: bool = False) -> None:
        self.close_connection = self.close_connection or close
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the answerer tells what matters."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a client that goes away is no news."""


@contextmanager
def answering_posts(answering: Answering, *, host: str, port: int, limit: int) -> Iterator[int]:
    """Answer POSTs in threads for as long as the block runs; gives the port. port: 0 for any free one.

    limit: bytes of a request's body. Raises EdgesealError when the port cannot be had.
    """
    handler = type("Handler", (_Handler,), {"answering": staticmethod(answering), "limit": limit})
    try:
        server = _Server((host, port), handler)
    except (OSError, OverflowError) as error:
        raise EdgesealError(f"cannot listen on {host} port {port}: {error}") from error
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def post(url: str, body: bytes) -> tuple[int, bytes]:
    """Status and body of the answer, which has at most 64 KiB. Raises InputError, EdgesealError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"`{url}` is no address of HTTP", hint="write http://HOST:PORT/PREFIX")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", parts.path or "/", body, {"Content-Type": "application/octet-stream"})
        answer = connection.getresponse()
        return answer.status, answer.read(_MAX_ANSWER)
    except (OSError, http.client.HTTPException) as error:
        raise EdgesealError(f"{url} does not answer: {error}") from error
    finally:
        connection.close()
