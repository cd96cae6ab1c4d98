"""A packet as the facts that a ruleset can ask about, its bytes, and whether the conduits allow it. Pure."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace

from builder.network.classes import PacketClass
from builder.network.intervals import IntervalSet
from tests.support import netlab_frames as frames

EPHEMERAL = 40000
UNUSED = 0
ETHERNET_MAC = bytes([2, 0, 0, 0, 0, 1])
_ERRORS = {4: (3, 4, 5, 11, 12), 6: (1, 2, 3, 4)}


@dataclass(frozen=True)
class Facts:
    """Fields as in builder/network/classes.py, one value each. flags: TCP's. shape: what is unusual about its bytes.

    quoted: the packet that an ICMP error is about. arp_types: hardware and protocol type.
    """

    hook: str
    family: str
    iif: str = ""
    oif: str = ""
    user: int | None = None
    cgroup: str = "none"
    protocol: int = frames.TCP
    source: int = 0
    destination: int = 0
    sport: int = EPHEMERAL
    dport: int = EPHEMERAL
    icmp_type: int = 8
    icmp_code: int = 0
    operation: int = 1
    arp_types: tuple[int, int] = (1, 0x0800)
    hops: int = 64
    header: bool = True
    flags: int = frames.SYN
    quoted: Facts | None = None
    state: str = "new"
    shape: str = ""

    @property
    def version(self) -> int:
        return 6 if self.family == "ipv6" else 4

    @property
    def back(self) -> Facts:
        """The answer to it, on the same wire."""
        turned = {frames.ECHO_REQUEST[self.version]: frames.ECHO_REPLY[self.version]}
        return replace(
            self,
            hook={"input": "output", "output": "input"}.get(self.hook, self.hook),
            iif=self.oif,
            oif=self.iif,
            source=self.destination,
            destination=self.source,
            sport=self.dport,
            dport=self.sport,
            icmp_type=turned.get(self.icmp_type, self.icmp_type),
            flags=frames.SYN | frames.ACK if self.flags == frames.SYN else self.flags,
        )

    def __str__(self) -> str:
        ends = f"{text(self.source, self.version)} -> {text(self.destination, self.version)}"
        inner = f"protocol {self.protocol}"
        if self.family == "arp":
            inner = f"operation {self.operation}"
        elif self.protocol in (frames.ICMP, frames.IPV6_ICMP):
            inner += f" type {self.icmp_type}"
        else:
            inner += f" ports {self.sport} -> {self.dport} flags {self.flags}"
        who = f" user {self.user} cgroup {self.cgroup}" if self.hook == "output" else f" listener {self.cgroup}"
        return f"{self.hook} {self.iif or self.oif} {self.family} {ends} {inner}{who} {self.state} {self.shape}".strip()


def text(address: int, version: int) -> str:
    return str(ipaddress.IPv4Address(address) if version == 4 else ipaddress.IPv6Address(address))


def packet_of(facts: Facts) -> bytes:
    """The packet, from its network header on; `shape` does not show in it."""
    source, target = text(facts.source, facts.version), text(facts.destination, facts.version)
    if facts.family == "arp":
        return frames.arp(facts.operation, ETHERNET_MAC, source, target, types=facts.arp_types)
    return frames.ip(source, target, facts.protocol, payload_of(facts), hops=facts.hops)


def payload_of(facts: Facts, data: bytes = b"") -> bytes:
    """What follows the network header and all extension headers. data: behind a transport header with ports."""
    source, target = text(facts.source, facts.version), text(facts.destination, facts.version)
    if facts.protocol in (frames.TCP, frames.UDP, frames.SCTP):
        ports = (facts.sport, facts.dport)
        return frames.transport(source, target, facts.protocol, *ports, flags=facts.flags, data=data)
    if facts.protocol in (frames.ICMP, frames.IPV6_ICMP):
        return _icmp(facts, source, target)
    return struct.pack("!HHI", facts.sport, facts.dport, 0) + bytes(12)


def _icmp(facts: Facts, source: str, target: str) -> bytes:
    if (facts.version == 6 and facts.protocol == frames.ICMP) or (
        facts.version == 4 and facts.protocol == frames.IPV6_ICMP
    ):
        return bytes([facts.icmp_type, facts.icmp_code]) + bytes(18)
    data = bytes(32)
    rest = struct.pack("!HH", facts.sport, 1)
    if facts.icmp_type in _ERRORS[facts.version]:
        rest, data = bytes(4), packet_of(facts.quoted) if facts.quoted else bytes(40)
    elif facts.version == 6 and 133 <= facts.icmp_type <= 137:
        rest, data = bytes(4), ipaddress.ip_address(target).packed + bytes([1, 1]) + ETHERNET_MAC  # RFC 4861 4.6.1
    return frames.icmp(source, target, facts.icmp_type, facts.icmp_code, rest=rest, data=data)


class Allowed:
    """The classes of a policy, asked about one packet at a time. Written without a look at the prover."""

    def __init__(self, classes: Iterable[PacketClass]) -> None:
        self._classes: dict[tuple[str, str, str, str], list[PacketClass]] = {}
        for one in classes:
            self._classes.setdefault((one.hook, one.family, one.iif, one.oif), []).append(one)

    def by(self, facts: Facts) -> str | None:
        """The conduit that allows it."""
        for one in self._classes.get((facts.hook, facts.family, facts.iif, facts.oif), ()):
            if _is_in(one, facts):
                return one.conduit
        return None


def _is_in(one: PacketClass, facts: Facts) -> bool:
    if facts.state not in one.states or (one.cgroups is not None and facts.cgroup not in one.cgroups):
        return False
    if facts.family == "arp":
        if facts.arp_types != (1, 0x0800):
            return False
        pairs = [(one.operations, facts.operation)]
    else:
        pairs = [
            (one.protocols, facts.protocol),
            (one.source_ports, facts.sport),
            (one.destination_ports, facts.dport),
            (one.icmp_types, facts.icmp_type),
            (one.icmp_codes, facts.icmp_code),
            (one.hop_limits, facts.hops),
        ]
        if one.header is not None and one.header != facts.header:
            return False
    if one.users is not None:
        pairs.append((one.users, 1 << 32 if facts.user is None else facts.user))
    pairs += [(one.source, facts.source), (one.destination, facts.destination)]
    return all(wanted is None or any(first <= value <= last for first, last in wanted) for wanted, value in pairs)


def boundaries(sets: Iterable[IntervalSet | None], last: int) -> list[int]:
    """Both ends of every interval and their neighbours just outside, from 0 to `last`."""
    found = {
        edge + step
        for one in sets
        if one
        for interval in one
        for edge, step in zip((interval[0], interval[0], interval[1], interval[1]), (-1, 0, 0, 1), strict=True)
    }
    return sorted(value for value in found if 0 <= value <= last)
