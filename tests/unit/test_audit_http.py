"""The small HTTP server of the witness, and the POST that asks one."""

from __future__ import annotations

import http.client

import pytest

from appliance.core.errors import EdgesealError, InputError
from builder.host.http import answering_posts, post


def echo(path: str, body: bytes) -> tuple[int, str, bytes]:
    return 200, "text/plain", path.encode() + b" " + body


def test_a_post_is_answered_and_the_connection_serves_the_next_one() -> None:
    with answering_posts(echo, host="127.0.0.1", port=0, limit=100) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for number in range(3):
            connection.request("POST", f"/{number}?query", b"hello")
            assert connection.getresponse().read() == b"/%d hello" % number
        connection.close()
        assert post(f"http://127.0.0.1:{port}/add-checkpoint", b"x") == (200, b"/add-checkpoint x")


@pytest.mark.parametrize(
    ("method", "body", "headers", "status"),
    [
        ("POST", b"x" * 101, {}, 413),
        ("POST", None, {"Content-Length": "-1"}, 411),
        ("POST", None, {"Content-Length": "ten"}, 411),
        ("POST", None, {"Transfer-Encoding": "chunked"}, 411),
        ("GET", None, {}, 501),
    ],
)
def test_other_requests(method: str, body: bytes | None, headers: dict[str, str], status: int) -> None:
    with answering_posts(echo, host="127.0.0.1", port=0, limit=100) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(method, "/", body, headers)
        assert connection.getresponse().status == status
        connection.close()


def test_a_port_that_is_taken() -> None:
    with (
        answering_posts(echo, host="127.0.0.1", port=0, limit=1) as port,
        pytest.raises(EdgesealError, match=f"cannot listen on 127.0.0.1 port {port}: "),
        answering_posts(echo, host="127.0.0.1", port=port, limit=1),
    ):
        pass


@pytest.mark.parametrize("url", ["ftp://w1.test/", "w1.test", "http://"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(InputError, match="is no address of HTTP"):
        post(url, b"")


def test_nobody_listens() -> None:
    with pytest.raises(EdgesealError, match=r"http://127\.0\.0\.1:1/ does not answer: "):
        post("http://127.0.0.1:1/", b"")
