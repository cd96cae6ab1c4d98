"""One packet at one hook: fields with one value each, its headers as bytes, and in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from builder.network.boxes import Box
from builder.network.classes import NO_CGROUP, NO_USER, OTHER_CGROUP, Family, Hook, State
from builder.network.intervals import IntervalSet, contains
from builder.network.space import NO_PROTOCOL, STATE_BITS, Space, interface_name, interface_number

_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
_OPERATIONS = {1: "request", 2: "reply"}
_LIKELY_INTERFACES = ("uplink0", "lo", "eth9", "")
_LIKELY: dict[str, tuple[int, ...]] = {
    "protocol": (6, 17, 58, 1),
    "header": (1,),
    "state": (STATE_BITS["new"], STATE_BITS["established"]),
    "user": (NO_USER, 1000, 0),
    "hops": (64, 255),
    "cgroup": (0,),
    "first": (40000,),
    "second": (40000,),
    "hardware_type": (1,),
    "protocol_type": (0x0800,),
    "hardware_length": (6,),
    "protocol_length": (4,),
    "operation": (1,),
}
"""Values that a person expects, taken where they are in the set."""
_LIKELY_ADDRESSES = {"ipv4": "192.0.2.1", "arp": "192.0.2.1", "ipv6": "2001:db8::1"}


@dataclass(frozen=True, kw_only=True)
class Packet:
    """The fields of builder.network.classes, each with one value.

    user: None where no socket has one. cgroup: a service's name, OTHER_CGROUP or NO_CGROUP.
    first, second: the two 16-bit words that the transport header begins with: ports, or ICMP's type and code, then its
    checksum. header: whether there is a transport header. more: its further bytes, by offset; 0 where not given.
    arp: hardware_type, protocol_type, hardware_length, protocol_length, operation, sender_hardware, target_hardware.
    """

    hook: Hook
    family: Family
    iif: str = ""
    oif: str = ""
    user: int | None = None
    cgroup: str = NO_CGROUP
    state: State = "untracked"
    protocol: int = 0
    source: int
    destination: int
    header: bool = True
    first: int = 0
    second: int = 0
    hops: int = 64
    more: Mapping[int, int] = field(default_factory=dict)
    arp: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        place = {"input": f"on {self.iif}", "output": f"on {self.oif}", "forward": f"from {self.iif} to {self.oif}"}
        what = self._arp() if self.family == "arp" else self._ip()
        return f"{self.hook} {place[self.hook]}: {what}"

    def network_header(self) -> bytes:
        """IPv4 without options, IPv6, or ARP."""
        if self.family == "arp":
            sizes = {"hardware_type": 2, "protocol_type": 2, "hardware_length": 1, "protocol_length": 1, "operation": 2}
            head = b"".join(self.arp.get(name, 0).to_bytes(size, "big") for name, size in sizes.items())
            sender, target = (
                self.arp.get(name, 0).to_bytes(6, "big") for name in ("sender_hardware", "target_hardware")
            )
            return head + sender + self.source.to_bytes(4, "big") + target + self.destination.to_bytes(4, "big")
        if self.family == "ipv4":
            head = bytes((0x45, 0, 0, 20 + 64 * self.header, 0, 0, 0, 0, self.hops, self.protocol, 0, 0))
            return head + self.source.to_bytes(4, "big") + self.destination.to_bytes(4, "big")
        head = bytes((0x60, 0, 0, 0, 0, 64, self.protocol & 0xFF, self.hops))
        return head + self.source.to_bytes(16, "big") + self.destination.to_bytes(16, "big")

    def transport_header(self) -> bytes | None:
        """The first 64 bytes behind the network header and its extensions; None where there is no header."""
        if not self.header or self.family == "arp" or self.protocol == NO_PROTOCOL:
            return None
        behind = bytes(self.more.get(offset, 0) for offset in range(4, 64))
        return self.first.to_bytes(2, "big") + self.second.to_bytes(2, "big") + behind

    def _ip(self) -> str:
        name = _NAMES.get(self.protocol, "no protocol" if self.protocol == NO_PROTOCOL else f"protocol {self.protocol}")
        name = f"{name} over IPv6" if self.family == "ipv6" and self.protocol == 1 else name
        name = f"{name} over IPv4" if self.family == "ipv4" and self.protocol == 58 else name
        source, destination = self._address(self.source), self._address(self.destination)
        if not self.header:
            flow = f"{name} from {source} to {destination} without a transport header"
        elif self.protocol in (1, 58):
            flow = f"{name} type {self.first >> 8} code {self.first & 0xFF} from {source} to {destination}"
        elif self.protocol in (6, 17):
            flow = f"{name} from {source} port {self.first} to {destination} port {self.second}"
        else:
            flow = f"{name} from {source} to {destination}"
        return ", ".join((flow, *self._facts()))

    def _facts(self) -> tuple[str, ...]:
        cgroups = {NO_CGROUP: "no cgroup", OTHER_CGROUP: "a cgroup of no service"}
        cgroup = cgroups.get(self.cgroup, f"cgroup of {self.cgroup}")
        hops = (f"hop limit {self.hops}",) if self.protocol == 58 and self.family == "ipv6" else ()
        if self.hook == "forward":
            return (f"state {self.state}", *hops)
        user = "no user" if self.user is None else f"user {self.user}"
        return (f"state {self.state}", *((user,) if self.hook == "output" else ()), cgroup, *hops)

    def _arp(self) -> str:
        operation = self.arp.get("operation", 0)
        name = _OPERATIONS.get(operation, f"operation {operation}")
        return f"arp {name} from {self._address(self.source)} to {self._address(self.destination)}"

    def _address(self, value: int) -> str:
        return str(IPv6Address(value) if self.family == "ipv6" else IPv4Address(value))


def packet_of(box: Box, space: Space) -> Packet:
    """One packet of a box that is not empty: with the values that a person expects, where it has them."""
    values = {name: _choose(name, box.get(name, domain), space) for name, domain in space.domains.items()}
    common = {
        "hook": space.hook,
        "family": space.family,
        "iif": interface_name(values["iif"]),
        "oif": interface_name(values["oif"]),
        "state": next(name for name, bit in STATE_BITS.items() if bit == values["state"]),
        "source": values["source"],
        "destination": values["destination"],
    }
    if space.family == "arp":
        return Packet(**common, arp={name: values[name] for name in values if name not in common})  # type: ignore[arg-type]
    cgroups = (NO_CGROUP, *space.services, OTHER_CGROUP)
    more = {int(name.partition("+")[2]): value for name, value in values.items() if "+" in name and name in box}
    return Packet(
        **common,  # type: ignore[arg-type]
        user=None if values["user"] == NO_USER else values["user"],
        cgroup=cgroups[values["cgroup"]],
        protocol=values["protocol"],
        header=bool(values["header"]),
        first=values["first"],
        second=values["second"],
        hops=values["hops"],
        more=more,
    )


def _choose(name: str, values: IntervalSet, space: Space) -> int:
    likely: Iterable[int] = _LIKELY.get(name, ())
    if name in ("iif", "oif"):
        likely = map(interface_number, _LIKELY_INTERFACES)
    elif name in ("source", "destination"):
        likely = (int(ip_address(_LIKELY_ADDRESSES[space.family])) + (name == "destination"),)
    return next((value for value in likely if contains(values, value)), values[0][0])
