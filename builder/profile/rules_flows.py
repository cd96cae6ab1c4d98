"""Rules about what conduits carry: ports, messages and limits, and that no packet belongs to two of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from ipaddress import IPv4Network
from itertools import combinations

from appliance.formats.network_policy import Conduit, NetworkPolicy
from builder.profile.addresses import networks
from builder.profile.anyone import INSTEAD
from builder.profile.problem import Finding, Path, path_text
from builder.profile.rules import Rule, finding, listed
from builder.profile.rules_conduits import CONDUITS
from builder.profile.types import Profile

Range = tuple[int, int]

MOST_PORTS = 16384
"""As many as the dynamic ports of RFC 6335 section 6; a conduit with more is as good as open."""
_LAST_PORT = 65535
_ERRORS = ("destination-unreachable", "time-exceeded", "parameter-problem")
_MESSAGES: dict[str, tuple[str, ...]] = {
    "icmp": ("echo-request", *_ERRORS),
    "icmpv6": (
        "echo-request",
        *_ERRORS,
        "packet-too-big",
        "neighbour-solicitation",
        "neighbour-advertisement",
        "router-solicitation",
        "router-advertisement",
    ),
    "arp": ("request", "reply"),
}


def ports_are_ranges(profile: Profile) -> Iterator[Finding]:
    """tcp and udp have ports, few of them, each in one range that goes up; nothing else has."""
    for number, conduit in enumerate(profile.network.conduits):
        path: Path = (*CONDUITS, number, "ports")
        if conduit.protocol not in ("tcp", "udp"):
            if conduit.ports:
                yield finding(path, f"{conduit.protocol} has no ports", "remove the line; it has `messages`")
            continue
        if not conduit.ports:
            message = "no port, the conduit would carry nothing"
            yield finding(path, message, "name the ports of who answers, like `[8883]`")
        yield from _port_findings(path, conduit)


def _port_findings(path: Path, conduit: Conduit) -> Iterator[Finding]:
    right: list[tuple[int, Range]] = []
    for position, port in enumerate(conduit.ports):
        here: Path = (*path, position)
        low, high = _range(port)
        if low <= 1 and high >= _LAST_PORT:
            yield finding(here, f"`{port}` is every port", INSTEAD["ports"])
        elif high > _LAST_PORT or low == 0:
            yield finding(here, f"`{port}` has a port that does not exist", f"ports go from 1 to {_LAST_PORT}")
        elif low > high:
            yield finding(here, f"`{port}` is upside down", f"write `{high}-{low}`")
        elif isinstance(port, str) and low == high:
            yield finding(here, f"`{port}` is one port", f"write `{low}`")
        else:
            yield from _overlap_findings(here, conduit, right, (low, high))
            right.append((position, (low, high)))
    total = sum(high - low + 1 for _, (low, high) in right)
    if total > MOST_PORTS:
        message = f"{total} ports, at most {MOST_PORTS} can be approved with one conduit"
        yield finding(path, message, INSTEAD["ports"])


def _overlap_findings(here: Path, conduit: Conduit, right: list[tuple[int, Range]], one: Range) -> Iterator[Finding]:
    for earlier, other in right:
        if one == other:
            message = f"`{conduit.ports[earlier]}` stands twice, first at {path_text((*here[:-1], earlier))}"
            yield finding(here, message, "remove one of the two")
        elif _meet(one, other):
            port = conduit.ports[int(here[-1])]
            message = f"`{port}` overlaps `{conduit.ports[earlier]}` of the same list"
            yield finding(here, message, "remove the one that the other contains, or cut one")


def _range(port: int | str) -> Range:
    low, _, high = str(port).partition("-")
    return int(low), int(high or low)


def _meet(one: Range, other: Range) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def messages_belong_to_their_protocol(profile: Profile) -> Iterator[Finding]:
    """ICMP and ARP have messages, each its own; IPv6 is switched off."""
    for number, conduit in enumerate(profile.network.conduits):
        path: Path = (*CONDUITS, number)
        known = _MESSAGES.get(conduit.protocol)
        if conduit.protocol == "icmpv6":
            message = "`icmpv6`, but the device's kernel has IPv6 switched off (ipv6.disable=1)"
            yield finding((*path, "protocol"), message, "write `icmp`, or remove the conduit")
        elif known is None:
            if conduit.messages:
                message = f"{conduit.protocol} has no messages"
                yield finding((*path, "messages"), message, "remove the line; it has `ports`")
        elif not conduit.messages:
            message = "no message, the conduit would carry nothing"
            yield finding((*path, "messages"), message, f"{conduit.protocol} has: {listed(known)}")
        yield from _message_findings((*path, "messages"), conduit, known or ())


def _message_findings(path: Path, conduit: Conduit, known: tuple[str, ...]) -> Iterator[Finding]:
    for position, name in enumerate(conduit.messages):
        if known and name not in known:
            message = f"`{name}` is no message of {conduit.protocol}"
            yield finding((*path, position), message, f"{conduit.protocol} has: {listed(known)}")
        elif name in conduit.messages[:position]:
            yield finding((*path, position), f"`{name}` stands twice", "remove one of the two")


def limits_fit_each_other(profile: Profile) -> Iterator[Finding]:
    """What begins a connection is a packet, too."""
    for number, conduit in enumerate(profile.network.conduits):
        rate, path = conduit.rate, (*CONDUITS, number, "rate")
        if rate.new > rate.packets:
            message = f"{rate.new} new ones per second, but only {rate.packets} packets (rate.packets)"
            yield finding((*path, "new"), message, f"write {rate.packets} or less, or raise rate.packets")
        if rate.burst > rate.packets * 60:
            message = f"{rate.burst}, more than a minute of rate.packets ({rate.packets} per second): no limit at all"
            yield finding((*path, "burst"), message, f"write {rate.packets * 60} or less")


def flows_belong_to_one_conduit(profile: Profile) -> Iterator[Finding]:
    """No packet belongs to two conduits: each is approved, limited and counted by one of them.

    Also not when the services differ: an answer that comes in does not say which of them it is for.
    """
    policy = profile.network
    groups: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for number, conduit in enumerate(policy.conduits):
        groups[conduit.from_zone, conduit.to_zone, conduit.protocol].append(number)
    ends = [_ends(conduit, policy) for conduit in policy.conduits]
    for numbers in groups.values():
        for first, second in combinations(numbers, 2):
            if _touch(ends[first][0], ends[second][0]) and _touch(ends[first][1], ends[second][1]):
                yield from _shared(first, policy.conduits[first], second, policy.conduits[second])


def _ends(conduit: Conduit, policy: NetworkPolicy) -> tuple[list[IPv4Network], list[IPv4Network]]:
    bounds = [bound for slot in policy.slots if slot.name == conduit.slot for bound in slot.within]
    return networks((*conduit.peers, *bounds)), networks(conduit.targets)


def _touch(one: list[IPv4Network], other: list[IPv4Network]) -> bool:
    """Whether they have an address in common; no address at all is the same as no address at all."""
    return (not one and not other) or any(here.overlaps(there) for here in one for there in other)


def _shared(first: int, one: Conduit, second: int, other: Conduit) -> Iterator[Finding]:
    hint = "one flow belongs to one conduit: remove one of the two, or cut its peers"
    names = f"network.conduits[{first}] (`{one.id}`)"
    messages = [name for name in other.messages if name in one.messages]
    if messages:
        message = f"`{messages[0]}` is already open to the same peers by {names}"
        yield finding((*CONDUITS, second, "messages"), message, hint)
    for port in other.ports:
        if any(_meet(_range(port), _range(earlier)) for earlier in one.ports):
            message = f"port {port} is already open to the same peers by {names}"
            yield finding((*CONDUITS, second, "ports"), message, hint)


RULES: tuple[Rule, ...] = (
    ports_are_ranges,
    messages_belong_to_their_protocol,
    limits_fit_each_other,
    flows_belong_to_one_conduit,
)
