"""Frames and packets as bytes, also those that no socket would send. Pure.

Addresses are text, IPv4 or IPv6; every checksum is right, so that nothing but the ruleset has a reason to refuse.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from functools import lru_cache

ICMP, TCP, UDP, IPV6_ICMP, SCTP = 1, 6, 17, 58, 132
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS = 0, 43, 44, 60
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
IPV4_TYPE, ARP_TYPE, VLAN_TYPE, IPV6_TYPE = 0x0800, 0x0806, 0x8100, 0x86DD
BROADCAST = bytes([0xFF] * 6)
ECHO_REQUEST, ECHO_REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}


def mac(number: int) -> bytes:
    """A locally administered address with a number in it, by which a frame is found again: below 2**32."""
    return struct.pack("!HI", 0x0200, number)


@lru_cache(maxsize=4096)
def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def ethernet(target: bytes, source: bytes, payload: bytes, *, kind: int = 0, tags: Sequence[int] = ()) -> bytes:
    """kind: EtherType; 0: by the payload's IP version. tags: VLAN identifiers, the outer one first."""
    kind = kind or (IPV4_TYPE if payload[0] >> 4 == 4 else IPV6_TYPE)
    shim = b"".join(struct.pack("!HH", VLAN_TYPE, tag) for tag in tags)
    return target + source + shim + struct.pack("!H", kind) + payload


def ip(
    source: str,
    target: str,
    protocol: int,
    payload: bytes,
    *,
    hops: int = 64,
    fragment: tuple[int, bool, int] | None = None,
    extensions: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    """One packet of the family that the addresses are of.

    fragment: offset in bytes, whether more follow, identification. extensions: IPv6 only: (kind, what follows its first
    byte), in order.
    """
    if len(packed(source)) == 4:
        return _ipv4(source, target, protocol, payload, hops, fragment or (0, False, 0))
    if fragment is not None:
        offset, more, number = fragment
        extensions = [*extensions, (FRAGMENT, struct.pack("!BHI", 0, offset | more, number))]
    chain = b""
    kinds = [*(kind for kind, _ in extensions), protocol]
    for (_, rest), following in zip(extensions, kinds[1:], strict=True):
        chain += bytes([following]) + rest
    head = struct.pack("!IHBB", 6 << 28, len(chain) + len(payload), kinds[0], hops)
    return head + packed(source) + packed(target) + chain + payload


def _ipv4(source: str, target: str, protocol: int, payload: bytes, hops: int, fragment: tuple[int, bool, int]) -> bytes:
    offset, more, number = fragment
    where = offset // 8 | (0x2000 if more else 0)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), number, where, hops, protocol, 0)
    head += packed(source) + packed(target)
    return head[:10] + checksum(head) + head[12:] + payload


def padding_options(count: int = 1) -> bytes:
    """What follows the first byte of a hop-by-hop or destination options header: `count` times eight bytes of PadN."""
    return bytes([count - 1]) + bytes([1, 8 * count - 4]) + bytes(8 * count - 4)


def routing_header(kind: int, *addresses: str) -> bytes:
    """What follows the first byte of a routing header with no segments left."""
    return bytes([2 * len(addresses), kind, 0]) + bytes(4) + b"".join(packed(address) for address in addresses)


def transport(
    source: str,
    target: str,
    protocol: int,
    sport: int,
    dport: int,
    *,
    flags: int = SYN,
    data: bytes = b"",
    seq: int = 1,
) -> bytes:
    """A TCP, UDP or SCTP header with `data`. flags: TCP's."""
    if protocol == SCTP:
        chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 1, 65535, 1, 1, 1)  # INIT
        return _sctp_summed(struct.pack("!HHII", sport, dport, 0, 0) + chunk)
    if protocol == TCP:
        head = struct.pack("!HHIIBBHHH", sport, dport, seq, 1 if flags & ACK else 0, 0x50, flags, 64240, 0, 0)
        return _summed(source, target, protocol, head + data, 16)
    return _summed(source, target, protocol, struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data, 6)


def icmp(source: str, target: str, kind: int, code: int = 0, *, rest: bytes = bytes(4), data: bytes = b"") -> bytes:
    """ICMP or ICMPv6 by the addresses' family. rest: the four bytes after the checksum."""
    message = struct.pack("!BBH", kind, code, 0) + rest + data
    if len(packed(source)) == 4:
        return message[:2] + checksum(message) + message[4:]
    return _summed(source, target, IPV6_ICMP, message, 2)


def arp(
    operation: int, sender_mac: bytes, sender: str, target: str, *, types: tuple[int, int] = (1, IPV4_TYPE)
) -> bytes:
    """RFC 826. types: of the hardware (1: Ethernet) and of the protocol."""
    head = struct.pack("!HHBBH", *types, 6, 4, operation)
    return head + sender_mac + packed(sender) + bytes(6) + packed(target)


def checksum(data: bytes) -> bytes:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    total += total >> 16
    return struct.pack("!H", ~total & 0xFFFF)


def _summed(source: str, target: str, protocol: int, message: bytes, where: int) -> bytes:
    """`message` with the checksum over it and its pseudo-header at `where`."""
    pseudo = packed(source) + packed(target)
    pseudo += struct.pack("!BBH" if len(pseudo) == 8 else "!I3xB", *_lengths(len(pseudo), protocol, len(message)))
    found = checksum(pseudo + message)
    return message[:where] + (found if found != b"\0\0" else b"\xff\xff") + message[where + 2 :]


def _lengths(addresses: int, protocol: int, size: int) -> tuple[int, ...]:
    return (0, protocol, size) if addresses == 8 else (size, protocol)


def _sctp_summed(message: bytes) -> bytes:
    """CRC32c, RFC 9260 appendix A, bit by bit: there are few of these."""
    value = 0xFFFFFFFF
    for byte in message:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return message[:8] + struct.pack("<I", value ^ 0xFFFFFFFF) + message[12:]
