"""The transport over real sockets: bounds, ranges, resuming, pace, TLS; every refusal with its message."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator

import pytest

from appliance.core.errors import EdgesealError, InputError
from appliance.formats.device import UpdateConfig
from appliance.formats.release import Content
from appliance.update.http import HttpSource, Surroundings
from appliance.update.pace import TokenBucket
from appliance.update.ranges import ByteRange
from appliance.update.transport import (
    InterruptedTransferError,
    NotThereError,
    TooMuchDataError,
    TransportError,
)
from tests.support.tuf_device import source
from tests.support.tuf_site import Answer, Handler, Site, endless, serve

BLOB = hashlib.sha256(b"blob").digest() * 4096  # 128 KiB
CONTENT = Content(sha256=hashlib.sha256(BLOB).hexdigest(), size=len(BLOB))
FAST = UpdateConfig(stall_s=1, slowest=1000, retry_min_s=1, retry_max_s=1)


@pytest.fixture
def site() -> Iterator[Site]:
    with serve({CONTENT.path: BLOB, "metadata/timestamp.json": b"{}"}) as running:
        yield running


def read(site: Site, *ranges: tuple[int, int], attempts: int = 1) -> list[bytes]:
    with contextlib.closing(source(site.url, config=FAST, attempts=attempts)) as http:
        return list(http.read(CONTENT, [ByteRange(*each) for each in ranges]))


# --- ranges


def test_ranges_come_in_order_on_one_connection_and_neighbours_in_one_request(site: Site) -> None:
    parts = [(4096, 10), (4106, 90), (4196, 100_000), (0, 1), (131_071, 1)]
    assert read(site, *parts) == [BLOB[start : start + length] for start, length in parts]
    assert site.ranges == ["bytes=4096-104195", "bytes=0-0", "bytes=131071-131071"]
    assert site.connections == 1


def test_a_whole_file_is_asked_for_without_a_range(site: Site) -> None:
    assert b"".join(read(site, (0, 65_536), (65_536, 65_536))) == BLOB
    assert site.ranges == [None]


def test_nothing_is_asked_for_nothing(site: Site) -> None:
    assert read(site) == []
    assert site.asked == []


@pytest.mark.parametrize("part", [(0, 0), (-1, 2), (131_072, 1), (131_071, 2)])
def test_a_range_outside_the_file_is_not_asked_for(part: tuple[int, int], site: Site) -> None:
    with pytest.raises(InputError) as refusal:
        read(site, part)
    assert str(refusal.value) == f"{CONTENT.path}: bytes {part[0]}+{part[1]} of 131072"
    assert site.asked == []


def _cut_after(count: int) -> Answer:
    """The right answer, but the line goes dead after `count` bytes."""

    def answer(handler: Handler) -> None:
        wanted = handler.headers.get("Range")
        first, last = (int(text) for text in wanted[6:].split("-")) if wanted else (0, len(BLOB) - 1)
        data = BLOB[first : last + 1]
        handler.send_response(206 if wanted else 200)
        handler.send_header("Content-Length", str(len(data)))
        if wanted:
            handler.send_header("Content-Range", f"bytes {first}-{last}/{len(BLOB)}")
        handler.end_headers()
        handler.wfile.write(data[:count])
        handler.wfile.flush()
        if count < len(data):
            handler.hang_up()

    return answer


def test_a_broken_transfer_goes_on_where_it_stopped(site: Site) -> None:
    site.answers[CONTENT.path] = _cut_after(50_000)
    assert b"".join(read(site, (0, len(BLOB)), attempts=2)) == BLOB
    assert site.ranges == [None, "bytes=50000-131071", "bytes=100000-131071"]


def test_a_broken_transfer_without_another_attempt(site: Site) -> None:
    site.answers[CONTENT.path] = _cut_after(50_000)
    with pytest.raises(InterruptedTransferError) as refusal:
        read(site, (0, len(BLOB)))
    assert str(refusal.value) == f"vendor repository: {CONTENT.path}: the connection was lost"


def test_no_progress_ends_it(site: Site) -> None:
    site.answers[CONTENT.path] = _cut_after(0)
    with pytest.raises(InterruptedTransferError):
        read(site, (5, 10), attempts=3)
    assert site.ranges == ["bytes=5-14"] * 3


# --- answers that are refused

PART = (10, 20)
WHAT = f"vendor repository: {CONTENT.path}"
ANSWERS: list[tuple[str, Answer, type[EdgesealError], str]] = [
    (
        "the whole file",
        lambda handler: handler.say(200, BLOB),
        TransportError,
        "the server sends the whole file, not the part that was asked for",
    ),
    (
        "another part",
        lambda handler: handler.say(206, b"x" * 20, **{"Content-Range": "bytes 0-19/131072"}),
        TransportError,
        "bytes 10-29/131072 were asked for, the answer has 'bytes 0-19/131072'",
    ),
    (
        "of another file",
        lambda handler: handler.say(206, b"x" * 20, **{"Content-Range": "bytes 10-29/131073"}),
        TransportError,
        "bytes 10-29/131072 were asked for, the answer has 'bytes 10-29/131073'",
    ),
    (
        "no Content-Range",
        lambda handler: handler.say(206, b"x" * 20),
        TransportError,
        "bytes 10-29/131072 were asked for, the answer has ''",
    ),
    (
        "more than the part",
        lambda handler: handler.say(206, b"x" * 21, **{"Content-Range": "bytes 10-29/131072"}),
        TooMuchDataError,
        "21 bytes are announced, at most 20 are allowed",
    ),
    (
        "less than the part",
        lambda handler: handler.say(206, b"x" * 19, **{"Content-Range": "bytes 10-29/131072"}),
        InterruptedTransferError,
        "it ended after 19 of 20 bytes",
    ),
    (
        "compressed",
        lambda handler: handler.say(206, b"x" * 20, **{"Content-Encoding": "gzip"}),
        TransportError,
        "the server compresses, which was not asked for",
    ),
    ("416", lambda handler: handler.say(416, b""), TransportError, "the server answers 416"),
    (
        "404",
        lambda handler: handler.say(404, b"not here"),
        NotThereError,
        "the server has no such file (404)",
    ),
    ("403", lambda handler: handler.say(403, b""), NotThereError, "the server has no such file (403)"),
    ("503", lambda handler: handler.say(503, b""), InterruptedTransferError, "the server is in trouble (503)"),
    ("429", lambda handler: handler.say(429, b""), InterruptedTransferError, "the server is in trouble (429)"),
    (
        "a redirect",
        lambda handler: handler.say(301, b"", Location="http://127.0.0.1:1/"),
        TransportError,
        "the server sends us elsewhere (301); redirects are not followed",
    ),
    (
        "a line that is no HTTP",
        lambda handler: _raw(handler, b"hello\r\n\r\n"),
        InterruptedTransferError,
        "the connection was lost",
    ),
    ("nothing", lambda handler: handler.hang_up(), InterruptedTransferError, "the connection was lost"),
    (
        "a length that is no number",
        lambda handler: _raw(
            handler,
            b"HTTP/1.1 206 OK\r\nContent-Length: +20\r\nContent-Range: bytes 10-29/131072\r\n\r\n" + b"x" * 20,
        ),
        TransportError,
        "a Content-Length that is no number",
    ),
]


def _raw(handler: Handler, data: bytes) -> None:
    handler.connection.sendall(data)
    handler.hang_up()


@pytest.mark.parametrize(("answer", "kind", "said"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS])
def test_refused_answers(answer: Answer, kind: type[EdgesealError], said: str, site: Site) -> None:
    site.answers[CONTENT.path] = answer
    with pytest.raises(EdgesealError) as refusal:
        read(site, PART)
    assert str(refusal.value) == f"{WHAT}: {said}"
    assert type(refusal.value) is kind


def test_after_a_refusal_the_source_can_be_used(site: Site) -> None:
    """What was left unread of the bad answer is not taken for the next one."""
    site.answers[CONTENT.path] = endless(site, announce=20)
    with contextlib.closing(source(site.url, config=FAST)) as http:
        with pytest.raises(TransportError):
            list(http.read(CONTENT, [ByteRange(*PART)]))
        assert http.get("metadata/timestamp.json", at_most=2) == b"{}"


def test_an_abandoned_read_leaves_the_source_usable(site: Site) -> None:
    with contextlib.closing(source(site.url, config=FAST)) as http:
        pieces = http.read(CONTENT, [ByteRange(0, 4096), ByteRange(4096, 4096)])
        assert next(pieces) == BLOB[:4096]
        del pieces
        assert http.get("metadata/timestamp.json", at_most=2) == b"{}"


def test_a_kept_connection_that_the_server_closed_is_no_fault(site: Site) -> None:
    """Servers hang up on idle connections; the request is sent once more, on a new one, without counting."""
    site.answers["a"] = lambda handler: _raw(handler, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    with contextlib.closing(source(site.url, config=FAST)) as http:
        for _ in range(3):
            assert http.get("a", at_most=2) == b"{}"
            time.sleep(0.05)
    assert site.connections == 3


def test_a_server_in_trouble_is_asked_again_after_a_pause(site: Site) -> None:
    times = iter((503, 503))

    def answer(handler: Handler) -> None:
        status = next(times, None)
        handler.give(b"{}") if status is None else handler.say(status, b"")

    slept: list[float] = []
    calm = Surroundings(clock=time.monotonic, sleep=slept.append, draw=lambda: 0.5)
    config = UpdateConfig(retry_min_s=10, retry_max_s=3600)
    site.answers["metadata/timestamp.json"] = answer
    http = HttpSource(site.url, name="v", ca=None, config=config, attempts=3, around=calm, bucket=None)
    assert http.get("metadata/timestamp.json", at_most=2) == b"{}"
    assert slept == [5.0, 10.0]
    http.close()


# --- limits on one file


@pytest.mark.parametrize("announce", [3, None], ids=["announced", "in chunks"])
def test_one_byte_too_many(announce: int | None, site: Site) -> None:
    site.files["metadata/timestamp.json"] = b"{ }"
    if announce is None:
        site.answers["metadata/timestamp.json"] = lambda handler: _raw(
            handler, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{ }\r\n0\r\n\r\n"
        )
    with contextlib.closing(source(site.url)) as http:
        assert http.get("metadata/timestamp.json", at_most=3) == b"{ }"
        with pytest.raises(TooMuchDataError):
            http.get("metadata/timestamp.json", at_most=2)


# --- pace


def test_a_bandwidth_cap_holds(site: Site) -> None:
    """128 KiB at 64 KiB/s, of which one second's worth is free: 64 KiB to pay for."""
    slept: list[float] = []
    frozen = Surroundings(clock=lambda: 100.0, sleep=slept.append, draw=lambda: 0.0)
    bucket = TokenBucket(65_536, now=100.0)
    http = HttpSource(site.url, name="v", ca=None, config=UpdateConfig(), attempts=1, around=frozen, bucket=bucket)
    assert b"".join(http.read(CONTENT, [ByteRange(0, len(BLOB))])) == BLOB
    http.close()
    assert slept[-1] == pytest.approx(1.0), "time stands still here: the debt is what 64 KiB cost"
    assert slept == sorted(slept)


# --- addresses


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://site.test/", "'ftp://site.test/' is not an http: or https: address"),
        ("site.test/vendor", "'site.test/vendor' is not an http: or https: address"),
        ("", "'' is not an http: or https: address"),
        ("http://[::1", "'http://[::1' is not an address"),
        ("http://user:word@site.test/", "'http://user:word@site.test/': only scheme, host, port and path are allowed"),
        ("http://site.test/?a=b", "'http://site.test/?a=b': only scheme, host, port and path are allowed"),
        ("http://site.test/#a", "'http://site.test/#a': only scheme, host, port and path are allowed"),
        ("https://site.test/", "'https://site.test/' needs the authority that signed the server's certificate"),
    ],
)
def test_addresses_that_are_refused(url: str, said: str) -> None:
    with pytest.raises(InputError) as refusal:
        source(url)
    assert str(refusal.value) == f"vendor repository: {said}"


def test_no_connection(site: Site) -> None:
    port = site.server_address[1]
    site.shutdown()
    site.server_close()
    with pytest.raises(InterruptedTransferError) as refusal:
        source(f"http://127.0.0.1:{port}").get("metadata/timestamp.json", at_most=10)
    assert str(refusal.value) == (
        f"vendor repository: metadata/timestamp.json: no connection to 127.0.0.1:{port}: connection refused"
    )


def test_a_base_path_and_encoded_names_are_sent_as_they_are(site: Site) -> None:
    name = "a%5Bb%5D/metadata/1...%2Frole%3F.json"
    site.files[name] = b"{}"
    assert source(f"{site.url}/a%5Bb%5D/").get("metadata/1...%2Frole%3F.json", at_most=2) == b"{}"
    assert site.asked == [name]
