"""The development server: what a static server does, over real HTTP on loopback."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.core.errors import EdgesealError, InputError
from builder.publish.serve import Span, UnsatisfiableError, parse_range, serving

BODY = bytes(range(200))
SPANS = [
    (None, None),
    ("bytes=0-", Span(0, 200)),
    ("bytes=0-0", Span(0, 1)),
    ("bytes=10-19", Span(10, 20)),
    ("bytes=150-900", Span(150, 200)),
    ("bytes=199-", Span(199, 200)),
    ("bytes=-5", Span(195, 200)),
    ("bytes=-900", Span(0, 200)),
    (" BYTES=1-2 ", Span(1, 3)),
    ("bytes=5-4", None),
    ("bytes=-", None),
    ("bytes=1-2,4-5", None),
    ("bytes=a-b", None),
    ("bytes=--1", None),
    ("items=0-1", None),
]


@pytest.mark.parametrize(("header", "span"), SPANS)
def test_ranges(header: str | None, span: Span | None) -> None:
    assert parse_range(header, 200) == span


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=200-", 200), ("bytes=900-901", 200), ("bytes=-0", 200), ("bytes=-1", 0)]
)
def test_ranges_outside(header: str, size: int) -> None:
    with pytest.raises(UnsatisfiableError):
        parse_range(header, size)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[http.client.HTTPConnection]:
    """To a server of one file, content/ab, and others that are not for clients."""
    for name in ("content/ab", "staged/ceremony.json", ".work/x", "metadata/timestamp.json", "secret"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(BODY)
    (tmp_path / "content/out").symlink_to(tmp_path.parent)
    with serving(tmp_path) as server:
        client = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
        yield client
        client.close()


def _ask(
    client: http.client.HTTPConnection, path: str, *, method: str = "GET", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    client.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = client.getresponse()
    return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}


def test_a_connection_serves_whole_files_and_parts(connection: http.client.HTTPConnection) -> None:
    status, body, headers = _ask(connection, "/content/ab")
    assert (status, body, headers["accept-ranges"], headers["content-length"]) == (200, BODY, "bytes", "200")
    assert "content-range" not in headers
    local = connection.sock.getsockname()
    status, body, headers = _ask(connection, "/content/ab", Range="bytes=10-19")
    assert (status, body, headers["content-range"]) == (206, BODY[10:20], "bytes 10-19/200")
    status, body, headers = _ask(connection, "/content/ab", Range="bytes=200-")
    assert (status, body, headers["content-range"]) == (416, b"", "bytes */200")
    status, body, _ = _ask(connection, "/content/ab", Range="bytes=0-1,5-6")
    assert (status, body) == (200, BODY)
    status, body, headers = _ask(connection, "/content/ab", method="HEAD", Range="bytes=0-9")
    assert (status, body, headers["content-length"]) == (206, b"", "10")
    assert connection.sock.getsockname() == local  # one connection for all of it


def test_a_part_of_another_file_is_not_given(connection: http.client.HTTPConnection, tmp_path: Path) -> None:
    tag = _ask(connection, "/content/ab")[2]["etag"]
    assert _ask(connection, "/content/ab", Range="bytes=0-1", If_Range=tag)[:2] == (206, BODY[:2])
    (tmp_path / "content/ab").write_bytes(b"another")
    assert _ask(connection, "/content/ab", Range="bytes=0-1", If_Range=tag)[:2] == (200, b"another")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/content",
        "/content/",
        "/content/none",
        "/staged/ceremony.json",
        "/.work/x",
        "/secret",
        "/content/../secret",
        "/content/%2e%2e/secret",
        "/content/%2e%2e%2fsecret",
        "/content/..%2fsecret",
        "/content/out/x",
        "/content//ab",
        "/content/ab%00",
        "//secret",
    ],
)
def test_nothing_else_is_served(connection: http.client.HTTPConnection, path: str) -> None:
    assert _ask(connection, path)[:2] == (404, b"")


def test_other_methods_are_refused(connection: http.client.HTTPConnection) -> None:
    assert _ask(connection, "/content/ab", method="PUT")[0] == 501


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused, serving(tmp_path):
        pass
    assert str(refused.value) == f"{tmp_path}: there is no repository"
    (tmp_path / "metadata").mkdir()
    with serving(tmp_path) as server, pytest.raises(EdgesealError) as taken:
        port = server.server_address[1]
        with serving(tmp_path, port=port):
            pass
    assert str(taken.value) == f"cannot listen on 127.0.0.1 port {port}: [Errno 98] Address already in use"
