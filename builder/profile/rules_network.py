"""Rules about links and conduits: every address can exist, every conduit can carry a packet."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface
from itertools import combinations

from builder.profile.problem import Finding, Path, did_you_mean
from builder.profile.rules import Rule, duplicates, finding, listed, normal_module
from builder.profile.types import Conduit, Link, Profile

_ADDRESS_HINT = "write the address of a host, like 192.0.2.10/24"


def links_are_distinct(profile: Profile) -> Iterator[Finding]:
    """By name, and by driver: the driver is what tells two interfaces apart."""
    links, path = profile.network.links, ("network", "links")
    yield from duplicates(path, [link.name for link in links], key="name", hint="rename one of the two")
    drivers = [normal_module(link.driver) for link in links]
    yield from duplicates(path, drivers, key="driver", hint="the driver identifies a link: two need different ones")
    if not links:
        yield finding(path, "no link, verdicts could not leave the device", "add one with name, driver and address")


def links_have_their_driver(profile: Profile) -> Iterator[Finding]:
    """A driver that is not in the image brings no interface up."""
    has = {normal_module(name) for name in profile.hardware.modules}
    for number, link in enumerate(profile.network.links):
        if normal_module(link.driver) not in has:
            message = f"`{link.driver}` is not in hardware.modules"
            hint = did_you_mean(link.driver, has, otherwise=f"add `- {link.driver}` to hardware.modules")
            yield finding(("network", "links", number, "driver"), message, hint)


def addresses_can_be_configured(profile: Profile) -> Iterator[Finding]:
    """A host's address in a prefix that has hosts; `lo` is the kernel's."""
    for number, link in enumerate(profile.network.links):
        path: Path = ("network", "links", number)
        if link.name == "lo":
            yield finding((*path, "name"), "`lo` is the kernel's own loopback", "name it by its role, like `uplink0`")
        interface = _interface(link.address)
        if interface is None:
            yield finding(
                (*path, "address"), f"`{link.address}` is not an IPv4 address and prefix length", _ADDRESS_HINT
            )
            continue
        fault = _host_fault(interface.ip) or _prefix_fault(interface)
        if fault:
            yield finding((*path, "address"), f"`{link.address}` {fault}", _ADDRESS_HINT)


def gateways_are_neighbours(profile: Profile) -> Iterator[Finding]:
    """A gateway is another host on its link's prefix, and there is one default route."""
    links = profile.network.links
    for number, link in enumerate(links):
        path: Path = ("network", "links", number, "gateway")
        interface, gateway = _interface(link.address), _address(link.gateway)
        if link.gateway is None or interface is None:
            continue
        if gateway is None:
            yield finding(path, f"`{link.gateway}` is not an IPv4 address", "write it like 192.0.2.1")
        elif gateway == interface.ip:
            yield finding(path, f"`{gateway}` is the link's own address", "name the router")
        elif gateway not in interface.network:
            yield finding(path, f"`{gateway}` is not in {interface.network}", "a gateway is a neighbour on the link")
    routed = [number for number, link in enumerate(links) if link.gateway is not None]
    for number in routed[1:]:
        message = f"a second default route, the first is network.links[{routed[0]}].gateway"
        yield finding(("network", "links", number, "gateway"), message, "remove one of the two")


def prefixes_do_not_overlap(profile: Profile) -> Iterator[Finding]:
    """Two links are two zones: an address is in one of them."""
    known = [(number, _interface(link.address)) for number, link in enumerate(profile.network.links)]
    for (first, one), (second, other) in combinations(known, 2):
        if one is not None and other is not None and one.network.overlaps(other.network):
            message = f"{other.network} overlaps {one.network} of network.links[{first}]"
            yield finding(("network", "links", second, "address"), message, "give each link a prefix of its own")


def conduits_are_distinct(profile: Profile) -> Iterator[Finding]:
    """By id, and no flow is allowed twice."""
    conduits, path = profile.network.conduits, ("network", "conduits")
    yield from duplicates(path, [conduit.id for conduit in conduits], key="id", hint="rename one of the two")
    flows: dict[tuple[str, ...], int] = {}
    for number, conduit in enumerate(conduits):
        here: Path = (*path, number, "ports")
        yield from duplicates(here, conduit.ports, hint="remove one of the two")
        if not conduit.ports:
            yield finding(here, "no port, the conduit would carry nothing", "name the peer's ports, like `[8883]`")
        for port in sorted(set(conduit.ports)):
            flow = (conduit.service, conduit.interface, conduit.peer, conduit.protocol, str(port))
            if flow in flows:
                message = f"port {port} is already open to {conduit.peer} by network.conduits[{flows[flow]}]"
                yield finding(here, message, "one flow belongs to one conduit: remove one of the two")
            flows.setdefault(flow, number)


def conduits_lead_somewhere(profile: Profile) -> Iterator[Finding]:
    """Each leaves by a link that exists and reaches a host that is not the device itself."""
    links = {link.name: link for link in profile.network.links}
    own = {interface.ip for link in links.values() if (interface := _interface(link.address))}
    for number, conduit in enumerate(profile.network.conduits):
        path: Path = ("network", "conduits", number)
        if conduit.interface not in links:
            message = f"`{conduit.interface}` is not in network.links"
            hint = did_you_mean(conduit.interface, links, otherwise=f"links there: {listed(links)}")
            yield finding((*path, "interface"), message, hint)
        peer = _address(conduit.peer)
        fault = "is not an IPv4 address" if peer is None else _host_fault(peer)
        if fault or peer is None:
            yield finding((*path, "peer"), f"`{conduit.peer}` {fault}", "write the address of one host, like 192.0.2.1")
        elif peer in own:
            yield finding((*path, "peer"), f"`{conduit.peer}` is the device's own address", "name the other side")
        elif conduit.interface in links:
            yield from _route(path, conduit, links[conduit.interface], peer)


def uplink_has_a_conduit(profile: Profile) -> Iterator[Finding]:
    """MQTT over TLS is TCP, and without a conduit no verdict leaves."""
    for number, conduit in enumerate(profile.network.conduits):
        if conduit.service == "uplink" and conduit.protocol != "tcp":
            message = f"`{conduit.protocol}`, but the uplink speaks MQTT over TLS"
            yield finding(("network", "conduits", number, "protocol"), message, "write `protocol: tcp`")
    if not any(conduit.service == "uplink" for conduit in profile.network.conduits):
        message = "none for the service `uplink`: no verdict could leave the device"
        yield finding(("network", "conduits"), message, "add one to the broker's address and port")


def _route(path: Path, conduit: Conduit, link: Link, peer: IPv4Address) -> Iterator[Finding]:
    interface = _interface(link.address)
    if interface is None:
        return
    if peer in interface.network:
        if interface.network.prefixlen < 31 and peer in (
            interface.network.network_address,
            interface.network.broadcast_address,
        ):
            yield finding((*path, "peer"), f"`{peer}` is not a host of {interface.network}", "name one host")
    elif link.gateway is None:
        message = f"`{peer}` is not in {interface.network} of {link.name}, which has no gateway"
        yield finding((*path, "peer"), message, f"give {link.name} a gateway, or correct the address")


def _interface(text: str) -> IPv4Interface | None:
    try:
        return IPv4Interface(text)
    except ValueError:
        return None


def _address(text: str | None) -> IPv4Address | None:
    try:
        return None if text is None else IPv4Address(text)
    except ValueError:
        return None


def _host_fault(address: IPv4Address) -> str | None:
    if address.is_multicast:
        return "is a multicast address"
    if address.is_loopback:
        return "is a loopback address"
    if address.is_unspecified or address == IPv4Address("255.255.255.255") or address.is_reserved:
        return "is not the address of a host"
    return None


def _prefix_fault(interface: IPv4Interface) -> str | None:
    network = interface.network
    if network.prefixlen == 0:
        return "has a prefix that covers every address"
    if network.prefixlen < 31 and interface.ip in (network.network_address, network.broadcast_address):
        return f"is not a host of {network}"
    return None


RULES: tuple[Rule, ...] = (
    links_are_distinct,
    links_have_their_driver,
    addresses_can_be_configured,
    gateways_are_neighbours,
    prefixes_do_not_overlap,
    conduits_are_distinct,
    conduits_lead_somewhere,
    uplink_has_a_conduit,
)
