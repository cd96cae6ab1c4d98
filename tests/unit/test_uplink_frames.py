"""What a broker may send: cut into packets, refused by its first bytes, never kept."""

from __future__ import annotations

import pytest

from appliance.uplink.dialect import Publish
from appliance.uplink.frames import MAX_PACKET, Frames, ProtocolError, puback
from appliance.uplink.publishing import publish_packet

CONNACK = b"\x20\x03\x00\x00\x00"

REFUSED = (
    (b"\xd0\x00", "it sent PINGRESP before CONNACK"),
    (b"\x40\x02\x00\x01", "it sent PUBACK before CONNACK"),
    (CONNACK * 2, "it sent a second CONNACK"),
    (b"\x20\xff\xff\xff\x7f", "it announced CONNACK of 268435455 bytes, at most 16384 are allowed"),
    (CONNACK + b"\x30\xff\xff\xff\x7f", "it announced PUBLISH of 268435455 bytes, at most 131072 are allowed"),
    (CONNACK + b"\x30\x81\x80\x08", "it announced PUBLISH of 131073 bytes, at most 131072 are allowed"),
    (CONNACK + b"\x40\x81\x40", "it announced PUBACK of 8193 bytes, at most 4096 are allowed"),
    (CONNACK + b"\xd0\x01", "it announced PINGRESP of 1 bytes, at most 0 are allowed"),
    (CONNACK + b"\x40\xff\xff\xff\xff\x01", "it sent a length of more than four bytes"),
    (CONNACK + b"\x00\x00", "it sent type 0 with flags 0, which a client never gets"),
    (CONNACK + b"\x10\x00", "it sent CONNECT with flags 0, which a client never gets"),
    (CONNACK + b"\x50\x02\x00\x01", "it sent PUBREC with flags 0, which a client never gets"),
    (CONNACK + b"\x62\x02\x00\x01", "it sent PUBREL with flags 2, which a client never gets"),
    (CONNACK + b"\x82\x00", "it sent SUBSCRIBE with flags 2, which a client never gets"),
    (CONNACK + b"\xb0\x00", "it sent UNSUBACK with flags 0, which a client never gets"),
    (CONNACK + b"\xc0\x00", "it sent PINGREQ with flags 0, which a client never gets"),
    (CONNACK + b"\xf0\x00", "it sent AUTH with flags 0, which a client never gets"),
    (CONNACK + b"\x41\x02\x00\x01", "it sent PUBACK with flags 1, which a client never gets"),
    (CONNACK + b"\x34\x05\x00\x01a\x00\x01", "it sent PUBLISH with QoS 2, we subscribe with 1"),
    (CONNACK + b"\x36\x05\x00\x01a\x00\x01", "it sent PUBLISH with QoS 3, we subscribe with 1"),
    (CONNACK + b"\x30\x00", "it sent PUBLISH without a topic, or cut off"),
    (CONNACK + b"\x30\x03\x00\x01a", "it sent PUBLISH without a topic, or cut off"),
    (CONNACK + b"\x30\x03\xff\xffa", "it sent PUBLISH without a topic, or cut off"),
    (CONNACK + b"\x32\x05\x00\x00\x00\x01\x00", "it sent PUBLISH with a topic alias, we allow none"),
    (CONNACK + b"\x30\x04\x00\x01\xff\x00", "it sent PUBLISH with a topic that is no text"),
    (CONNACK + b"\x30\x05\x00\x01a\x05\x23", "it sent PUBLISH with properties cut off"),
    (CONNACK + b"\x30\x04\x00\x01a\x80", "it sent PUBLISH with properties cut off"),
    (
        CONNACK + b"\x30\x87\x20\x00\x01a\x81\x20" + bytes(4098),
        "it sent PUBLISH with 4097 bytes of properties, at most 4096 are allowed",
    ),
)


@pytest.mark.parametrize(("data", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_what_no_broker_may_send_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        Frames().feed(data)
    assert str(caught.value) == reason


def test_a_huge_length_is_refused_before_anything_of_it_has_come() -> None:
    frames = Frames()
    assert frames.feed(CONNACK) == [CONNACK]
    for byte in b"\x30\xff\xff\xff":
        assert frames.feed(bytes([byte])) == []
    with pytest.raises(ProtocolError):
        frames.feed(b"\x7f")


def test_the_largest_packet_that_is_allowed_passes() -> None:
    packet = b"\x30\x80\x80\x08\x00\x01a\x00" + bytes(MAX_PACKET - 4)
    frames = Frames()
    assert frames.feed(CONNACK + packet[:70_000]) == [CONNACK]
    assert frames.feed(packet[70_000:] + b"\xd0\x00") == [packet, b"\xd0\x00"]


def test_an_acknowledgement_has_a_number_and_a_reason() -> None:
    assert puback(b"\x40\x02\x01\x02") == (258, 0)
    assert puback(b"\x40\x03\x01\x02\x97") == (258, 0x97)
    assert puback(b"\x40\x84\x00\x01\x02\x10\x00") == (258, 0x10)  # a length may be written in two bytes
    with pytest.raises(ProtocolError, match=r"^it sent PUBACK cut off$"):
        puback(b"\x40\x01\x01")


def test_a_message_is_as_the_specification_writes_it() -> None:
    assert publish_packet(Publish("a/b", b"hi", content_type=""), 258) == b"\x32\x0a\x00\x03a/b\x01\x02\x00hi"
    assert publish_packet(Publish("a", b"", qos=0, retain=True, content_type=""), 9) == b"\x31\x04\x00\x01a\x00"
    whole = publish_packet(Publish("a", b"x", content_type="t", properties=(("k", "v"),)), 1)
    assert whole == b"\x32\x12\x00\x01a\x00\x01\x0b\x03\x00\x01t\x26\x00\x01k\x00\x01vx"
    long = publish_packet(Publish("a", bytes(200), content_type="", properties=(("k", "x" * 200),)), 1)
    assert long[:10] == b"\x32\x9d\x03\x00\x01a\x00\x01\xce\x01"
    with pytest.raises(ValueError, match="at most 65,535 bytes"):
        publish_packet(Publish("a", b"", properties=(("k", "x" * 65_536),)), 1)
