"""The transport of updates, where only time shows it: slow is cut at its bound, the reader's own time does not count.

All else about it: tests/unit/test_update_http.py and test_update_http_tls.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import time
from collections.abc import Iterator

import pytest

from appliance.formats.device import UpdateConfig
from appliance.formats.release import Content
from appliance.update.http import HttpSource
from appliance.update.ranges import ByteRange
from appliance.update.transport import TooSlowError
from tests.support.authority import Authority
from tests.support.tuf_device import around, source
from tests.support.tuf_site import Handler, Site, dripping, serve

BLOB = hashlib.sha256(b"blob").digest() * 4096  # 128 KiB
CONTENT = Content(sha256=hashlib.sha256(BLOB).hexdigest(), size=len(BLOB))
FAST = UpdateConfig(stall_s=1, slowest=1000)


@pytest.fixture
def site() -> Iterator[Site]:
    with serve({CONTENT.path: BLOB}) as running:
        yield running


def test_a_slow_answer_costs_no_more_than_its_bound(site: Site) -> None:
    site.answers[CONTENT.path] = dripping(site, BLOB, every_s=0.02)
    began = time.monotonic()
    with (
        contextlib.closing(source(site.url, config=FAST, attempts=3)) as http,
        pytest.raises(TooSlowError) as refusal,
    ):
        list(http.read(CONTENT, [ByteRange(0, len(BLOB))]))
    assert str(refusal.value) == f"vendor repository: {CONTENT.path}: slower than 1000 bytes per second"
    assert 1.5 < time.monotonic() - began < 20, "all of it would take minutes"
    assert len(site.asked) == 1, "it is not asked again"


def test_chunk_headers_a_byte_at_a_time(site: Site) -> None:
    """Between chunks no byte of content comes, and no single wait is long."""

    def answer(handler: Handler) -> None:
        handler.connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            while not site.ended.wait(0.1):
                handler.connection.sendall(b"0")

    site.answers["metadata/timestamp.json"] = answer
    with contextlib.closing(source(site.url, config=FAST)) as http, pytest.raises(TooSlowError) as refusal:
        http.get("metadata/timestamp.json", at_most=100)
    assert str(refusal.value) == "vendor repository: metadata/timestamp.json: no byte for 1 s"


def test_the_readers_own_time_does_not_count(site: Site) -> None:
    """Writing a slot is slow; that is not the server's fault."""
    ranges = [ByteRange(start, 32_768) for start in range(0, len(BLOB), 32_768)]
    with contextlib.closing(source(site.url, config=UpdateConfig(stall_s=1, slowest=1 << 20))) as http:
        got = []
        for piece in http.read(CONTENT, ranges):
            got.append(piece)
            time.sleep(0.8)
    assert b"".join(got) == BLOB


def _source(url: str, authority: Authority) -> HttpSource:
    return HttpSource(url, name="v", ca=authority.pem, config=FAST, attempts=1, around=around(), bucket=None)


def test_slow_retrieval_over_https_is_cut_too() -> None:
    ours = Authority()
    with serve({}, ours.server("127.0.0.1")) as site:
        site.answers["a"] = dripping(site, b"", every_s=0.05, headers_too=True)
        began = time.monotonic()
        with pytest.raises(TooSlowError) as refusal:
            _source(site.url, ours).get("a", at_most=2)
        assert str(refusal.value) == "v: a: no answer for 1 s"
        assert time.monotonic() - began < 20


def test_a_server_that_does_not_shake_hands() -> None:
    """It accepts the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        http = _source(f"https://127.0.0.1:{silent.getsockname()[1]}", Authority())
        with pytest.raises(TooSlowError) as refusal:
            http.get("a", at_most=1)
        assert str(refusal.value) == "v: a: no answer for 1 s"
