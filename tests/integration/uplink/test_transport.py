"""The transport against a real broker, and against one that says exactly what a test wants."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from appliance.uplink.dialect import Publish
from appliance.uplink.events import Acknowledged, Connected, Heard, Lost, Rejected, Sent
from appliance.uplink.transport import Transport
from tests.integration.uplink.pki import mosquitto, running
from tests.integration.uplink.scripted_broker import (
    DISCONNECT,
    PINGREQ,
    PUBLISH,
    SUBSCRIBE,
    Peer,
    publish_number,
    scripted,
    serve_well,
)
from tests.integration.uplink.transport_harness import Listener, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def send(transport: Transport, connection: int, *numbers: int, size: int = 10, qos: int = 1) -> None:
    for number in numbers:
        message = Publish("plant/line-3/verdict", bytes(size), qos=1 if qos else 0, properties=(("n", str(number)),))
        transport.publish(connection, number, message)
    transport.flush()


def tokens(listener: Listener) -> list[int]:
    return [event.token for event in listener.of(Acknowledged)]


def test_messages_are_acknowledged_in_order_and_heard_by_who_subscribed(site: Site) -> None:
    site.subscriptions = ("plant/line-3/receipt", "plant/line-3/certificate")
    with mosquitto(site.directory / "broker", site.authority) as port, site.transport(port) as (transport, listener):
        number = listener.nth(Connected).connection
        assert listener.nth(Connected).unsubscribed == ()
        send(transport, number, *range(1, 301))
        listener.wait(lambda _: len(tokens(listener)) == 300, "300 acknowledgements")
        assert tokens(listener) == list(range(1, 301))
        send(transport, number, 301, 302, qos=0)
        assert [listener.nth(Sent, 1).token, listener.nth(Sent, 2).token] == [301, 302]
        transport.say(number, Publish("plant/line-3/receipt", b"{}"))  # ours: noLocal
        transport.flush()
        send(transport, number, 303)
        listener.wait(lambda _: 303 in tokens(listener), "the last")
        assert listener.of(Heard) == []


def test_retained_messages_are_heard_after_connected(site: Site) -> None:
    site.subscriptions = ("a", "b")

    def script(peer: Peer) -> None:
        peer.accept()
        subscribe = peer.read_until(SUBSCRIBE)
        peer.send(b"\x31\x06\x00\x01a\x00hi" + b"\x90\x05" + subscribe[2:4] + b"\x00\x01\x87")
        peer.read()

    with scripted(site.authority, script) as broker, site.transport(broker.port) as (_, listener):
        heard = listener.nth(Heard)
        assert (heard.topic, heard.payload) == ("a", b"hi")
        assert listener.events.index(listener.nth(Connected)) < listener.events.index(heard)
        assert listener.nth(Connected).unsubscribed == ("b",)


def test_no_more_messages_are_in_flight_than_the_broker_allows(site: Site) -> None:
    """Receive Maximum 3: the fourth comes only when one was acknowledged. Topics are never aliased."""
    most: list[int] = []

    def script(peer: Peer) -> None:
        peer.accept(b"\x21\x00\x03")
        for _ in range(4):
            waiting = [peer.read_until(PUBLISH) for _ in range(3)]
            peer._sock.settimeout(0.3)
            most.append(len(waiting) + bool(peer._sock.pending() or peer.read()))
            peer._sock.settimeout(20)
            for packet in waiting:
                peer.acknowledge(packet)
        peer.read()

    with scripted(site.authority, script) as broker, site.transport(broker.port) as (transport, listener):
        connected = listener.nth(Connected)
        assert connected.receive_maximum == 3
        send(transport, connected.connection, *range(12))
        listener.wait(lambda _: len(tokens(listener)) == 12, "12 acknowledgements")
    assert most == [3, 3, 3, 3]


def test_a_message_over_the_brokers_packet_size_is_rejected_and_the_others_go_on(site: Site) -> None:
    with (
        mosquitto(site.directory / "broker", site.authority, lines="max_packet_size 1000") as port,
        site.transport(port) as (transport, listener),
    ):
        connected = listener.nth(Connected)
        assert connected.maximum_packet_size == 1000
        send(transport, connected.connection, 1)
        send(transport, connected.connection, 2, size=2000)
        send(transport, connected.connection, 3)
        listener.wait(lambda _: tokens(listener) == [1, 3], "the two small ones")
        [rejected] = listener.of(Rejected)
    assert (rejected.token, rejected.code) == (2, None)
    assert rejected.reason == "the broker takes packets of 1000 bytes, this one has 2054"


def test_a_refused_message_is_told_with_its_code_and_the_connection_stays(site: Site) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.acknowledge(peer.read_until(PUBLISH), 0x87)
        peer.acknowledge(peer.read_until(PUBLISH), 0x10)
        peer.read()

    with scripted(site.authority, script) as broker, site.transport(broker.port) as (transport, listener):
        send(transport, listener.nth(Connected).connection, 1, 2)
        assert listener.nth(Acknowledged).token == 2
        [rejected] = listener.of(Rejected)
    assert rejected.reason == "the broker refused the message: Not authorized (0x87)"
    assert rejected.code == 0x87


REFUSALS = (
    (b"\x20\x03\x00\x87\x00", "the broker refused us: Not authorized (0x87)"),
    (b"\x20\x03\x00\x89\x00", "the broker refused us: Server busy (0x89)"),
    (
        b"\x20\x03\x00\x9c\x00",
        "the broker refused us and named another server for now, which we do not follow: Use another server (0x9c)",
    ),
    (
        b"\x20\x0b\x00\x9d\x08\x1c\x00\x05evil!",
        "the broker refused us and named another server for good, which we do not follow: Server moved (0x9d)",
    ),
    (b"\x20\x03\x01\x00\x00", "the broker broke the protocol: it remembers a session that we told it to forget"),
    (b"\x20\x05\x00\x00\x02\x24\x00", "the broker takes no messages with QoS 1"),
    (b"\x20\x03\x00\x00\x00\xe0\x01\x8e", "another client connected with our name: Session taken over (0x8e)"),
    (b"\x20\x03\x00\x00\x00\xe0\x01\x8b", "the broker hung up: Server shutting down (0x8b)"),
    (
        b"\x20\x03\x00\x00\x00\xe0\x01\x9c",
        "the broker hung up and named another server for now, which we do not follow: Use another server (0x9c)",
    ),
    (b"", "the broker closed the connection"),
)


@pytest.mark.parametrize(("answer", "reason"), REFUSALS, ids=[answer.hex() or "nothing" for answer, _ in REFUSALS])
def test_why_a_broker_did_not_take_us_or_let_us_go_is_told_in_words(site: Site, answer: bytes, reason: str) -> None:
    def script(peer: Peer) -> None:
        peer.read()
        peer.send(answer)

    with scripted(site.authority, script) as broker, site.transport(broker.port) as (_, listener):
        lost = listener.nth(Lost)
        assert lost.reason == reason
        assert lost.connect_sent


def test_what_connect_says(site: Site) -> None:
    site.will = Publish("plant/line-3/dead", b"gone", properties=(("device", "line-3"),))
    with scripted(site.authority, serve_well) as broker:
        with site.transport(broker.port, keepalive_s=17) as (_, listener):
            listener.nth(Connected)
        connect, goodbye = broker.peers[0].packets[0], broker.peers[0].packets[-1]
    head = bytes.fromhex("0004") + b"MQTT" + bytes([5, 0x0E, 0, 17])  # clean start, a will with QoS 1, keepalive 17
    properties = bytes.fromhex("1100000000 210010 270002 0000 220000".replace(" ", ""))
    assert connect[2:].startswith(head + bytes([len(properties)]))
    sent = connect[2 + len(head) + 1 :][: len(properties)]
    assert sorted(sent) == sorted(properties)
    assert b"\x00\x11plant/line-3/dead\x00\x04gone" in connect
    assert goodbye == b"\xe0\x01\x04"


def test_a_broker_that_falls_silent_is_left_within_one_and_a_half_keepalives(site: Site) -> None:
    """Idle, and while we go on publishing: a half-open link looks the same from here."""

    def script(peer: Peer) -> None:
        peer.accept(b"\x13\x00\x02")  # Server Keep Alive 2 s
        peer.read_until(DISCONNECT)

    with (
        scripted(site.authority, script) as broker,
        site.transport(broker.port, keepalive_s=30, pause_s=0.01) as (transport, listener),
    ):
        for attempt, busy in ((1, False), (2, True)):
            connection = listener.nth(Connected, attempt).connection
            begin = time.monotonic()
            while len(listener.of(Lost)) < attempt and time.monotonic() < begin + 10:
                if busy:
                    send(transport, connection, 1)
                time.sleep(0.05)
            took = time.monotonic() - begin
            assert 2.3 < took < 3.6, took  # a step of the transport is up to a second
        assert [event.reason for event in listener.of(Lost)[:2]] == ["the broker has said nothing for 3 s"] * 2
        assert bytes([PINGREQ << 4, 0]) in broker.peers[0].packets


def test_the_next_broker_is_taken_when_one_is_down_and_left_again_in_order_when_it_is_back(site: Site) -> None:
    first, second = site.directory / "first", site.directory / "second"
    with mosquitto(first, site.authority) as port:
        pass  # it has been, and has a port
    with (
        mosquitto(second, site.authority) as stand_in,
        site.transport(port, stand_in, return_s=0.5) as (transport, listener),
    ):
        connected = listener.nth(Connected)
        assert listener.nth(Lost).broker == f"127.0.0.1:{port}"
        assert listener.nth(Lost).reason == "Connection refused"
        assert not listener.nth(Lost).connect_sent
        assert connected.broker == f"127.0.0.1:{stand_in}"
        time.sleep(2.2)  # it is looked for, and not there: nothing happens
        assert len(listener.of(Connected)) == 1
        with running(first, port):
            send(transport, connected.connection, *range(1, 201))
            back = listener.nth(Connected, 2)
            assert back.broker == f"127.0.0.1:{port}"
            lost = listener.of(Lost)[-1]
            assert (lost.connection, lost.reason) == (
                connected.connection,
                f"going back to 127.0.0.1:{port}, which answers again",
            )
            assert tokens(listener) == list(range(1, 201))  # what was in flight was waited for
        assert listener.nth(Connected, 3).broker in (f"127.0.0.1:{port}", f"127.0.0.1:{stand_in}")


def test_an_earlier_broker_that_shakes_hands_and_takes_nobody_costs_one_attempt(site: Site) -> None:
    def refuse(peer: Peer) -> None:
        peer.read()
        peer.send(b"\x20\x03\x00\x89\x00")

    with (
        scripted(site.authority, refuse) as first,
        scripted(site.authority, serve_well) as second,
        site.transport(first.port, second.port, return_s=0.3) as (_, listener),
    ):
        again = listener.nth(Connected, 2)
        assert {event.broker for event in listener.of(Connected)} == {f"127.0.0.1:{second.port}"}
        reasons = [event.reason for event in listener.of(Lost)]
        busy = "the broker refused us: Server busy (0x89)"
        assert reasons[:3] == [busy, f"going back to 127.0.0.1:{first.port}, which answers again", busy]
        assert again.connection == 4


def test_hanging_up_is_in_order_and_walking_goes_to_the_next(site: Site) -> None:
    with (
        scripted(site.authority, serve_well) as first,
        scripted(site.authority, serve_well) as second,
        site.transport(first.port, second.port) as (transport, listener),
    ):
        send(transport, 1, 1)  # before there is a connection: dropped
        number = listener.nth(Connected).connection
        send(transport, number, 2, 3)
        transport.hang_up(number, "the certificate was renewed")
        assert listener.nth(Lost).reason == "the certificate was renewed"
        again = listener.nth(Connected, 2)
        assert again.broker == f"127.0.0.1:{first.port}"
        transport.hang_up(again.connection, "the primary host is offline", walk=True)
        assert listener.nth(Connected, 3).broker == f"127.0.0.1:{second.port}"
    assert first.peers[0].packets[-1] == b"\xe0\x00"
    assert tokens(listener) in ([2, 3], [1, 2, 3])


def test_stopping_sends_what_was_said_and_does_not_wait_for_a_broker_that_does_not_answer(site: Site) -> None:
    with scripted(site.authority, serve_well) as broker:
        with site.transport(broker.port) as (transport, listener):
            number = listener.nth(Connected).connection
            transport.say(number, Publish("plant/line-3/offline", b"bye"))
        assert [packet[0] >> 4 for packet in broker.peers[0].packets[-2:]] == [PUBLISH, DISCONNECT]
        assert publish_number(broker.peers[0].packets[-2]) == b"\x00\x01"

    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        with site.transport(black_hole.getsockname()[1]):
            time.sleep(0.3)
            begin = time.monotonic()
        assert time.monotonic() - begin < 1.0
