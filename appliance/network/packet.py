"""The beginning of a packet as `who to whom`. Pure, total: whatever a stranger sent, there is an answer.

IPv4 RFC 791, IPv6 RFC 8200, ARP RFC 826, ports RFC 9293 and RFC 768.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
_NAMES = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 50: "esp", 58: "icmpv6", 132: "sctp", 136: "udplite"}
_WITH_PORTS = (6, 17, 132, 136)
_EXTENSIONS = (0, 43, 60, 135)  # hop-by-hop, routing, destination options, mobility: type, length in eight bytes
_FRAGMENT = 44
_ARP = struct.Struct(">HHBBH")


@dataclass(frozen=True, order=True)
class Flow:
    """protocol: a name, or a number where there is none. port: of who answers; 0 where there is none.

    source, destination: addresses, empty where the packet is too short to have them.
    """

    protocol: str
    source: str = ""
    destination: str = ""
    port: int = 0


def decode_flow(ethertype: int, data: bytes) -> Flow:
    """data: from the network header on, cut anywhere."""
    if ethertype == IPV4 and len(data) >= 20 and data[0] >> 4 == 4:
        return _ipv4(data)
    if ethertype == IPV6 and len(data) >= 40 and data[0] >> 4 == 6:
        return _ipv6(data)
    if ethertype == ARP:
        return _arp(data)
    return Flow({IPV4: "ipv4", IPV6: "ipv6"}.get(ethertype, f"ethertype {ethertype:#06x}"))


def _ipv4(data: bytes) -> Flow:
    header = max(20, (data[0] & 0x0F) * 4)
    first = int.from_bytes(data[6:8], "big") & 0x1FFF == 0
    ports = data[header:] if first else b""
    return _flow(data[9], str(ipaddress.IPv4Address(data[12:16])), str(ipaddress.IPv4Address(data[16:20])), ports)


def _ipv6(data: bytes) -> Flow:
    protocol, rest = data[6], data[40:]
    while protocol in (*_EXTENSIONS, _FRAGMENT) and len(rest) >= 8:
        if protocol == _FRAGMENT:
            later = int.from_bytes(rest[2:4], "big") >> 3 != 0
            protocol, rest = rest[0], b"" if later else rest[8:]
        else:
            protocol, rest = rest[0], rest[8 + rest[1] * 8 :]
    return _flow(protocol, str(ipaddress.IPv6Address(data[8:24])), str(ipaddress.IPv6Address(data[24:40])), rest)


def _flow(protocol: int, source: str, destination: str, ports: bytes) -> Flow:
    port = int.from_bytes(ports[2:4], "big") if protocol in _WITH_PORTS and len(ports) >= 4 else 0
    return Flow(_NAMES.get(protocol, str(protocol)), source, destination, port)


def _arp(data: bytes) -> Flow:
    """Ethernet and IPv4 only; sender and target are the addresses."""
    if len(data) < 28 or _ARP.unpack_from(data)[:4] != (1, IPV4, 6, 4):
        return Flow("arp")
    return Flow("arp", str(ipaddress.IPv4Address(data[14:18])), str(ipaddress.IPv4Address(data[24:28])))
