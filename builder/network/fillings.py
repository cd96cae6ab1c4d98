"""Addresses that stand for every address that a slot may be filled with. Pure.

A rule tells two addresses apart only where one of its numbers lies between them. So the bounds of a slot are cut where
the ruleset, or the policy, has a number; in one piece all addresses fare alike, and one of them speaks for the piece.
A packet has one address of a peer, so what the other addresses of the slot are does not matter to it.
docs/explanation/network-proof.md has the argument in full.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address, ip_interface, ip_network

from appliance.formats.network_policy import NetworkPolicy, Slot
from builder.network.bytecode import Cmp, Range
from builder.network.intervals import contains, of_peers
from builder.network.listing import Ruleset

_SIZES = {"ipv4_addr": (4, 4), "ipv6_addr": (16, 6)}


def representatives(policy: NetworkPolicy, ruleset: Ruleset) -> Mapping[str, tuple[str, ...]]:
    """slot → an address for each piece of its bounds, among them its first and last ones. ruleset: no slot filled."""
    cuts = {version: sorted({*_of_policy(policy, version), *_of_ruleset(ruleset, version)}) for version in (4, 6)}
    own = [str(ip_interface(address).ip) for link in policy.links for address in link.addresses]
    return {slot.name: tuple(_of_slot(slot, number, cuts, own)) for number, slot in enumerate(policy.slots)}


def _of_slot(slot: Slot, number: int, cuts: Mapping[int, list[int]], own: Iterable[str]) -> Iterator[str]:
    """number: of the slot. In a piece that several slots have, each takes another address."""
    version = 4 if slot.type == "ipv4" else 6
    ours, make = of_peers(own, version), type(ip_address("0.0.0.0" if version == 4 else "::"))  # noqa: S104
    found: set[int] = set()
    for first, last in of_peers(slot.within, version):
        begins = [first, *(cut for cut in cuts[version] if first < cut <= last), last + 1]
        pieces = [(begin, end - 1) for begin, end in itertools.pairwise(begins) if not contains(ours, begin)]
        found |= {min(begin + number, end) for begin, end in pieces} | {
            last - number if last - number >= first else last
        }
    yield from (str(make(value)) for value in sorted(found) if not contains(ours, value))


def _of_policy(policy: NetworkPolicy, version: int) -> Iterator[int]:
    """Where something begins that the policy names, and where it is over."""
    named = [prefix for zone in policy.zones for prefix in zone.prefixes]
    named += [prefix for slot in policy.slots for prefix in slot.within]
    named += [peer for conduit in policy.conduits for peer in (*conduit.peers, *conduit.targets)]
    named += [str(ip_interface(address).ip) for link in policy.links for address in link.addresses]
    for text in named:
        network = ip_network(text)
        if network.version == version:
            yield from (int(network.network_address), int(network.broadcast_address) + 1)


def _of_ruleset(ruleset: Ruleset, version: int) -> Iterator[int]:
    """The same of every number that is compared and may be an address: a cut too many does no harm."""
    size = 4 if version == 4 else 16
    for rule in ruleset.rules:
        for each in rule.expressions:
            if isinstance(each, Cmp):
                yield from _ends(each.data, each.data, size)
            elif isinstance(each, Range):
                yield from _ends(each.first, each.last, size)
    for table in ruleset.tables:
        for found in table.sets.values():
            for element in found.elements:
                yield from _element_ends(element.first, element.last, size)


def _element_ends(first: bytes, last: bytes, size: int) -> Iterator[int]:
    """At every register of a key: its types are not always known."""
    for start in range(0, len(first) - size + 1, 4):
        yield from _ends(first[start : start + size], last[start : start + size], size)


def _ends(first: bytes, last: bytes, size: int) -> Iterator[int]:
    if len(first) <= size:
        yield int.from_bytes(first.ljust(size, b"\0"), "big")
        yield int.from_bytes(last.ljust(size, b"\xff"), "big") + 1
        # a load of three bytes: the fourth is padding, and any byte goes on in its place
        yield int.from_bytes(last.rstrip(b"\0").ljust(size, b"\xff"), "big") + 1
