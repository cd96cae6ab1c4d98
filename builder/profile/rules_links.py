"""Rules about links: each is one interface for certain, and has addresses that can be configured."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from ipaddress import IPv4Address
from itertools import combinations

from appliance.formats.network_policy import Link, Vlan
from builder.profile.addresses import address_fault, interface, interface_fault, interfaces
from builder.profile.problem import Finding, Path, did_you_mean
from builder.profile.rules import Rule, duplicates, finding, listed, normal_module
from builder.profile.types import Profile

LINKS: Path = ("network", "links")
_ADDRESS_HINT = "write the address of a host, like 192.0.2.10/24"
_ROLE_HINT = "name it by its role, like `uplink0`"


def links_are_distinct(profile: Profile) -> Iterator[Finding]:
    """By name; `lo` is the kernel's."""
    links = profile.network.links
    yield from duplicates(LINKS, [link.name for link in links], key="name", hint="rename one of the two")
    for number, link in enumerate(links):
        if link.name == "lo":
            yield finding((*LINKS, number, "name"), "`lo` is the kernel's own loopback", _ROLE_HINT)
    if not links:
        message = "no link, verdicts could not leave the device"
        yield finding(LINKS, message, "add one with name, driver and addresses")


def links_are_identified(profile: Profile) -> Iterator[Finding]:
    """A physical one by its driver and place, a VLAN by its parent and tag; no interface answers to two links."""
    for number, link in enumerate(profile.network.links):
        path: Path = (*LINKS, number)
        if link.vlan is None and link.driver is None:
            hint = "write the kernel driver of the port, like `driver: igc`, or `vlan` with parent and tag"
            yield finding(path, f"nothing says which interface `{link.name}` is", hint)
        for key, value in (("driver", link.driver), ("place", link.place)):
            if link.vlan is not None and value is not None:
                message = f"`{value}`, but a VLAN is known by its parent and tag"
                yield finding((*path, key), message, f"remove the line; the parent has its own `{key}`")
        if link.place is not None and not link.place.strip("*"):
            yield finding((*path, "place"), f"`{link.place}` is every place", "write udev's ID_PATH of the port")
    physical = [(number, link) for number, link in enumerate(profile.network.links) if link.driver and not link.vlan]
    for (first, one), (second, other) in combinations(physical, 2):
        yield from _confused(first, one, second, other)


def _confused(first: int, one: Link, second: int, other: Link) -> Iterator[Finding]:
    if normal_module(one.driver or "") != normal_module(other.driver or ""):
        return
    if one.place is None or other.place is None:
        path: Path = (*LINKS, second if other.place is None else first, "driver")
        message = f"`{other.driver}` is also the driver of network.links[{first if other.place is None else second}]"
        yield finding(path, message, "two ports of one driver need a `place` each, like `place: pci-0000:02:00.0`")
    elif fnmatchcase(one.place, other.place) or fnmatchcase(other.place, one.place):
        message = f"`{other.place}` is also the place of network.links[{first}]"
        yield finding((*LINKS, second, "place"), message, "a port has one link: correct one of the two")


def links_have_their_driver(profile: Profile) -> Iterator[Finding]:
    """A driver that is not in the image brings no interface up."""
    has = {normal_module(name) for name in profile.hardware.modules}
    for number, link in enumerate(profile.network.links):
        if link.driver is not None and normal_module(link.driver) not in has:
            message = f"`{link.driver}` is not in hardware.modules"
            hint = did_you_mean(link.driver, has, otherwise=f"add `- {link.driver}` to hardware.modules")
            yield finding((*LINKS, number, "driver"), message, hint)


def vlans_have_a_parent(profile: Profile) -> Iterator[Finding]:
    """A physical link, on which each tag stands once."""
    links = {link.name: link for link in profile.network.links}
    tags: dict[tuple[str, int], int] = {}
    for number, link in enumerate(profile.network.links):
        if link.vlan is None:
            continue
        path: Path = (*LINKS, number, "vlan")
        yield from _parent_findings((*path, "parent"), link.name, link.vlan, links)
        key = (link.vlan.parent, link.vlan.tag)
        if key in tags:
            message = f"{link.vlan.tag} is already network.links[{tags[key]}] on {link.vlan.parent}"
            yield finding((*path, "tag"), message, "give each VLAN of a link a tag of its own")
        tags.setdefault(key, number)


def _parent_findings(path: Path, name: str, vlan: Vlan, links: dict[str, Link]) -> Iterator[Finding]:
    physical = [link.name for link in links.values() if link.vlan is None]
    if vlan.parent == name:
        yield finding(path, f"`{name}` would carry itself", f"name a physical link: {listed(physical)}")
    elif vlan.parent not in links:
        hint = did_you_mean(vlan.parent, physical, otherwise=f"physical links: {listed(physical)}")
        yield finding(path, f"`{vlan.parent}` is not in network.links", hint)
    elif links[vlan.parent].vlan is not None:
        message = f"`{vlan.parent}` is a VLAN itself"
        yield finding(path, message, f"a VLAN is carried by a physical link: {listed(physical)}")


def addresses_can_be_configured(profile: Profile) -> Iterator[Finding]:
    """Addresses of hosts, each once; only what carries VLANs needs none."""
    carriers = {link.vlan.parent for link in profile.network.links if link.vlan}
    seen: dict[IPv4Address, Path] = {}
    for number, link in enumerate(profile.network.links):
        path: Path = (*LINKS, number, "addresses")
        for position, text in enumerate(link.addresses):
            here: Path = (*path, position)
            found = interface(text)
            if found is None:
                yield finding(here, f"`{text}` {interface_fault(text)}", _ADDRESS_HINT)
            elif found.ip in seen:
                yield finding(
                    here, f"`{found.ip}` stands twice", "an address belongs to one link: remove one of the two"
                )
            else:
                seen[found.ip] = here
        if not link.addresses and link.name not in carriers:
            yield finding(path, f"none, and no VLAN is on `{link.name}`: nothing could use it", _ADDRESS_HINT)


def gateways_are_neighbours(profile: Profile) -> Iterator[Finding]:
    """A gateway is another host on its link's prefix, and there is one default route."""
    links = profile.network.links
    for number, link in enumerate(links):
        if link.gateway is not None:
            yield from _gateway_findings((*LINKS, number, "gateway"), link, link.gateway)
    routed = [number for number, link in enumerate(links) if link.gateway is not None]
    for number in routed[1:]:
        message = f"a second default route, the first is network.links[{routed[0]}].gateway"
        yield finding((*LINKS, number, "gateway"), message, "remove one of the two")


def _gateway_findings(path: Path, link: Link, gateway: str) -> Iterator[Finding]:
    if fault := address_fault(gateway):
        yield finding(path, f"`{gateway}` {fault}", "write it like 192.0.2.1")
        return
    own, address = interfaces(link.addresses), IPv4Address(gateway)
    if len(own) < len(link.addresses):
        return
    if any(address == one.ip for one in own):
        yield finding(path, f"`{gateway}` is the link's own address", "name the router")
    elif not any(address in one.network for one in own):
        where = listed(str(one.network) for one in own) if own else "a prefix of the link, which has no address"
        yield finding(path, f"`{gateway}` is not in {where}", "a gateway is a neighbour on the link")


def links_do_not_overlap(profile: Profile) -> Iterator[Finding]:
    """An address is on one link."""
    known = [
        (number, position, found)
        for number, link in enumerate(profile.network.links)
        for position, text in enumerate(link.addresses)
        if (found := interface(text)) is not None
    ]
    for (first, _, one), (second, position, other) in combinations(known, 2):
        if first != second and one.ip != other.ip and one.network.overlaps(other.network):
            message = f"{other.network} overlaps {one.network} of network.links[{first}]"
            yield finding((*LINKS, second, "addresses", position), message, "give each link a prefix of its own")


RULES: tuple[Rule, ...] = (
    links_are_distinct,
    links_are_identified,
    links_have_their_driver,
    vlans_have_a_parent,
    addresses_can_be_configured,
    gateways_are_neighbours,
    links_do_not_overlap,
)
