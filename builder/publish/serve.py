"""A static HTTP/1.1 server for development and tests: what any static server or CDN does with a repository.

GET and HEAD, one byte range a request (RFC 9110, section 14), entity tags. Only metadata/, targets/ and content/ are
served; staged/ and .work/ are not there for anybody.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from appliance.core.errors import EdgesealError, InputError, Place

SERVED = ("metadata", "targets", "content")
_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)", re.IGNORECASE)
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Span:
    """Bytes `start` to `end`, the second not included."""

    start: int
    end: int


class UnsatisfiableError(Exception):
    """No byte of the file is in the range: 416."""


def parse_range(header: str | None, size: int) -> Span | None:
    """The part that a Range header asks for; None for the whole file.

    A header of another unit, of several ranges, or that is no range at all, is ignored, as RFC 9110 allows. Raises
    UnsatisfiableError.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[0].lower() == "bytes=-":
        return None
    first, last = match[1], match[2]
    if not first:
        if int(last) == 0 or size == 0:
            raise UnsatisfiableError
        return Span(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise UnsatisfiableError
    return Span(int(first), min(size, int(last) + 1) if last else size)


def served_file(root: Path, target: str) -> Path | None:
    """The file that a request's target names; None when there is none to be served. root: resolved."""
    path = unquote(urlsplit(target).path).lstrip("/")
    parts = path.split("/")
    if parts[0] not in SERVED or "\0" in path or any(part in ("", ".", "..") for part in parts):
        return None
    found = (root / path).resolve()
    return found if found.is_relative_to(root) and found.is_file() else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "edgeseal", ""
    root: Path
    timeout = 60

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path = served_file(self.root, self.path)
        if path is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        with path.open("rb") as stream:  # opened once: a timestamp.json that is replaced meanwhile stays whole
            status = os.fstat(stream.fileno())
            size, tag = status.st_size, f'"{status.st_size:x}-{status.st_mtime_ns:x}-{status.st_ino:x}"'
            try:
                span = self._span(size, tag)
            except UnsatisfiableError:
                self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"bytes */{size}")
                return
            self._head(size, tag, span)
            if body:
                self._send(stream, span or Span(0, size))

    def _span(self, size: int, tag: str) -> Span | None:
        if self.headers.get("If-Range", tag) != tag:
            return None
        return parse_range(self.headers.get("Range"), size)

    def _head(self, size: int, tag: str, span: Span | None) -> None:
        self.send_response(HTTPStatus.OK if span is None else HTTPStatus.PARTIAL_CONTENT)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", tag)
        if span is not None:
            self.send_header("Content-Range", f"bytes {span.start}-{span.end - 1}/{size}")
        self.send_header("Content-Length", str(size if span is None else span.end - span.start))
        self.end_headers()

    def _send(self, stream: BinaryIO, span: Span) -> None:
        stream.seek(span.start)
        left = span.end - span.start
        while left and (data := stream.read(min(_CHUNK, left))):
            self.wfile.write(data)
            left -= len(data)
        if left:
            self.close_connection = True  # the file became shorter: the client must see it

    def _refuse(self, status: HTTPStatus, content_range: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if content_range is not None:
            self.send_header("Content-Range", content_range)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a server for tests is quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a client that goes away is no news."""


@contextmanager
def serving(path: Path, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[ThreadingHTTPServer]:
    """Serve the repository `path` in threads for as long as the block runs. port: 0 for any free one.

    Raises InputError when there is no repository, EdgesealError when the port is taken.
    """
    if not (path / "metadata").is_dir():
        raise InputError("there is no repository", place=Place(str(path)), hint="make one: edgeseal repo init")
    handler = type("Handler", (_Handler,), {"root": path.resolve()})
    try:
        server = _Server((host, port), handler)
    except (OSError, OverflowError) as error:
        raise EdgesealError(f"cannot listen on {host} port {port}: {error}") from error
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
