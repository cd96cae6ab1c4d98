"""Which packets to send: for each packet class a packet in it, and that one with each field on each boundary. Pure.

A boundary is an end of an interval of any class of the same hook and family, and the neighbour just outside; for every
zone also the ends of its prefixes. Two rulesets that differ in a class differ in one of these packets, unless they
differ only where two fields leave their class at once; for those, sources and ports are crossed as well.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

from appliance.formats.network_policy import NetworkPolicy
from builder.network.classes import LOOPBACK_INTERFACE, NO_CGROUP, NO_USER, PacketClass, own_addresses
from tests.support import netlab_frames as frames
from tests.support.netlab_facts import EPHEMERAL, Facts, boundaries

SCANS = (
    frames.ACK,
    frames.SYN | frames.ACK,
    frames.RST,
    frames.RST | frames.ACK,
    frames.FIN,
    0,
    frames.FIN | frames.PSH | frames.URG,
    frames.SYN | frames.FIN,
)
"""What a scanner sends instead of SYN: it all looks like a part of a connection, and is of none."""

_OFTEN = {
    "ipv4": ("0.0.0.0", "127.0.0.1", "169.254.0.1", "224.0.0.1", "255.255.255.255"),
    "ipv6": ("::1", "fe80::1", "ff02::1", "ff02::2", "ff05::1", "::ffff:192.0.2.1"),
    "arp": ("0.0.0.0", "255.255.255.255"),
}
_ERRORS = {4: (3, 4, 5, 11, 12), 6: (1, 2, 3, 4)}
_LAST = {"ipv4": (1 << 32) - 1, "ipv6": (1 << 128) - 1, "arp": (1 << 32) - 1}


@dataclass(frozen=True)
class Identities:
    """Users and cgroups that packets of the device are sent with. cgroups: the names that classes give them."""

    users: tuple[int, ...]
    cgroups: tuple[str, ...]


def new_points(policy: NetworkPolicy, classes: Sequence[PacketClass], who: Identities) -> list[Facts]:
    """Packets that begin something, or look as if they belonged to something; in a fixed order, none twice."""
    found: dict[Facts, Facts] = {}
    for point in _new_points(policy, classes, who):
        key = replace(point, user=None, cgroup="none") if point.hook == "input" else point  # the socket is the kernel's
        if key not in found or found[key].cgroup == NO_CGROUP:
            found[key] = point
    return list(found.values())


def _new_points(policy: NetworkPolicy, classes: Sequence[PacketClass], who: Identities) -> Iterator[Facts]:
    for one in classes:
        if one.iif == LOOPBACK_INTERFACE or (one.family == "arp" and one.hook == "output"):
            # What comes in there is what the device sends there; and no socket sends ARP as the kernel does.
            continue
        points = list(_around(policy, classes, one, who))
        yield from points
        if one.protocols == ((frames.TCP, frames.TCP),):
            free = "dport" if one.source_ports else "sport"  # connection tracking must not know them
            for index, flags in enumerate(SCANS, 1):
                yield replace(points[0], flags=flags, **{free: EPHEMERAL + index})  # type: ignore[arg-type]
    for zone in policy.zones:
        yield from _scan(policy, classes, zone.id, who)


def flows(policy: NetworkPolicy, classes: Sequence[PacketClass]) -> list[Facts]:
    """Opening packets of connections at every boundary, to be established before the ruleset under test is loaded."""
    nobody = Identities((), ())
    found: dict[Facts, None] = {}
    for one in classes:
        if (
            one.part not in ("opens", "answers")
            or "established" not in one.states
            or LOOPBACK_INTERFACE in (one.iif, one.oif)
        ):
            continue
        for point in _around(policy, classes, one, nobody):
            echo = point.icmp_type in (*frames.ECHO_REQUEST.values(), *frames.ECHO_REPLY.values())
            if 0 in (point.source, point.destination):  # a raw socket cannot answer to it
                continue
            if point.protocol in (frames.TCP, frames.UDP) or (
                point.protocol in (frames.ICMP, frames.IPV6_ICMP) and echo
            ):
                opening = point.back if one.part == "answers" else point
                found[replace(opening, user=opening.user or 0, flags=frames.SYN)] = None
    return list(found)


def plain_flows(policy: NetworkPolicy, classes: Sequence[PacketClass]) -> list[Facts]:
    """One opening packet for each direction of each conduit that has connections."""
    ends = [one for one in classes if one.part in ("opens", "answers")]
    points = [(one.part, representative(policy, one)) for one in ends if LOOPBACK_INTERFACE not in (one.iif, one.oif)]
    found = [point.back if part == "answers" else point for part, point in points]
    return list(dict.fromkeys(replace(one, user=one.user or 0, flags=frames.SYN) for one in found))


def errors_about(policy: NetworkPolicy, classes: Sequence[PacketClass], flow: Facts) -> Iterator[Facts]:
    """ICMP errors about a connection: from whom it goes to and from every boundary, of every type near a boundary."""
    protocol = frames.ICMP if flow.version == 4 else frames.IPV6_ICMP
    family = [one for one in classes if one.family == flow.family and one.part == "error"]
    types = sorted({*boundaries((one.icmp_types for one in family), 255), *_ERRORS[flow.version]})
    for quoted in (flow, flow.back):
        user = 0 if quoted.hook == "input" else None
        error = replace(quoted.back, protocol=protocol, quoted=quoted, icmp_type=types[0], user=user)
        yield from _vary(error, "icmp_type", types)
        near = [one for one in family if one.hook == error.hook]
        for source in boundaries((one.source for one in near), _LAST[flow.family]) if error.hook != "output" else ():
            yield from _vary(replace(error, source=source), "icmp_type", types)


def addresses_on_links(policy: NetworkPolicy, classes: Sequence[PacketClass]) -> list[int]:
    """IPv4 addresses that the device may be made to look for with ARP: hosts on every boundary."""
    found = _addresses(policy, [one for one in classes if one.family == "arp"], "arp", "destination")
    return [address for address in found if address >> 24 not in (0, 127, 224, 255)]


def representative(policy: NetworkPolicy, one: PacketClass) -> Facts:
    """A packet in the class, of the first state that it allows; where a field does not matter, a likely value."""
    version = 6 if one.family == "ipv6" else 4
    own = _first(own_addresses(_links(policy, one), one.family)) or _first(own_addresses(policy.links, one.family))
    there = _zone_host(policy, one, version)
    inward = one.hook != "output"
    facts = Facts(
        hook=one.hook,
        family=one.family,
        iif=one.iif,
        oif=one.oif,
        cgroup=next(iter(sorted(one.cgroups))) if one.cgroups else "none",
        user=_user(one),
        protocol=_first(one.protocols) or 0,
        source=_middle(one.source) or (there if inward else own) or 0,
        destination=_middle(one.destination) or (own if inward else there) or 0,
        sport=_first(one.source_ports) or EPHEMERAL,
        dport=_first(one.destination_ports) or EPHEMERAL,
        icmp_type=_first(one.icmp_types) or 0,
        operation=_first(one.operations) or 1,
        hops=_first(one.hop_limits) or 64,
    )
    return replace(facts, user=None) if inward else facts


def _around(
    policy: NetworkPolicy, classes: Sequence[PacketClass], one: PacketClass, who: Identities
) -> Iterator[Facts]:
    """The representative first, then one field after the other on its boundaries."""
    base = representative(policy, one)
    yield base
    alike = [other for other in classes if (other.hook, other.family) == (one.hook, one.family)]
    sources = _addresses(policy, alike, one.family, "source")
    yield from _vary(base, "source", [source for source in sources if source or one.hook != "output"])
    yield from _vary(base, "destination", _addresses(policy, alike, one.family, "destination"))
    if one.family == "arp":
        yield from _vary(base, "operation", boundaries((other.operations for other in alike), 65535))
        yield from (replace(base, arp_types=types) for types in ((0, 0x0800), (6, 0x0800), (1, 0x86DD), (1, 0x0801)))
        return
    beside = [other for other in alike if (other.iif, other.oif) == (one.iif, one.oif)]
    ports = boundaries((side for other in beside for side in (other.source_ports, other.destination_ports)), 65535)
    yield from _vary(base, "dport", ports)
    yield from _vary(base, "sport", ports)
    yield from _vary(base, "protocol", sorted({*boundaries((o.protocols for o in alike), 255), frames.SCTP, 255}))
    if one.icmp_types:
        yield from _vary(base, "icmp_type", boundaries((other.icmp_types for other in alike), 255))
        yield from _vary(base, "hops", (1, 254, 255))
    if one.hook == "output":
        yield from (replace(base, user=user, cgroup=cgroup) for user in who.users for cgroup in who.cgroups)


def _scan(policy: NetworkPolicy, classes: Sequence[PacketClass], zone_id: str, who: Identities) -> Iterator[Facts]:
    """Both directions between the device and one zone: every boundary of a port crossed with addresses."""
    zone = next(zone for zone in policy.zones if zone.id == zone_id)
    link = next(link for link in policy.links if link.name == zone.link)
    for family, version in (("ipv4", 4), ("ipv6", 6)):
        own = own_addresses([link], family)  # type: ignore[arg-type]
        theirs = [prefix for prefix in zone.prefixes if ipaddress.ip_network(prefix).version == version]
        if not own or not theirs:
            continue
        ports = boundaries((s for one in classes for s in (one.source_ports, one.destination_ports)), 65535)
        hosts = sorted({host for prefix in theirs for host in _ends(prefix)})
        into = Facts(hook="input", family=family, iif=link.name, destination=own[0][0])
        out = Facts(hook="output", family=family, oif=link.name, source=own[0][0])
        for protocol in (frames.TCP, frames.UDP):
            for host in hosts:
                yield from _vary(replace(into, protocol=protocol, source=host), "dport", ports)
                sent = _vary(replace(out, protocol=protocol, destination=host), "dport", ports)
                for point, user, cgroup in zip(sent, cycle(who.users), cycle(who.cgroups), strict=False):
                    yield replace(point, user=user, cgroup=cgroup)


def _vary(base: Facts, field: str, values: Iterable[int]) -> Iterator[Facts]:
    changed: Any = {}
    for value in values:
        changed[field] = value
        yield replace(base, **changed)


def _addresses(policy: NetworkPolicy, classes: Sequence[PacketClass], family: str, field: str) -> list[int]:
    version = 6 if family == "ipv6" else 4
    zones = [ipaddress.ip_network(prefix) for zone in policy.zones for prefix in zone.prefixes]
    prefixes = [((int(net[0]), int(net[-1])),) for net in zones if net.version == version]
    own = own_addresses(policy.links, family)  # type: ignore[arg-type]
    sets = [getattr(one, field) for one in classes]
    found = {
        *boundaries([*sets, *prefixes, own], _LAST[family]),
        *(int(ipaddress.ip_address(a)) for a in _OFTEN[family]),
    }
    return sorted(found)


def _links(policy: NetworkPolicy, one: PacketClass) -> list[Any]:
    return [link for link in policy.links if link.name in (one.iif, one.oif)]


def _zone_host(policy: NetworkPolicy, one: PacketClass, version: int) -> int | None:
    for zone in policy.zones:
        for prefix in zone.prefixes:
            if zone.link in (one.iif, one.oif) and ipaddress.ip_network(prefix).version == version:
                return _ends(prefix)[1]
    return None


def _user(one: PacketClass) -> int:
    """The class's; where any will do, one that has no rights. Who sends for the kernel is root: that must not do."""
    found = _first(one.users) if one.users is not None else 65534
    return 0 if found is None or found == NO_USER else found


def _first(intervals: Any) -> int | None:
    return intervals[0][0] if intervals else None


def _middle(intervals: Any) -> int | None:
    """Of the first interval: the ends of a prefix are no hosts."""
    return (intervals[0][0] + intervals[0][1]) // 2 if intervals else None


def _ends(prefix: str) -> tuple[int, int]:
    """First and last host."""
    network = ipaddress.ip_network(prefix)
    inner = int(network.num_addresses > 2)
    return int(network[0]) + inner, int(network[-1]) - inner
