"""Rules about ARP: a conduit over IPv4 works only when both ends can find each other on their link."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from ipaddress import IPv4Network

from appliance.formats.network_policy import DEVICE_ZONE, Conduit, Link, NetworkPolicy
from builder.profile.addresses import contains, interfaces, network, networks
from builder.profile.problem import Finding, Path
from builder.profile.rules import Rule, finding
from builder.profile.rules_conduits import CONDUITS, is_forwarding, is_loopback
from builder.profile.types import Profile

Arp = dict[tuple[str, bool, str], list[IPv4Network]]
"""(zone, whether the device sends, message) -> with whom."""

_THE_DEVICE_ASKS = ((True, "request"), (False, "reply"))
_THE_DEVICE_IS_ASKED = ((False, "request"), (True, "reply"))


def neighbours_can_be_asked(profile: Profile) -> Iterator[Finding]:
    """IPv4 on Ethernet needs ARP with each neighbour that a packet goes to; no conduit is implicit."""
    policy = profile.network
    arp, links = _arp(policy), _links(policy)
    for number, conduit in enumerate(policy.conduits):
        if conduit.protocol in ("arp", "icmpv6") or is_loopback(conduit):
            continue
        for key, zone, peers in _far_ends(conduit, policy):
            if zone in links:
                needed = _THE_DEVICE_ASKS + (_THE_DEVICE_IS_ASKED if conduit.from_zone == zone else ())
                yield from _unasked((*CONDUITS, number, key), zone, links[zone], peers, arp, needed)


def arp_asks_neighbours(profile: Profile) -> Iterator[Finding]:
    """Nobody behind a router answers to ARP, and no router forwards it."""
    policy = profile.network
    links = _links(policy)
    for number, conduit in enumerate(policy.conduits):
        if conduit.protocol != "arp":
            continue
        if is_forwarding(conduit):
            message = "`arp`, which stays on its link: nobody forwards it"
            yield finding((*CONDUITS, number, "protocol"), message, "write `device` for one end")
            continue
        for key, zone, peers in _far_ends(conduit, policy):
            here = _on_link(links[zone]) if zone in links else peers
            for peer in peers:
                if not contains(here, peer):
                    message = f"`{_short(peer)}` is no neighbour on {links[zone].name}: nobody there answers to ARP"
                    yield finding((*CONDUITS, number, key), message, "name the gateway instead, in its own zone")


def _links(policy: NetworkPolicy) -> dict[str, Link]:
    """zone -> its link, where that has addresses and all of them are right."""
    links = {
        link.name: link
        for link in policy.links
        if link.addresses and len(interfaces(link.addresses)) == len(link.addresses)
    }
    return {zone.id: links[zone.link] for zone in policy.zones if zone.link in links}


def _on_link(link: Link) -> list[IPv4Network]:
    return [one.network for one in interfaces(link.addresses)]


def _peers(conduit: Conduit, policy: NetworkPolicy) -> list[IPv4Network]:
    """Whoever may be at the other end, now or when a slot is filled."""
    bounds = [bound for slot in policy.slots if slot.name == conduit.slot for bound in slot.within]
    return networks((*conduit.peers, *bounds))


def _far_ends(conduit: Conduit, policy: NetworkPolicy) -> Iterator[tuple[str, str, list[IPv4Network]]]:
    """(key, zone, addresses) of each end that is not the device."""
    far = conduit.to_zone if conduit.from_zone == DEVICE_ZONE else conduit.from_zone
    yield "peers" if conduit.slot is None else "slot", far, _peers(conduit, policy)
    if is_forwarding(conduit):
        yield "targets", conduit.to_zone, networks(conduit.targets)


def _arp(policy: NetworkPolicy) -> Arp:
    found: Arp = defaultdict(list)
    for conduit in policy.conduits:
        if conduit.protocol == "arp":
            sends = conduit.from_zone == DEVICE_ZONE
            zone = conduit.to_zone if sends else conduit.from_zone
            for message in conduit.messages:
                found[zone, sends, message] += _peers(conduit, policy)
    return found


def _unasked(
    path: Path, zone: str, link: Link, peers: list[IPv4Network], arp: Arp, needed: tuple[tuple[bool, str], ...]
) -> Iterator[Finding]:
    """zone: whose `peers` they are; a gateway may be in another zone."""
    zones = {key[0] for key in arp}
    gateway = network(link.gateway or "")
    for peer in peers:
        far = not contains(_on_link(link), peer)
        neighbour = gateway if far else peer
        if neighbour is None or not contains(_on_link(link), neighbour):
            continue  # there is no way there at all, and another rule says so
        asked = zones if far else {zone}
        if any(all(contains(arp.get((one, *way), []), neighbour) for way in needed) for one in asked):
            continue
        who = f"the gateway {_short(neighbour)}" if far else f"`{_short(neighbour)}`"
        message = f"no ARP with {who}: its link address could not be found out, and no conduit is implicit"
        yield finding(path, message, _hint("the gateway's zone" if far else f"`{zone}`", neighbour))


def _hint(end: str, neighbour: IPv4Network) -> str:
    what = f"`protocol: arp`, `service: kernel`, `messages: [request, reply]`, `peers: [{_short(neighbour)}]`"
    return f"add a conduit from `device` to {end} and one back, each with {what}"


def _short(found: IPv4Network) -> str:
    return str(found.network_address) if found.prefixlen == 32 else str(found)


RULES: tuple[Rule, ...] = (
    neighbours_can_be_asked,
    arp_asks_neighbours,
)
