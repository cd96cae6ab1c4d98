"""Rules about zones and slots: an address is in one zone, and whoever is in a zone can be reached."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from appliance.formats.network_policy import DEVICE_ZONE, LOOPBACK_ZONE, Link, Zone
from builder.profile.addresses import contains, interfaces, network, networks, prefix_findings
from builder.profile.anyone import is_any
from builder.profile.problem import Finding, Path, did_you_mean
from builder.profile.rules import Rule, duplicates, finding, listed
from builder.profile.types import Profile

ZONES: Path = ("network", "zones")
SLOTS: Path = ("network", "slots")
_RESERVED = {DEVICE_ZONE: "the device itself", LOOPBACK_ZONE: "what stays inside the device"}


def zones_are_distinct(profile: Profile) -> Iterator[Finding]:
    """By id, and by no name that means something else."""
    zones = profile.network.zones
    yield from duplicates(ZONES, [zone.id for zone in zones], key="id", hint="rename one of the two")
    for number, zone in enumerate(zones):
        if zone.id in _RESERVED:
            message = f"`{zone.id}` is {_RESERVED[zone.id]}"
            yield finding((*ZONES, number, "id"), message, "name the zone by what is in it, like `cell-3`")
        elif is_any(zone.id):
            message = f"`{zone.id}` opens more than anybody approved"
            yield finding((*ZONES, number, "id"), message, "name the zone by what is in it, like `cell-3`")
    if not zones:
        message = "no zone, the device could speak to nobody"
        yield finding(ZONES, message, "add the zone of the plant's broker, with its link and prefixes")


def zones_have_addresses(profile: Profile) -> Iterator[Finding]:
    """At least one prefix, of hosts."""
    own = {one.ip for link in profile.network.links for one in interfaces(link.addresses)}
    for number, zone in enumerate(profile.network.zones):
        path: Path = (*ZONES, number, "prefixes")
        if not zone.prefixes:
            yield finding(path, f"none: the zone `{zone.id}` is empty", "write the prefixes of its hosts")
        yield from prefix_findings(path, zone.prefixes)
        found = networks(zone.prefixes)
        if found and all(one.prefixlen == 32 and one.network_address in own for one in found):
            message = f"the zone `{zone.id}` has nobody but the device in it"
            yield finding(path, message, "write the prefixes of the hosts at the other end")


def zones_do_not_overlap(profile: Profile) -> Iterator[Finding]:
    """An address is in one zone."""
    known = [
        (number, position, found)
        for number, zone in enumerate(profile.network.zones)
        for position, text in enumerate(zone.prefixes)
        if (found := network(text)) is not None
    ]
    for (first, _, one), (second, position, other) in combinations(known, 2):
        if first != second and one.overlaps(other):
            message = f"{other} overlaps {one} of network.zones[{first}] (`{profile.network.zones[first].id}`)"
            yield finding(
                (*ZONES, second, "prefixes", position), message, "an address is in one zone: cut one of the two"
            )


def zones_are_reached_by_their_link(profile: Profile) -> Iterator[Finding]:
    """The link exists, and the way to each prefix goes by it."""
    links = {link.name: link for link in profile.network.links}
    for number, zone in enumerate(profile.network.zones):
        path: Path = (*ZONES, number)
        if zone.link not in links:
            hint = did_you_mean(zone.link, links, otherwise=f"links there: {listed(links)}")
            yield finding((*path, "link"), f"`{zone.link}` is not in network.links", hint)
        elif not links[zone.link].addresses:
            message = f"`{zone.link}` has no address: nobody there could be reached"
            yield finding((*path, "link"), message, "name the VLAN that the zone is on, or give the link an address")
        else:
            yield from _way_findings(path, zone, links[zone.link], list(links.values()))


def _way_findings(path: Path, zone: Zone, link: Link, links: list[Link]) -> Iterator[Finding]:
    here = [one.network for one in interfaces(link.addresses)]
    if len(here) < len(link.addresses):
        return
    elsewhere = {one.network: other.name for other in links if other is not link for one in interfaces(other.addresses)}
    for position, text in enumerate(zone.prefixes):
        found = network(text)
        if found is None:
            continue
        taken = [name for prefix, name in elsewhere.items() if prefix.overlaps(found)]
        if taken:
            message = f"{found} is on the link {taken[0]}, the zone is on {link.name}"
            yield finding((*path, "prefixes", position), message, f"write `link: {taken[0]}`, or cut the prefix")
        elif not contains(here, found) and link.gateway is None:
            message = f"{found} is not on the link {link.name} ({listed(map(str, here))}), which has no gateway"
            yield finding((*path, "prefixes", position), message, f"give {link.name} a gateway, or correct the prefix")


def links_have_a_zone(profile: Profile) -> Iterator[Finding]:
    """Who is on a link without a zone is nobody's concern: then it is not to be brought up."""
    used = {zone.link for zone in profile.network.zones}
    for number, link in enumerate(profile.network.links):
        if link.addresses and link.name not in used:
            message = f"no zone is on the link `{link.name}`"
            yield finding(("network", "links", number), message, "add a zone with its prefixes, or remove the link")


def slots_are_distinct(profile: Profile) -> Iterator[Finding]:
    """By name, and each is used."""
    slots = profile.network.slots
    yield from duplicates(SLOTS, [slot.name for slot in slots], key="name", hint="rename one of the two")
    used = {conduit.slot for conduit in profile.network.conduits}
    for number, slot in enumerate(slots):
        if slot.name not in used:
            message = f"no conduit has the slot `{slot.name}`"
            yield finding(
                (*SLOTS, number, "name"), message, f"write `slot: {slot.name}` in a conduit, or remove the slot"
            )


def slots_are_bounded(profile: Profile) -> Iterator[Finding]:
    """The site chooses among few addresses, not among all."""
    for number, slot in enumerate(profile.network.slots):
        path: Path = (*SLOTS, number)
        if slot.type == "ipv6":
            message = "`ipv6`, which the device's kernel has switched off (ipv6.disable=1)"
            yield finding((*path, "type"), message, "write `type: ipv4`, or remove the line")
        if not slot.within:
            message = f"no bound: the site could fill `{slot.name}` with any address"
            yield finding((*path, "within"), message, "write the prefixes that the site may choose from")
        yield from prefix_findings((*path, "within"), slot.within)
        room = sum(found.num_addresses for found in networks(slot.within))
        if room and slot.most > room:
            message = f"{slot.most}, but there are {room} addresses within its bounds"
            yield finding((*path, "most"), message, f"write {room} or less, or widen the bounds")


RULES: tuple[Rule, ...] = (
    zones_are_distinct,
    zones_have_addresses,
    zones_do_not_overlap,
    zones_are_reached_by_their_link,
    links_have_a_zone,
    slots_are_distinct,
    slots_are_bounded,
)
