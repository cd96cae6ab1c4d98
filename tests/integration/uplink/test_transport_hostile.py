"""A broker that means harm: nothing it sends crashes, stalls or grows the transport, and a good one is found after."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from appliance.uplink.dialect import Publish
from appliance.uplink.events import Acknowledged, Connected, Heard, Lost, TransportEvent
from appliance.uplink.frames import ProtocolError
from appliance.uplink.opening import EndedError, Opening
from appliance.uplink.session import Session
from appliance.uplink.wire import Wire
from tests.integration.uplink.scripted_broker import CONNACK, PINGREQ, PUBLISH, SUBSCRIBE, Peer, scripted, serve_well
from tests.integration.uplink.transport_harness import Site

BROKE = "the broker broke the protocol: "


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    made = Site(tmp_path_factory.mktemp("site"))
    made.subscriptions = ("plant/a", "plant/b")
    return made


def said(data: bytes) -> Callable[[Peer], None]:
    """After a good CONNACK, these bytes."""

    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(data)
        peer.read_until(PINGREQ)

    return script


def at_once(data: bytes) -> Callable[[Peer], None]:
    """Instead of CONNACK."""

    def script(peer: Peer) -> None:
        peer.send(data)
        peer.read_until(PINGREQ)

    return script


def property_bomb(kind: int) -> bytes:
    """As many user properties as one packet may hold."""
    body = b"\x26\x00\x00\x00\x00" * 3000
    length = bytes([len(body) & 127 | 128, len(body) >> 7])
    whole = (b"\x00\x00" if kind == 0x20 else b"\x00\x01a") + length + body
    return bytes([kind, len(whole) & 127 | 128, len(whole) >> 7]) + whole


HOSTILE: tuple[tuple[str, Callable[[Peer], None], str], ...] = (
    ("hangs up in the handshake's next breath", lambda peer: None, "the broker closed the connection"),
    ("garbage", at_once(bytes(range(256)) * 8), BROKE + "it sent type 0 with flags 0, which a client never gets"),
    ("a PUBACK first", at_once(b"\x40\x02\x00\x01"), BROKE + "it sent PUBACK before CONNACK"),
    ("half a CONNACK, then the end", lambda peer: peer.send(CONNACK[:3]), "the broker closed the connection"),
    ("an empty CONNACK", at_once(b"\x20\x00"), BROKE + "Protocol error"),
    ("CONNACK with a reason that is none", at_once(b"\x20\x03\x00\x42\x00"), BROKE + "Protocol error"),
    ("CONNACK with a property that is none", at_once(b"\x20\x05\x00\x00\x02\x7f\x00"), BROKE + "Protocol error"),
    ("CONNACK with a property cut off", at_once(b"\x20\x05\x00\x00\x09\x21\x00"), BROKE + "Protocol error"),
    ("Receive Maximum 0", at_once(b"\x20\x06\x00\x00\x03\x21\x00\x00"), BROKE + "Protocol error"),
    ("a second CONNACK", said(CONNACK), BROKE + "it sent a second CONNACK"),
    (
        "268 MB announced",
        said(b"\x30\xff\xff\xff\x7f" + bytes(64)),
        BROKE + "it announced PUBLISH of 268435455 bytes, at most 131072 are allowed",
    ),
    ("a length without end", said(b"\x40" + b"\xff" * 64), BROKE + "it sent a length of more than four bytes"),
    (
        "a topic alias and no topic",
        said(b"\x30\x06\x00\x00\x03\x23\x00\x01"),
        BROKE + "it sent PUBLISH with a topic alias, we allow none",
    ),
    (
        "a topic alias and a topic",
        said(b"\x30\x07\x00\x01a\x03\x23\x00\x01"),
        BROKE + "it sent PUBLISH with a topic alias, we allow none",
    ),
    (
        "a topic that is no UTF-8",
        said(b"\x30\x04\x00\x01\xff\x00"),
        BROKE + "it sent PUBLISH with a topic that is no text",
    ),
    ("QoS 2", said(b"\x34\x06\x00\x01a\x00\x01\x00"), BROKE + "it sent PUBLISH with QoS 2, we subscribe with 1"),
    ("SUBACK for nothing", said(b"\x90\x04\x7f\x7f\x00\x00"), BROKE + "it sent SUBACK for nothing that we asked"),
    (
        "SUBACK with too few answers",
        said(b"\x90\x04\x00\x01\x00\x01"),
        BROKE + "it sent SUBACK for nothing that we asked",
    ),
    ("SUBACK with nonsense", said(b"\x90\x01\x00"), BROKE + "Protocol error"),
    (
        "a bomb of properties",
        said(property_bomb(0x30)),
        BROKE + "it sent PUBLISH with 15000 bytes of properties, at most 4096 are allowed",
    ),
    ("AUTH", said(b"\xf0\x00"), BROKE + "it sent AUTH with flags 0, which a client never gets"),
    ("DISCONNECT with nonsense", said(b"\xe0\x02\x77\x00"), BROKE + "Protocol error"),
    (
        "DISCONNECT with a session expiry",
        said(b"\xe0\x07\x00\x05\x11\x00\x00\x00\x01"),
        "the broker hung up: Normal disconnection (0x00)",
    ),
)


@pytest.mark.parametrize(("_name", "script", "reason"), HOSTILE, ids=[row[0] for row in HOSTILE])
def test_what_it_says_ends_the_connection_with_a_reason_and_the_next_broker_is_taken(
    site: Site, _name: str, script: Callable[[Peer], None], reason: str
) -> None:
    with (
        scripted(site.authority, script) as hostile,
        scripted(site.authority, serve_well) as good,
        site.transport(hostile.port, good.port) as (transport, listener),
    ):
        assert listener.nth(Lost).reason == reason
        connected = listener.nth(Connected)
        assert connected.broker == f"127.0.0.1:{good.port}"
        transport.publish(connected.connection, 7, Publish("plant/verdict", b"{}"))
        transport.flush()
        assert listener.nth(Acknowledged).token == 7


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def flood(peer: Peer) -> None:
    """Says 268 MB, and sends them."""
    peer.accept()
    peer.send(b"\x30\xff\xff\xff\x7f")
    with contextlib.suppress(OSError):
        for _ in range(1024):
            peer.send(bytes(256 << 10))


def test_256_mb_are_cut_before_memory_grows(site: Site) -> None:
    with scripted(site.authority, flood) as hostile, site.transport(hostile.port) as (_, listener):
        listener.nth(Lost, 2)
        before = resident()
        listener.nth(Lost, 8)
        assert resident() - before < 8 << 20


def chatter(peer: Peer) -> None:
    """Messages for ever, and it never reads our acknowledgements."""
    peer.accept()
    peer.send(b"\x90\x05\x00\x01\x00\x01\x01")
    message = b"\x32\x87\x08\x00\x01a\x00\x01\x00" + bytes(1025)
    with contextlib.suppress(OSError):
        while True:
            peer.send(message * 64)


def test_a_broker_that_talks_for_ever_and_never_reads_does_not_grow_us_and_does_not_stall_stopping(site: Site) -> None:
    with scripted(site.authority, chatter) as hostile:
        with site.transport(hostile.port) as (transport, listener):
            connection = listener.nth(Connected).connection
            begin = time.monotonic()
            before = resident()
            heard = 0
            while time.monotonic() < begin + 2:
                time.sleep(0.1)
                heard += len(listener.of(Heard))
                with listener._changed:
                    listener.events[:] = [event for event in listener.events if not isinstance(event, Heard)]
                for number in range(50):
                    transport.publish(connection, number, Publish("plant/verdict", bytes(4096)))
                transport.flush()
            assert 500 < heard <= 4000  # 1000 in each second, the others are dropped
            assert resident() - before < 24 << 20
            begin = time.monotonic()
        assert time.monotonic() - begin < 5.0


def drip(peer: Peer) -> None:
    """A CONNACK with 16,000 bytes of properties, a byte at a time."""
    peer.read()
    peer.send(b"\x20\x80\x7d\x00\x00\xfd\x7c")
    with contextlib.suppress(OSError):
        while True:
            peer.send(b"\x26")
            time.sleep(0.01)


def test_an_endless_connack_is_not_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.uplink.pulse.OPENING_S", 1.0)
    with (
        scripted(site.authority, drip) as hostile,
        scripted(site.authority, serve_well) as good,
        site.transport(hostile.port, good.port) as (_, listener),
    ):
        assert listener.nth(Lost).reason == "the broker did not accept us within 1 s"
        assert listener.nth(Connected).broker == f"127.0.0.1:{good.port}"


def miser(peer: Peer) -> None:
    """Answers pings, and never acknowledges."""
    peer.accept()
    peer.send(b"\x90\x05\x00\x01\x00\x01\x01")
    while packet := peer.read():
        if packet[0] >> 4 == PINGREQ:
            peer.send(b"\xd0\x00")
        if packet[0] >> 4 == PUBLISH:
            peer.send(b"\x40\x02\x7f\x7f")  # for nothing that we sent


def test_a_broker_that_answers_pings_and_acknowledges_nothing_is_left(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.uplink.pulse.OPENING_S", 1.0)
    with (
        scripted(site.authority, miser) as hostile,
        site.transport(hostile.port, keepalive_s=1.0) as (transport, listener),
    ):
        transport.publish(listener.nth(Connected).connection, 1, Publish("plant/verdict", b"{}"))
        transport.flush()
        assert listener.nth(Lost).reason in (
            "the broker has acknowledged nothing for 2 s",
            "the broker has acknowledged nothing for 3 s",
        )
        assert listener.of(Acknowledged) == []


class Pipe:
    """Stands where a Wire has its TLS socket: what the broker says comes in pieces, then the end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def recv(self, _size: int) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def send(self, data: memoryview) -> int:
        return len(data)

    def pending(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing to close."""

    def fileno(self) -> int:
        return 0


def test_a_number_is_not_used_again_before_its_message_was_acknowledged() -> None:
    """One message waits for ever, 65,536 others come and go: their acknowledgements are theirs."""
    events: list[TransportEvent] = []
    pipe: object = Pipe([])
    wire = Wire(pipe)  # type: ignore[arg-type]
    session = Session(1, "b:1", wire, device="line-3", keepalive_s=30, unchecked_times=True, report=events.append)
    session.open(Opening(None, (), Path(), Path()))
    wire._in.append(CONNACK)
    session._client.loop_read()
    events.clear()
    message = Publish("a", b"", content_type="")
    for token in range(65_540):
        session.publish(message, token)
        session.flush()
        if token:
            session._answered(session._last_number, 0)
    assert [event.token for event in events if isinstance(event, Acknowledged)] == list(range(1, 65_540))
    session._answered(1, 0)
    assert isinstance(events[-1], Acknowledged)
    assert events[-1].token == 0


PACKETS = st.sampled_from(
    (
        CONNACK,
        b"\x20\x0b\x00\x00\x08\x21\x00\x05\x27\x00\x00\x10\x00",
        b"\x90\x05\x00\x01\x00\x01\x01",
        b"\x40\x02\x00\x02",
        b"\x40\x04\x00\x02\x97\x00",
        b"\x32\x08\x00\x01a\x00\x01\x00hi",
        b"\x30\x05\x00\x01b\x00x",
        b"\xd0\x00",
        b"\xe0\x00",
        b"\xe0\x02\x8e\x00",
        b"\x30\x0f\x00\x01b\x08\x26\x00\x01k\x00\x02vwpay",
    )
)


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """Valid packets with a few bytes changed, cut anywhere; or nothing but noise."""
    stream = bytearray(b"".join([CONNACK, *draw(st.lists(PACKETS, max_size=8))]) + draw(st.binary(max_size=24)))
    for _ in range(draw(st.integers(0, 4))):
        stream[draw(st.integers(0, len(stream) - 1))] = draw(st.integers(0, 255))
    pieces, at = [], 0
    while at < len(stream):
        size = draw(st.integers(1, len(stream)))
        pieces.append(bytes(stream[at : at + size]))
        at += size
    return pieces


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(conversations())
def test_whatever_a_broker_says_the_session_ends_in_order(pieces: list[bytes]) -> None:
    """The transport contains anything; what is meant to happen is one of these two."""
    events: list[TransportEvent] = []
    pipe: object = Pipe(list(pieces))
    wire = Wire(pipe)  # type: ignore[arg-type]
    session = Session(1, "b:1", wire, device="line-3", keepalive_s=30, unchecked_times=True, report=events.append)
    session.open(Opening(None, ("plant/a", "plant/b"), Path(), Path()))
    with pytest.raises((EndedError, ProtocolError)):
        for _ in range(len(pieces) + 2):
            session._read()
            if session.ready:
                session.publish(Publish("plant/verdict", b"{}"), 5)
            session.flush()
    assert sum(isinstance(event, Connected) for event in events) <= 1
    assert SUBSCRIBE == 8
