"""Rules about one conduit: its ends, its service, what it carries, and who is at the other end."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv4Network

from appliance.formats.network_policy import DEVICE_ZONE, LOOPBACK_ZONE, Conduit, NetworkPolicy, Zone
from builder.profile.addresses import contains, interfaces, is_no_host, network, networks, prefix_findings
from builder.profile.anyone import INSTEAD, is_any
from builder.profile.problem import Finding, Path, did_you_mean
from builder.profile.rules import Rule, duplicates, finding, listed
from builder.profile.types import Profile

CONDUITS: Path = ("network", "conduits")
KERNEL = "kernel"
_OFFLINE = ("audit", "inference", "network")
"""Services that have a network of their own with nobody in it, or no right to an IP socket: see their units."""


def conduits_are_distinct(profile: Profile) -> Iterator[Finding]:
    """By id."""
    ids = [conduit.id for conduit in profile.network.conduits]
    yield from duplicates(CONDUITS, ids, key="id", hint="rename one of the two")


def conduits_join_two_zones(profile: Profile) -> Iterator[Finding]:
    """Both ends exist, and a packet from one to the other passes the device."""
    policy = profile.network
    zones = [zone.id for zone in policy.zones]
    for number, conduit in enumerate(policy.conduits):
        path: Path = (*CONDUITS, number)
        unknown = False
        for key, end in (("from", conduit.from_zone), ("to", conduit.to_zone)):
            if end in (DEVICE_ZONE, LOOPBACK_ZONE, *zones):
                continue
            unknown = True
            if is_any(end):
                yield finding((*path, key), f"`{end}` opens more than anybody approved", INSTEAD[key])
            else:
                hint = did_you_mean(end, (DEVICE_ZONE, *zones), otherwise=f"zones there: {listed(zones)}; or `device`")
                yield finding((*path, key), f"`{end}` is no zone", hint)
        if not unknown:
            yield from _end_findings(path, conduit, policy)


def _end_findings(path: Path, conduit: Conduit, policy: NetworkPolicy) -> Iterator[Finding]:
    ends = (conduit.from_zone, conduit.to_zone)
    if ends == (DEVICE_ZONE, DEVICE_ZONE):
        yield finding((*path, "to"), "both ends are the device", "write the zone at the other end")
    elif ends == (LOOPBACK_ZONE, LOOPBACK_ZONE):
        return
    elif LOOPBACK_ZONE in ends:
        message = "`loopback` at one end only: nothing leaves the device by it"
        yield finding((*path, "to"), message, "write `loopback` for both ends, or `device` for this one")
    elif ends[0] == ends[1]:
        message = f"both ends are `{ends[0]}`: what stays in a zone does not pass the device"
        yield finding((*path, "to"), message, "write `device` for the end that is ours, or remove the conduit")
    elif DEVICE_ZONE not in ends and policy.component_type != "network":
        message = f"`{ends[0]}` and `{ends[1]}` would see each other, but component_type is `{policy.component_type}`"
        yield finding((*path, "to"), message, "write `device` for one end; only a `network` component forwards")


def forwarding_is_needed(profile: Profile) -> Iterator[Finding]:
    """A component that forwards nothing is no network component."""
    policy = profile.network
    if policy.component_type == "network" and not any(map(is_forwarding, policy.conduits)):
        message = "`network`, but no conduit joins two zones: the kernel would forward for nothing"
        yield finding(("network", "component_type"), message, "write `component_type: embedded`")


def is_forwarding(conduit: Conduit) -> bool:
    """Whether both ends are zones, and not the same one."""
    ends = {conduit.from_zone, conduit.to_zone}
    return len(ends) == 2 and not ends & {DEVICE_ZONE, LOOPBACK_ZONE}


def is_loopback(conduit: Conduit) -> bool:
    """Whether both ends are `loopback`."""
    return conduit.from_zone == conduit.to_zone == LOOPBACK_ZONE


def services_fit_their_conduits(profile: Profile) -> Iterator[Finding]:
    """There is a service at each end that is the device's, one that can use the conduit."""
    for number, conduit in enumerate(profile.network.conduits):
        path: Path = (*CONDUITS, number)
        yield from _presence_findings(path, conduit)
        for key, service in (("service", conduit.service), ("listener", conduit.listener)):
            if service in _OFFLINE:
                message = f"`{service}` has no network on the device: the conduit would carry nothing"
                yield finding((*path, key), message, "services with a network are `uplink` and `update`")
        if conduit.service is not None and not is_forwarding(conduit):
            yield from _kernel_findings((*path, "service"), conduit)


def _presence_findings(path: Path, conduit: Conduit) -> Iterator[Finding]:
    if is_forwarding(conduit):
        if conduit.service is not None:
            message = f"`{conduit.service}`, but both ends are zones: no service of the device takes part"
            yield finding((*path, "service"), message, "remove the line")
    elif conduit.service is None:
        hint = "write the service, or `service: kernel` for what has no socket (ARP, answers to a ping)"
        yield finding((*path, "service"), "none: whose is the end at the device?", hint)
    if is_loopback(conduit) and conduit.listener is None:
        yield finding((*path, "listener"), "none: which service answers?", "write the service that listens")
    if conduit.listener is not None and not is_loopback(conduit):
        message = f"`{conduit.listener}`, but only `loopback` has a listener"
        yield finding((*path, "listener"), message, "remove the line; `service` is the end at the device")
    if conduit.listener is not None and conduit.listener == conduit.service:
        message = f"`{conduit.listener}` would speak to itself"
        yield finding((*path, "listener"), message, "write the other service, or remove the conduit")


def _kernel_findings(path: Path, conduit: Conduit) -> Iterator[Finding]:
    outbound = conduit.from_zone == DEVICE_ZONE
    kernel = conduit.service == KERNEL
    if conduit.protocol in ("tcp", "udp"):
        if kernel:
            message = f"`kernel`, but {conduit.protocol} needs a service with a socket"
            yield finding(path, message, "write the service: `uplink` or `update`")
    elif conduit.protocol == "arp" or not outbound or "echo-request" not in conduit.messages:
        if not kernel:
            message = f"`{conduit.service}`, but no service takes part in {_spoken(conduit)}: the kernel does it"
            yield finding(path, message, "write `service: kernel`")
    elif kernel:
        message = "`kernel`, but the kernel sends no echo request by itself"
        yield finding(path, message, "write the service that asks, or turn the conduit round")
    elif set(conduit.messages) != {"echo-request"}:
        message = f"`{conduit.service}` sends the echo request, the kernel the other messages"
        yield finding(path, message, "make them two conduits, the other one with `service: kernel`")


def _spoken(conduit: Conduit) -> str:
    return "arp" if conduit.protocol == "arp" else f"{conduit.protocol} {listed(conduit.messages)}"


def peers_are_in_their_zone(profile: Profile) -> Iterator[Finding]:
    """Who is at the other end is named once, by addresses or by a slot, and is in the zone."""
    policy = profile.network
    zones = {zone.id: zone for zone in policy.zones}
    own = [one for link in policy.links for one in interfaces(link.addresses)]
    for number, conduit in enumerate(policy.conduits):
        path: Path = (*CONDUITS, number)
        if is_loopback(conduit):
            yield from _loopback_findings(path, conduit)
            continue
        far = conduit.to_zone if conduit.from_zone == DEVICE_ZONE else conduit.from_zone
        yield from _choice_findings(path, conduit)
        yield from prefix_findings((*path, "peers"), conduit.peers)
        yield from prefix_findings((*path, "targets"), conduit.targets)
        if far in zones:
            yield from _member_findings((*path, "peers"), conduit.peers, zones[far], own)
            yield from _slot_findings((*path, "slot"), conduit, zones[far], policy)
        elif conduit.slot is not None:
            yield from _slot_findings((*path, "slot"), conduit, None, policy)
        if is_forwarding(conduit) and conduit.to_zone in zones:
            yield from _member_findings((*path, "targets"), conduit.targets, zones[conduit.to_zone], own)


def _loopback_findings(path: Path, conduit: Conduit) -> Iterator[Finding]:
    if conduit.protocol not in ("tcp", "udp"):
        message = f"`{conduit.protocol}`, but services speak tcp or udp to each other"
        yield finding((*path, "protocol"), message, "write `tcp` or `udp`")
    for key, given in (("peers", conduit.peers), ("slot", conduit.slot), ("targets", conduit.targets)):
        if given:
            yield finding((*path, key), "not on `loopback`: both ends are 127.0.0.1", "remove the line")


def _choice_findings(path: Path, conduit: Conduit) -> Iterator[Finding]:
    if conduit.peers and conduit.slot is not None:
        message = "peers and a slot: who is at the other end?"
        yield finding((*path, "slot"), message, "keep `peers` when the addresses are known, else `slot`")
    elif not conduit.peers and conduit.slot is None:
        yield finding((*path, "peers"), "nobody is at the other end", INSTEAD["peers"])
    if is_forwarding(conduit) and not conduit.targets:
        yield finding((*path, "targets"), "none: who answers?", INSTEAD["targets"])
    elif conduit.targets and not is_forwarding(conduit):
        message = "only a conduit that joins two zones has targets"
        yield finding((*path, "targets"), message, "write them as `peers`")


def _member_findings(path: Path, texts: tuple[str, ...], zone: Zone, own: list[IPv4Interface]) -> Iterator[Finding]:
    inside = networks(zone.prefixes)
    if not inside or len(inside) < len(zone.prefixes):
        return  # the zone is wrong, and who is in it is not known
    for position, text in enumerate(texts):
        found = network(text)
        if found is None:
            continue
        here: Path = (*path, position)
        if found.prefixlen == 32 and any(one.ip == found.network_address for one in own):
            yield finding(here, f"`{text}` is the device's own address", "name the other side")
        elif not contains(inside, found):
            message = f"`{text}` is not in the zone `{zone.id}` ({listed(map(str, inside))})"
            yield finding(here, message, "correct the address or the zone, or add a prefix to the zone")
        elif found.prefixlen == 32 and (link := _no_host(found, own)):
            yield finding(here, f"`{text}` is not a host of {link}", "name one host")


def _no_host(found: IPv4Network, own: list[IPv4Interface]) -> IPv4Network | None:
    return next((one.network for one in own if is_no_host(found.network_address, one.network)), None)


def _slot_findings(path: Path, conduit: Conduit, zone: Zone | None, policy: NetworkPolicy) -> Iterator[Finding]:
    if conduit.slot is None:
        return
    slots = {slot.name: slot for slot in policy.slots}
    if conduit.slot not in slots:
        if is_any(conduit.slot):
            message = f"`{conduit.slot}` opens more than anybody approved"
            yield finding(path, message, "name one slot of network.slots, whose bounds say who may fill it")
        else:
            hint = did_you_mean(conduit.slot, slots, otherwise=f"slots there: {listed(slots)}")
            yield finding(path, f"`{conduit.slot}` is not in network.slots", hint)
        return
    inside = networks(zone.prefixes) if zone else []
    if zone is None or not inside or len(inside) < len(zone.prefixes):
        return
    for found in networks(slots[conduit.slot].within):
        if not contains(inside, found):
            message = f"`{conduit.slot}` may be filled from {found}, which is not in the zone `{zone.id}`"
            message += f" ({listed(map(str, inside))})"
            yield finding(path, message, "narrow the bounds of the slot, or name another zone")


def reviews_are_days(profile: Profile) -> Iterator[Finding]:
    """Whether the day has passed is asked elsewhere (review.py): a rule knows no clock."""
    for number, conduit in enumerate(profile.network.conduits):
        try:
            datetime.date.fromisoformat(conduit.review)
        except ValueError:
            path: Path = (*CONDUITS, number, "review")
            yield finding(path, f"`{conduit.review}` is not a day of the calendar", "count again")


RULES: tuple[Rule, ...] = (
    conduits_are_distinct,
    conduits_join_two_zones,
    forwarding_is_needed,
    services_fit_their_conduits,
    peers_are_in_their_zone,
    reviews_are_days,
)
