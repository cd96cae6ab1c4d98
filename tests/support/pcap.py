"""Who spoke to whom in a pcap file (libpcap's format, Ethernet): enough to say that nobody else did."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from pathlib import Path

_HEADER, _RECORD, _ETHERNET = 24, 16, 14
_ARP, _IPV4 = 0x0806, 0x0800
_TCP, _UDP = 6, 17


@dataclass(frozen=True)
class Packet:
    """kind: `arp`, `tcp`, `udp`, `ip-N` or `ether-0xNNNN`. Addresses with port where there is one."""

    kind: str
    source: str
    target: str


def read_packets(path: Path) -> list[Packet]:
    """Every packet of the capture, in order; an unfinished last record is left out."""
    data = path.read_bytes()
    assert data[:4] == b"\xd4\xc3\xb2\xa1", "not a little-endian pcap file"
    packets, at = [], _HEADER
    while at + _RECORD <= len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        frame = data[at + _RECORD : at + _RECORD + size]
        if len(frame) == size:
            packets.append(_packet(frame))
        at += _RECORD + size
    return packets


def _packet(frame: bytes) -> Packet:
    kind = struct.unpack_from(">H", frame, 12)[0]
    body = frame[_ETHERNET:]
    if kind == _ARP:
        return Packet("arp", _address(body[14:18]), _address(body[24:28]))
    if kind != _IPV4:
        return Packet(f"ether-{kind:#06x}", frame[6:12].hex(":"), frame[:6].hex(":"))
    source, target = _address(body[12:16]), _address(body[16:20])
    if body[9] not in (_TCP, _UDP):
        return Packet(f"ip-{body[9]}", source, target)
    ports = struct.unpack_from(">HH", body, (body[0] & 15) * 4)
    return Packet("tcp" if body[9] == _TCP else "udp", f"{source}:{ports[0]}", f"{target}:{ports[1]}")


def _address(data: bytes) -> str:
    return str(ipaddress.IPv4Address(data))
