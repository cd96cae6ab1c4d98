"""Conduits → elements of the ruleset's verdict maps. The compiler and the device use the same function.

Layout of the ruleset: docs/adr/0021-ruleset-layout.md. Each link has maps of its own, and a packet finds its conduit
by one lookup: address, protocol and port are one key, and the verdict goes to the conduit's own chain. The peers of a
slot are elements of the same maps, put there when the site's data fill the slot, so an address change is one
transaction: take the difference of `conduit_elements` before and after.

Keys of one map never overlap (the kernel refuses overlapping intervals): where two conduits share packets, the one
that stands first in the policy has them. Raises nothing for a policy that the builder accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_interface, ip_network
from itertools import groupby, product
from typing import Literal

from appliance.formats.network_policy import DEVICE_ZONE, LOOPBACK_ZONE, Conduit, NetworkPolicy
from appliance.formats.spans import Key, Span, Version, address_spans, joined_spans, key_without, keys_meet

Table = Literal["inet", "arp"]

PROTOCOL_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}
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
ARP_OPERATIONS = {"request": 1, "reply": 2}
LOOPBACK_LINK = "lo"
LOOPBACK_ADDRESSES = ("127.0.0.1", "::1")

_SOLICITED_NODE = int(IPv6Address("ff02::1:ff00:0"))
_GROUPS = {"router-solicitation": "ff02::2", "router-advertisement": "ff02::1", "neighbour-advertisement": "ff02::1"}
_FLOW = ("inet_proto", "inet_service")


@dataclass(frozen=True)
class Element:
    """table, map: where it goes. key: its fields. chain: of the conduit; the verdict is `goto`."""

    table: Table
    map: str
    key: Key
    chain: str

    def text(self) -> str:
        """As it stands in `nft add element TABLE edgeseal MAP { … }`."""
        return f"{self.key_text()} : goto {self.chain}"

    def key_text(self) -> str:
        """The key alone, for `nft delete element`."""
        return " . ".join(field if isinstance(field, str) else field.text() for field in self.key)


@dataclass(frozen=True)
class VerdictMap:
    """One map of the ruleset. type: of its key, as nft writes it."""

    table: Table
    name: str
    type: tuple[str, ...]


@dataclass(frozen=True)
class _Opening:
    """What a conduit puts into one map, whatever its addresses are.

    before, behind: fields in front of and after the addresses. places: which addresses stand in the key: `peers`,
    `targets` and `group` (of who is meant, with the multicast group of a message).
    """

    table: Table
    map: str
    type: tuple[str, ...]
    chain: str
    version: Version
    before: Key
    places: tuple[str, ...]
    behind: tuple[Key, ...]
    message: str = ""


def conduit_elements(policy: NetworkPolicy, filled: Mapping[str, Sequence[str]]) -> tuple[Element, ...]:
    """Every element of every map, sorted by map; in one map they stand in the order of the conduits.

    filled: slot name → addresses inside its bounds. A conduit whose slot is not in it has no elements.
    """
    raw = [
        element
        for conduit in policy.conduits
        for opening in _openings(policy, conduit)
        for element in _elements(policy, conduit, opening, filled)
    ]
    raw.sort(key=lambda element: (element.table, element.map))
    return tuple(
        element
        for _, group in groupby(raw, key=lambda element: (element.table, element.map))
        for element in _disjoint(group)
    )


def verdict_maps(policy: NetworkPolicy) -> tuple[VerdictMap, ...]:
    """The maps that the conduits of `policy` may ever have elements in, sorted."""
    found = {
        VerdictMap(opening.table, opening.map, opening.type)
        for conduit in policy.conduits
        for opening in _openings(policy, conduit)
    }
    return tuple(sorted(found, key=lambda one: (one.table, one.name)))


def begin_chain(conduit: Conduit) -> str:
    """The chain of what goes in the direction of who begins."""
    return f"c_{conduit.id}"


def answer_chain(conduit: Conduit) -> str:
    """The chain of the answers."""
    return f"b_{conduit.id}"


def listener_chain(conduit: Conduit) -> str:
    """On `loopback`: the chain of the same packets when they arrive."""
    return f"a_{conduit.id}"


def versions_of(policy: NetworkPolicy, conduit: Conduit) -> tuple[Version, ...]:
    """The families of addresses that a conduit has or, by its slot, may have."""
    if conduit.protocol in ("icmp", "arp"):
        return (4,)
    if conduit.protocol == "icmpv6":
        return (6,)
    if conduit.slot is not None:
        types = {slot.name: slot.type for slot in policy.slots}
        return (4,) if types.get(conduit.slot) == "ipv4" else (6,)
    peers = conduit.peers or (LOOPBACK_ADDRESSES if conduit.from_zone == LOOPBACK_ZONE else ())
    return tuple(version for version in (4, 6) if any(ip_network(peer).version == version for peer in peers))


def is_flow(conduit: Conduit) -> bool:
    """Whether it has connections, or queries and answers; errors and neighbour discovery have not."""
    return conduit.protocol in ("tcp", "udp") or "echo-request" in conduit.messages


def link_of(policy: NetworkPolicy, zone: str) -> str:
    """The link that a zone is reached by; `lo` for `loopback`."""
    if zone == LOOPBACK_ZONE:
        return LOOPBACK_LINK
    return next(one.link for one in policy.zones if one.id == zone)


# ---- which maps a conduit opens


def _openings(policy: NetworkPolicy, conduit: Conduit) -> Iterator[_Opening]:
    for version in versions_of(policy, conduit):
        make = _Opener(policy, conduit, version)
        if conduit.protocol == "arp":
            yield from make.arp()
        elif conduit.from_zone == LOOPBACK_ZONE:
            yield from make.loopback()
        elif conduit.from_zone == DEVICE_ZONE:
            yield from make.outbound(link_of(policy, conduit.to_zone))
        elif conduit.to_zone == DEVICE_ZONE:
            yield from make.inbound(link_of(policy, conduit.from_zone))
        else:
            yield from make.forwarded()


@dataclass(frozen=True)
class _Opener:
    """The openings of one conduit in one family of addresses."""

    policy: NetworkPolicy
    conduit: Conduit
    version: Version

    def outbound(self, link: str) -> Iterator[_Opening]:
        yield from self._flow(f"out_{link}_{self.conduit.service}", begin_chain(self.conduit))
        yield from self._flow(f"in_{link}_answers", answer_chain(self.conduit), answers=True)
        yield from self._errors(f"out_{link}_errors")
        yield from self._neighbours(f"out_{link}_neighbours", ("group",))

    def inbound(self, link: str) -> Iterator[_Opening]:
        yield from self._flow(f"in_{link}_begin", begin_chain(self.conduit))
        yield from self._flow(f"out_{link}_answers", answer_chain(self.conduit), answers=True)
        yield from self._errors(f"in_{link}_errors")
        yield from self._neighbours(f"in_{link}_neighbours", ("peers", "group"))

    def loopback(self) -> Iterator[_Opening]:
        yield from self._flow(f"out_{LOOPBACK_LINK}_{self.conduit.service}", begin_chain(self.conduit))
        yield from self._flow(f"in_{LOOPBACK_LINK}_begin", listener_chain(self.conduit))
        yield from self._flow(f"out_{LOOPBACK_LINK}_answers", answer_chain(self.conduit), answers=True)
        yield from self._flow(f"in_{LOOPBACK_LINK}_answers", answer_chain(self.conduit), answers=True)

    def forwarded(self) -> Iterator[_Opening]:
        here, there = link_of(self.policy, self.conduit.from_zone), link_of(self.policy, self.conduit.to_zone)
        out, back = forward_chain(here, there), forward_chain(there, here)
        answer = answer_chain(self.conduit)
        yield from self._flow(f"{out}_begin", begin_chain(self.conduit), places=("peers", "targets"))
        yield from self._flow(f"{back}_answers", answer, answers=True, places=("targets", "peers"))
        yield from self._errors(f"{out}_errors", places=("peers", "targets"))

    def arp(self) -> Iterator[_Opening]:
        outward = self.conduit.from_zone == DEVICE_ZONE
        link = link_of(self.policy, self.conduit.to_zone if outward else self.conduit.from_zone)
        name, chain = f"{'out' if outward else 'in'}_{link}", begin_chain(self.conduit)
        for message in self.conduit.messages:
            before = (str(ARP_OPERATIONS[message]),)
            yield _Opening("arp", name, ("arp_op", "ipv4_addr"), chain, 4, before, ("peers",), ((),))

    def _flow(
        self, name: str, chain: str, *, answers: bool = False, places: tuple[str, ...] = ("peers",)
    ) -> Iterator[_Opening]:
        conduit = self.conduit
        if conduit.protocol in ("tcp", "udp"):
            number = str(PROTOCOL_NUMBERS[conduit.protocol])
            behind: tuple[Key, ...] = tuple((number, span) for span in port_spans(conduit))
            yield self._opening(f"{name}_{self.version}", chain, places, behind, _FLOW)
        elif "echo-request" in conduit.messages:
            behind = ((str(ECHO[conduit.protocol][answers]),),)
            yield self._opening(f"{name}_{conduit.protocol}", chain, places, behind, (self._type(),))

    def _errors(self, name: str, places: tuple[str, ...] = ("peers",)) -> Iterator[_Opening]:
        numbers = ERRORS.get(self.conduit.protocol, {})
        behind = tuple((str(numbers[message]),) for message in self.conduit.messages if message in numbers)
        if behind:
            name = f"{name}_{self.conduit.protocol}"
            yield self._opening(name, begin_chain(self.conduit), places, behind, (self._type(),))

    def _neighbours(self, name: str, places: tuple[str, ...]) -> Iterator[_Opening]:
        for message in self.conduit.messages if self.conduit.protocol == "icmpv6" else ():
            if message in NEIGHBOUR:
                behind = ((str(NEIGHBOUR[message]),),)
                yield self._opening(name, begin_chain(self.conduit), places, behind, (self._type(),), message=message)

    def _opening(
        self,
        name: str,
        chain: str,
        places: tuple[str, ...],
        behind: tuple[Key, ...],
        types: tuple[str, ...],
        message: str = "",
    ) -> _Opening:
        kinds = (*(f"ipv{self.version}_addr" for _ in places), *types)
        return _Opening("inet", name, kinds, chain, self.version, (), places, behind, message)

    def _type(self) -> str:
        return f"{self.conduit.protocol}_type"


def forward_chain(here: str, there: str) -> str:
    """The chain of what comes by the link `here` and leaves by `there`."""
    return f"fwd_{here}_{there}"


# ---- addresses and ports of a key


def _elements(
    policy: NetworkPolicy, conduit: Conduit, opening: _Opening, filled: Mapping[str, Sequence[str]]
) -> Iterator[Element]:
    places = [_place(policy, conduit, opening, place, filled) for place in opening.places]
    for addresses in product(*places):
        for behind in opening.behind:
            yield Element(opening.table, opening.map, (*opening.before, *addresses, *behind), opening.chain)


def _place(
    policy: NetworkPolicy, conduit: Conduit, opening: _Opening, place: str, filled: Mapping[str, Sequence[str]]
) -> tuple[Span, ...]:
    if place == "targets":
        return address_spans(conduit.targets, opening.version)
    if place == "group":
        outward = conduit.from_zone == DEVICE_ZONE
        meant = _peers(conduit, filled, 6) if outward else own_spans(policy, link_of(policy, conduit.from_zone), 6)
        return _with_group(meant, opening.message)
    return _peers(conduit, filled, opening.version)


def _peers(conduit: Conduit, filled: Mapping[str, Sequence[str]], version: Version) -> tuple[Span, ...]:
    if conduit.slot is not None:
        return address_spans(filled.get(conduit.slot, ()), version)
    if conduit.from_zone == LOOPBACK_ZONE and not conduit.peers:
        return address_spans(LOOPBACK_ADDRESSES, version)
    return address_spans(conduit.peers, version)


def own_spans(policy: NetworkPolicy, link: str, version: Version) -> tuple[Span, ...]:
    """The device's static addresses on a link; every address where it has none of this family."""
    if link == LOOPBACK_LINK:
        return address_spans(LOOPBACK_ADDRESSES, version)
    found = [str(ip_interface(address).ip) for one in policy.links if one.name == link for address in one.addresses]
    return address_spans(found, version) or (Span(0, (1 << (32 if version == 4 else 128)) - 1, version),)


def _with_group(meant: tuple[Span, ...], message: str) -> tuple[Span, ...]:
    """With the groups that reach them: RFC 4861 section 4, RFC 4291 section 2.7.1."""
    if not meant or message not in NEIGHBOUR:
        return meant
    if message == "neighbour-solicitation":
        return joined_spans([*meant, *(span for one in meant for span in _solicited(one))])
    group = int(IPv6Address(_GROUPS[message]))
    return joined_spans([*meant, Span(group, group, 6)])


def _solicited(span: Span) -> Iterator[Span]:
    low, high = span.low & 0xFFFFFF, span.high & 0xFFFFFF
    if span.high - span.low >= 0xFFFFFF:
        yield Span(_SOLICITED_NODE, _SOLICITED_NODE + 0xFFFFFF, 6)
    elif low <= high:
        yield Span(_SOLICITED_NODE + low, _SOLICITED_NODE + high, 6)
    else:
        yield Span(_SOLICITED_NODE, _SOLICITED_NODE + high, 6)
        yield Span(_SOLICITED_NODE + low, _SOLICITED_NODE + 0xFFFFFF, 6)


def port_spans(conduit: Conduit) -> tuple[Span, ...]:
    """The ports of who answers: sorted, joined where they touch."""
    pairs = (str(port).partition("-") for port in conduit.ports)
    return joined_spans(Span(int(first), int(last or first)) for first, _, last in pairs)


# ---- no key twice


def _disjoint(elements: Iterable[Element]) -> Iterator[Element]:
    """What came first keeps its packets."""
    taken: dict[tuple[str | None, ...], list[Key]] = {}
    for element in elements:
        words = tuple(field if isinstance(field, str) else None for field in element.key)
        before = taken.setdefault(words, [])
        left = [element.key]
        for other in [other for other in before if keys_meet(element.key, other)]:
            left = [part for key in left for part in key_without(key, other)]
        before.extend(left)
        for key in left:
            yield Element(element.table, element.map, key, element.chain)
