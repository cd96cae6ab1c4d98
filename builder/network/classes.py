"""Conduits → the packets that they allow. The specification: it knows the policy and nothing of any ruleset. Pure.

A packet class is a box: one set per field, and a packet is in it when every field is in its set. What is in no class
is refused. The prover holds the compiled ruleset against these classes, and the sweep with real packets does too.

The fields, and what they mean at the moment when a netfilter hook sees the packet:

hook: input (to the device), output (from it), forward (through it).
family: ipv4, ipv6 or arp.
iif, oif: names of the interfaces that it came by and leaves by; "" where the hook has none (oif on input, iif on
  output).
users: user IDs of the socket that sends it; NO_USER where there is none: packets of the kernel itself, and of a socket
  that its process has closed. On input a user says nothing and is never asked for.
cgroups: the service whose cgroup holds the socket: of the sender on output, of the listener on input, where only the
  first packet is asked for it: the next one, the third of TCP's handshake, meets no whole socket yet. A service's
  name, OTHER_CGROUP (a cgroup of none of them) or NO_CGROUP (no socket, or one outside of the second level).
protocols: the transport protocol after all extension headers (IPv4's protocol field), 0 to 255.
source, destination: addresses as whole numbers; for ARP the sender's and the target's protocol address.
header: whether the transport header is there and whole. A later fragment has none.
source_ports, destination_ports: of TCP and UDP.
icmp_types, icmp_codes: of ICMP and ICMPv6.
operations: ARP operation (1 request, 2 reply). An ARP class also has hardware type 1, protocol type 0x0800 and the
  lengths 6 and 4.
states: what connection tracking says. Neighbour discovery is never tracked; ARP has the state `untracked` by
  convention.
hop_limits: TTL or hop limit. Neighbour discovery that has passed a router (RFC 4861 section 7.1: not 255) is refused.

None for a field means that the field does not matter.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from appliance.core.errors import InputError
from appliance.formats.network_policy import (
    DEVICE_ZONE,
    LOOPBACK_ZONE,
    Conduit,
    Link,
    NetworkPolicy,
    Rate,
)
from builder.network.intervals import EMPTY, IntervalSet, intersect, of_peers, single, subtract, union, upto

Hook = Literal["input", "output", "forward"]
Family = Literal["ipv4", "ipv6", "arp"]
State = Literal["new", "established", "related", "invalid", "untracked"]
Part = Literal["opens", "answers", "error", "message"]

STATES: tuple[State, ...] = ("new", "established", "related", "invalid", "untracked")
MOST_USER = (1 << 32) - 2
"""The largest user ID: (uid_t) -1 is none."""
NO_USER = 1 << 32
NO_CGROUP = "none"
OTHER_CGROUP = "other"
KERNEL = "kernel"
LOOPBACK_INTERFACE = "lo"

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}
ECHO = {"icmp": (8, 0), "icmpv6": (128, 129)}
ERRORS = {
    "icmp": {"destination-unreachable": 3, "time-exceeded": 11, "parameter-problem": 12},
    "icmpv6": {"destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4},
}
NEIGHBOUR = {
    "router-solicitation": 133,
    "router-advertisement": 134,
    "neighbour-solicitation": 135,
    "neighbour-advertisement": 136,
}
OPERATIONS = {"request": 1, "reply": 2}

_LOOPBACK = {"ipv4": "127.0.0.1", "ipv6": "::1"}
_VERSIONS: dict[Family, int] = {"ipv4": 4, "ipv6": 6, "arp": 4}
_SOLICITED_NODE = int(ipaddress.ip_address("ff02::1:ff00:0"))
_GROUPS = {"router-solicitation": "ff02::2", "router-advertisement": "ff02::1", "neighbour-advertisement": "ff02::1"}


@dataclass(frozen=True, kw_only=True)
class PacketClass:
    """A box of packets that one conduit allows. The fields are in the module's docstring.

    part: `opens` is the direction of who begins, `answers` the other one, `error` an ICMP error about a connection,
    `message` what belongs to no connection (ARP, neighbour discovery).
    rate: the conduit's; it limits each direction by itself. new and connections limit what is in state `new`.
    has_flow: whether the conduit has connections, or queries and answers.
    """

    conduit: str
    part: Part
    rate: Rate
    has_flow: bool
    hook: Hook
    family: Family
    iif: str = ""
    oif: str = ""
    users: IntervalSet | None = None
    cgroups: frozenset[str] | None = None
    protocols: IntervalSet | None = None
    source: IntervalSet | None = None
    destination: IntervalSet | None = None
    header: bool | None = None
    source_ports: IntervalSet | None = None
    destination_ports: IntervalSet | None = None
    icmp_types: IntervalSet | None = None
    icmp_codes: IntervalSet | None = None
    operations: IntervalSet | None = None
    states: frozenset[State] = frozenset(STATES)
    hop_limits: IntervalSet | None = None

    def limits(self, state: State) -> frozenset[str]:
        """What limits a packet of this class in `state`, as nft says it; the new ones have as much burst as rate.

        On loopback a packet is limited when it leaves, so not again when it arrives.
        """
        rate = self.rate
        if self.part == "opens" and self.iif == LOOPBACK_INTERFACE:
            return frozenset()
        if self.part == "message" or (self.part == "error" and not self.has_flow):
            return frozenset({f"{min(rate.new, rate.packets)}/second burst {rate.burst}"})
        found = {f"{rate.packets}/second burst {rate.burst}"}
        if state == "new":
            found.add(f"{rate.new}/second burst {rate.new}")
            if self.protocols in (single(PROTOCOLS["tcp"]), single(PROTOCOLS["udp"])):
                found.add(f"connections {rate.connections}")
        return frozenset(found)

    @property
    def is_empty(self) -> bool:
        """No packet is in it: a slot that is not filled, an address family without peers."""
        sets = (self.source, self.destination, self.source_ports, self.destination_ports)
        return any(found == EMPTY for found in sets) or not self.states


def allowed_classes(
    policy: NetworkPolicy, *, uids: Mapping[str, int], filled: Mapping[str, Sequence[str]]
) -> tuple[PacketClass, ...]:
    """Every packet that the conduits of `policy` allow, in the order of the conduits; no class is empty.

    uids: user of each service that a conduit names, `kernel` excepted.
    filled: slot name → addresses. A conduit whose slot is not in it allows nothing.
    Raises InputError for a conduit that cannot mean anything: a link, user or message that does not exist.
    """
    found = []
    plant = _Plant(policy)
    for conduit in policy.conduits:
        maker = _Maker(plant, conduit, uids, filled)
        found += [one for one in maker.classes() if not one.is_empty]
    return tuple(found)


def own_addresses(links: Sequence[Link], family: Family) -> IntervalSet:
    """The static addresses of these links."""
    hosts = (str(ipaddress.ip_interface(address).ip) for link in links for address in link.addresses)
    return of_peers(hosts, _VERSIONS[family])


def solicited_nodes(addresses: IntervalSet) -> IntervalSet:
    """RFC 4291 section 2.7.1: ff02::1:ff00:0/104 and the low 24 bits of each address."""
    low = []
    for first, last in addresses:
        if last - first >= (1 << 24) - 1:
            return ((_SOLICITED_NODE, _SOLICITED_NODE + (1 << 24) - 1),)
        begin, end = first & 0xFFFFFF, last & 0xFFFFFF
        low += [(begin, end)] if begin <= end else [(0, end), (begin, 0xFFFFFF)]
    return union((_SOLICITED_NODE + begin, _SOLICITED_NODE + end) for begin, end in low)


class _Plant:
    """Links and zones, looked up by name; their addresses as numbers, by link and IP version."""

    def __init__(self, policy: NetworkPolicy) -> None:
        links = {link.name: link for link in policy.links}
        self.links = {zone.id: links[zone.link] for zone in policy.zones if zone.link in links}
        self.own = {
            (link.name, version): own_addresses([link], family)
            for link in policy.links
            for family, version in _VERSIONS.items()
        }
        self.all_own = {
            version: union(one for (_, other), own in self.own.items() if other == version for one in own)
            for version in (4, 6)
        }
        self.prefixes = {
            (name, version): of_peers((p for zone in policy.zones if zone.link == name for p in zone.prefixes), version)
            for name in links
            for version in (4, 6)
        }


@dataclass(frozen=True)
class _Maker:
    """The classes of one conduit."""

    plant: _Plant
    conduit: Conduit
    uids: Mapping[str, int]
    filled: Mapping[str, Sequence[str]]

    def classes(self) -> Iterator[PacketClass]:
        conduit = self.conduit
        for family in self._families():
            if conduit.from_zone == LOOPBACK_ZONE:
                yield from self._loopback(family)
            elif DEVICE_ZONE not in (conduit.from_zone, conduit.to_zone):
                yield from self._forwarded(family)
            elif conduit.protocol == "arp" or set(conduit.messages) & set(NEIGHBOUR):
                yield from self._messages(family)
            elif conduit.from_zone == DEVICE_ZONE:
                yield from self._outbound(family)
            else:
                yield from self._inbound(family)

    def _families(self) -> tuple[Family, ...]:
        return {"arp": ("arp",), "icmp": ("ipv4",), "icmpv6": ("ipv6",)}.get(  # type: ignore[return-value]
            self.conduit.protocol, ("ipv4", "ipv6")
        )

    # ---- from the device to a zone, and from a zone to the device

    def _outbound(self, family: Family) -> Iterator[PacketClass]:
        link = self._link(self.conduit.to_zone)
        own, peers = self._own(link, family), self._peers(family)
        out = self._make(hook="output", family=family, oif=link.name, source=own, destination=peers)
        back = self._make(
            hook="input", family=family, iif=link.name, source=self._believed(link, family), destination=own
        )
        yield from self._errors(self._of_kernel(out))
        for opens, answers in self._flows():
            yield replace(self._of_user(opens(out)), states=frozenset({"new"}))
            yield replace(self._of_service(opens(out)), states=frozenset({"established"}))
            yield answers(back)

    def _inbound(self, family: Family) -> Iterator[PacketClass]:
        link = self._link(self.conduit.from_zone)
        own, peers = self._own(link, family), self._peers(family)
        into = self._make(
            hook="input", family=family, iif=link.name, source=self._believed(link, family), destination=own
        )
        back = self._make(hook="output", family=family, oif=link.name, source=own, destination=peers)
        yield from self._errors(into)
        for opens, answers in self._flows():
            yield replace(opens(into), cgroups=self._cgroups(), states=frozenset({"new"}))
            yield replace(opens(into), states=frozenset({"established"}))
            yield self._of_kernel(answers(back)) if self.conduit.service == KERNEL else answers(back)

    def _messages(self, family: Family) -> Iterator[PacketClass]:
        """What belongs to no connection."""
        outward = self.conduit.from_zone == DEVICE_ZONE
        link = self._link(self.conduit.to_zone if outward else self.conduit.from_zone)
        own = self._own(link, family)
        for message in self.conduit.messages:
            if outward:
                to = self._groups(message, self._peers(family))
                made = self._make(hook="output", family=family, oif=link.name, source=own, destination=to)
                made = made if family == "arp" else self._of_kernel(made)
            else:
                to, believed = self._groups(message, own), self._believed(link, family)
                made = self._make(hook="input", family=family, iif=link.name, source=believed, destination=to)
            made = replace(made, part="message", states=frozenset({"untracked"}))
            if family == "arp":
                yield replace(made, operations=single(self._number(OPERATIONS, message)))
            else:
                yield replace(_icmp(made, "icmpv6", self._number(NEIGHBOUR, message)), hop_limits=single(255))

    # ---- between zones, and between services of the device

    def _forwarded(self, family: Family) -> Iterator[PacketClass]:
        here, there = self._link(self.conduit.from_zone), self._link(self.conduit.to_zone)
        targets = of_peers(self.conduit.targets, _VERSIONS[family])
        out = self._make(hook="forward", family=family, iif=here.name, oif=there.name)
        out = replace(out, source=self._believed(here, family), destination=targets)
        back = self._make(hook="forward", family=family, iif=there.name, oif=here.name)
        back = replace(back, source=self._without_own(targets, family), destination=self._peers(family))
        yield from self._errors(out)
        for opens, answers in self._flows():
            yield opens(out)
            yield answers(back)

    def _loopback(self, family: Family) -> Iterator[PacketClass]:
        here = of_peers([_LOOPBACK[family]], _VERSIONS[family])
        peers = intersect(here, self._peers(family)) if self.conduit.peers else here
        out = self._make(hook="output", family=family, oif=LOOPBACK_INTERFACE, source=peers, destination=peers)
        into = self._make(hook="input", family=family, iif=LOOPBACK_INTERFACE, source=peers, destination=peers)
        for opens, answers in self._flows():
            yield replace(self._of_user(opens(out)), states=frozenset({"new"}))
            yield replace(self._of_service(opens(out)), states=frozenset({"established"}))
            yield replace(opens(into), cgroups=frozenset({self.conduit.listener or ""}), states=frozenset({"new"}))
            yield replace(opens(into), states=frozenset({"established"}))
            yield answers(out)
            yield answers(into)

    # ---- parts

    def _make(self, **fields: object) -> PacketClass:
        flow = self.conduit.protocol in ("tcp", "udp") or "echo-request" in self.conduit.messages
        base: dict[str, object] = {"conduit": self.conduit.id, "part": "opens", "rate": self.conduit.rate}
        return PacketClass(**base, has_flow=flow, **fields)  # type: ignore[arg-type]

    def _flows(self) -> Iterator[tuple[_Change, _Change]]:
        """How a packet of the conduit looks in the direction of who begins, and in the other one."""
        protocol = self.conduit.protocol
        if protocol in ("tcp", "udp"):
            ports = _ports(self.conduit)
            yield _Change(protocol, "opens", ports=ports), _Change(protocol, "answers", ports=ports)
        elif "echo-request" in self.conduit.messages:
            request, reply = ECHO[protocol]
            yield _Change(protocol, "opens", icmp=request), _Change(protocol, "answers", icmp=reply)

    def _errors(self, base: PacketClass) -> Iterator[PacketClass]:
        protocol = self.conduit.protocol
        for message in self.conduit.messages:
            if message != "echo-request":
                error = _icmp(base, protocol, self._number(ERRORS[protocol], message))
                yield replace(error, part="error", states=frozenset({"related"}))

    def _of_user(self, made: PacketClass) -> PacketClass:
        service = self.conduit.service or ""
        if service == KERNEL:
            return self._of_kernel(made)
        if service not in self.uids:
            raise InputError(f"conduit {self.conduit.id}: the service `{service}` has no user")
        return replace(made, users=single(self.uids[service]), cgroups=self._cgroups())

    def _of_service(self, made: PacketClass) -> PacketClass:
        return self._of_kernel(made) if self.conduit.service == KERNEL else replace(made, cgroups=self._cgroups())

    def _of_kernel(self, made: PacketClass) -> PacketClass:
        return replace(made, users=single(NO_USER), cgroups=None)

    def _cgroups(self) -> frozenset[str] | None:
        return None if self.conduit.service == KERNEL else frozenset({self.conduit.service or ""})

    def _number(self, numbers: Mapping[str, int], message: str) -> int:
        if message not in numbers:
            raise InputError(f"conduit {self.conduit.id}: {self.conduit.protocol} has no message `{message}`")
        return numbers[message]

    def _link(self, zone: str) -> Link:
        if zone not in self.plant.links:
            raise InputError(f"conduit {self.conduit.id}: the zone `{zone}` is on no link")
        return self.plant.links[zone]

    def _peers(self, family: Family) -> IntervalSet:
        slot = self.conduit.slot
        return of_peers(self.conduit.peers if slot is None else self.filled.get(slot, ()), _VERSIONS[family])

    def _own(self, link: Link, family: Family) -> IntervalSet | None:
        return self.plant.own[link.name, _VERSIONS[family]] or None

    def _believed(self, link: Link, family: Family) -> IntervalSet:
        """Sources of the conduit's peers: of a zone on this link, and not the device itself."""
        peers = intersect(self._peers(family), self.plant.prefixes[link.name, _VERSIONS[family]])
        return self._without_own(peers, family)

    def _without_own(self, addresses: IntervalSet, family: Family) -> IntervalSet:
        return subtract(addresses, self.plant.all_own[_VERSIONS[family]])

    def _groups(self, message: str, addresses: IntervalSet | None) -> IntervalSet | None:
        """Where a message is sent to that is meant for `addresses`: them, and their group (RFC 4861 section 4)."""
        if addresses is None or self.conduit.protocol == "arp" or addresses == EMPTY:
            return addresses
        if message == "neighbour-solicitation":
            return union((*addresses, *solicited_nodes(addresses)))
        return union((*addresses, *of_peers([_GROUPS[message]], 6))) if message in _GROUPS else addresses


@dataclass(frozen=True)
class _Change:
    """One direction of a flow, put upon a class that has interfaces and addresses already."""

    protocol: str
    part: Part
    ports: IntervalSet = EMPTY
    icmp: int = 0

    def __call__(self, base: PacketClass) -> PacketClass:
        states: frozenset[State] = frozenset({"new", "established"} if self.part == "opens" else {"established"})
        base = replace(base, part=self.part, states=states)
        if not self.ports:
            return _icmp(base, self.protocol, self.icmp)
        base = replace(base, protocols=single(PROTOCOLS[self.protocol]), header=True)
        key = "destination_ports" if self.part == "opens" else "source_ports"
        return replace(base, **{key: self.ports})  # type: ignore[arg-type]


def _icmp(base: PacketClass, protocol: str, number: int) -> PacketClass:
    return replace(base, protocols=single(PROTOCOLS[protocol]), header=True, icmp_types=single(number))


def _ports(conduit: Conduit) -> IntervalSet:
    parts = []
    for port in conduit.ports:
        first, _, last = str(port).partition("-")
        parts.append((int(first), int(last or first)))
    return intersect(union(parts), upto(65535))
