"""Netlink, nflog and packets: what the kernel says is decoded strictly, what a stranger sent is never an error."""

from __future__ import annotations

import ipaddress
import struct

import pytest

from appliance.core.errors import DecodeError
from appliance.network import nflog
from appliance.network.netlink import (
    ACK,
    ERROR,
    REQUEST,
    Message,
    decode_attributes,
    decode_messages,
    encode_attribute,
    encode_message,
    error_of,
    netfilter_attributes,
    number_of,
)
from appliance.network.nflog import Logged, decode_log, decode_packet
from appliance.network.packet import ARP, IPV4, IPV6, Flow, decode_flow

HERE, THERE = ipaddress.IPv4Address("10.0.2.15"), ipaddress.IPv4Address("10.0.2.100")
HERE6, THERE6 = ipaddress.IPv6Address("2001:db8::15"), ipaddress.IPv6Address("2001:db8::100")
PORTS = struct.pack(">HH", 40000, 8883)


def ipv4(protocol: int, payload: bytes, *, fragment: int = 0, options: bytes = b"") -> bytes:
    first = 0x45 + len(options) // 4
    return (
        struct.pack(">BBHHHBBH", first, 0, 0, 0, fragment, 64, protocol, 0)
        + HERE.packed
        + THERE.packed
        + options
        + payload
    )


def ipv6(header: int, payload: bytes) -> bytes:
    return struct.pack(">IHBB", 6 << 28, len(payload), header, 64) + HERE6.packed + THERE6.packed + payload


def log_message(**changed: bytes | None) -> Message:
    """A packet as the kernel logs it: attributes by name, None leaves one out."""
    parts: dict[str, bytes | None] = {
        "header": struct.pack(">HBx", IPV4, 1),
        "indev": (3).to_bytes(4, "big"),
        "payload": ipv4(6, PORTS),
        "prefix": b"edgeseal in-no-conduit \0",
        "sequence": (7).to_bytes(4, "big"),
        **changed,
    }
    numbers = {"header": 1, "indev": 4, "outdev": 5, "payload": 9, "prefix": 10, "sequence": 12}
    attributes = [encode_attribute(numbers[name], value) for name, value in parts.items() if value is not None]
    return decode_messages(encode_message(nflog.PACKET, 0, 0, family=2, number=3, attributes=attributes))[0]


def test_messages_and_attributes_come_back() -> None:
    attributes = [encode_attribute(1, b"\x01"), encode_attribute(2, b""), encode_attribute(3, b"abcde")]
    data = encode_message(nflog.CONFIG, REQUEST | ACK, 5, number=3, attributes=attributes)
    [first, second] = decode_messages(data + data)
    assert first == second
    assert (first.type, first.sequence) == (nflog.CONFIG, 5)
    assert first.payload[:4] == b"\0\0\0\x03"
    assert netfilter_attributes(first) == {1: b"\x01", 2: b"", 3: b"abcde"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x01", "netlink: 1 bytes after the last message"),
        (struct.pack("=IHHII", 15, 0, 0, 0, 0), "netlink: a message of 15 bytes with 16 left"),
        (struct.pack("=IHHII", 17, 0, 0, 0, 0), "netlink: a message of 17 bytes with 16 left"),
    ],
)
def test_a_datagram_that_is_none(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_messages(data)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x04\x00", "netlink: 2 bytes after the last attribute"),
        (struct.pack("=HH", 3, 1), "netlink: an attribute of 3 bytes with 4 left"),
        (struct.pack("=HH", 5, 1), "netlink: an attribute of 5 bytes with 4 left"),
        (encode_attribute(1, b"") * 2, "netlink: attribute 1 comes twice"),
    ],
)
def test_attributes_that_are_none(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_attributes(data)
    assert str(caught.value) == message


def test_numbers_and_errors_have_their_sizes() -> None:
    assert number_of({1: b"\0\0\1\0"}, 1, size=4) == 256
    assert number_of({}, 1, size=4) is None
    with pytest.raises(DecodeError, match=r"^netlink: attribute 1 has 2 bytes, expected 4$"):
        number_of({1: b"\0\0"}, 1, size=4)
    assert error_of(Message(ERROR, 1, struct.pack("=i", -16))) == 16
    with pytest.raises(DecodeError, match=r"^netlink: an error of 2 bytes$"):
        error_of(Message(ERROR, 1, b"\0\0"))
    with pytest.raises(DecodeError, match=r"^netlink: a message of netfilter with 3 bytes$"):
        netfilter_attributes(Message(nflog.PACKET, 0, b"\0\0\0"))


def test_a_drop_on_the_way_in_and_on_the_way_out() -> None:
    flow = Flow("tcp", "10.0.2.15", "10.0.2.100", 8883)
    assert decode_packet(log_message()) == Logged("in-no-conduit", 3, True, flow, 7)
    outgoing = log_message(indev=None, outdev=(4).to_bytes(4, "big"), sequence=None, prefix=b"edgeseal rate-broker \0")
    assert decode_packet(outgoing) == Logged("rate-broker", 4, False, flow, None)
    assert decode_packet(log_message(indev=None)).index == 0
    assert decode_packet(log_message(payload=None)).flow == Flow("ipv4")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"header": b"\x08\x00"}, "nflog: a packet header of 2 bytes, expected 4"),
        ({"header": None}, "nflog: a packet header of 0 bytes, expected 4"),
        ({"prefix": b"martian \0"}, "nflog: prefix 'martian ' is not `edgeseal REASON`"),
        ({"prefix": b"edgeseal \0"}, "nflog: prefix 'edgeseal ' is not `edgeseal REASON`"),
        ({"prefix": None}, "nflog: prefix '' is not `edgeseal REASON`"),
        ({"prefix": b"edgeseal \xff\0"}, "nflog: the prefix is not ASCII"),
        ({"prefix": b"edgeseal a\x1bb\0"}, "nflog: prefix 'edgeseal a\\x1bb' is not `edgeseal REASON`"),
        ({"indev": b"\0\0"}, "netlink: attribute 4 has 2 bytes, expected 4"),
        ({"sequence": b"\0"}, "netlink: attribute 12 has 1 bytes, expected 4"),
    ],
)
def test_what_the_kernel_never_says_is_refused(changed: dict[str, bytes | None], message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_packet(log_message(**changed))
    assert str(caught.value) == message


def test_a_datagram_of_several_packets_and_an_end() -> None:
    one = encode_message(
        nflog.PACKET,
        0,
        0,
        attributes=[
            encode_attribute(1, struct.pack(">HBx", IPV4, 1)),
            encode_attribute(9, ipv4(17, PORTS)),
            encode_attribute(10, b"edgeseal in-spoofed \0"),
        ],
    )
    done = encode_message(3, 0, 0)
    assert [logged.reason for logged in decode_log(one + one + done)] == ["in-spoofed"] * 2


HOP, ROUTING, FRAGMENT = b"\x11\0" + bytes(6), b"\x06\1" + bytes(14), b"\x06\0\0\0" + bytes(4)
LATER = b"\x06\0\0\x08" + bytes(4)


@pytest.mark.parametrize(
    ("ethertype", "data", "flow"),
    [
        (IPV4, ipv4(6, PORTS), Flow("tcp", str(HERE), str(THERE), 8883)),
        (IPV4, ipv4(17, PORTS, options=bytes(8)), Flow("udp", str(HERE), str(THERE), 8883)),
        (IPV4, ipv4(6, PORTS, fragment=1), Flow("tcp", str(HERE), str(THERE))),
        (IPV4, ipv4(6, PORTS, fragment=0x2000), Flow("tcp", str(HERE), str(THERE), 8883)),
        (IPV4, ipv4(6, PORTS[:3]), Flow("tcp", str(HERE), str(THERE))),
        (IPV4, ipv4(1, b"\x08\0\0\0"), Flow("icmp", str(HERE), str(THERE))),
        (IPV4, ipv4(201, b""), Flow("201", str(HERE), str(THERE))),
        (IPV4, ipv4(6, PORTS)[:19], Flow("ipv4")),
        (IPV4, b"\x65" + bytes(30), Flow("ipv4")),
        (IPV4, b"", Flow("ipv4")),
        (IPV6, ipv6(6, PORTS), Flow("tcp", str(HERE6), str(THERE6), 8883)),
        (IPV6, ipv6(0, HOP + PORTS), Flow("udp", str(HERE6), str(THERE6), 8883)),
        (IPV6, ipv6(43, ROUTING + PORTS), Flow("tcp", str(HERE6), str(THERE6), 8883)),
        (IPV6, ipv6(44, FRAGMENT + PORTS), Flow("tcp", str(HERE6), str(THERE6), 8883)),
        (IPV6, ipv6(44, LATER + PORTS), Flow("tcp", str(HERE6), str(THERE6))),
        (IPV6, ipv6(0, b"\0\xff"), Flow("0", str(HERE6), str(THERE6))),
        (IPV6, ipv6(58, b"\x80"), Flow("icmpv6", str(HERE6), str(THERE6))),
        (IPV6, bytes(39), Flow("ipv6")),
        (
            ARP,
            struct.pack(">HHBBH", 1, IPV4, 6, 4, 1) + bytes(6) + HERE.packed + bytes(6) + THERE.packed,
            Flow("arp", str(HERE), str(THERE)),
        ),
        (ARP, bytes(28), Flow("arp")),
        (ARP, b"\0", Flow("arp")),
        (0x88CC, b"anything", Flow("ethertype 0x88cc")),
    ],
)
def test_who_sent_what_to_whom(ethertype: int, data: bytes, flow: Flow) -> None:
    assert decode_flow(ethertype, data) == flow
