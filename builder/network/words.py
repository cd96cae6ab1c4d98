"""Conduits, peers and limits in words: one wording for tables, diagrams and differences. Pure."""

from __future__ import annotations

from appliance.formats.network_policy import DEVICE_ZONE, LOOPBACK_ZONE, Conduit, Link, NetworkPolicy, Slot

FORWARD = "forward"


def listed(words: tuple[object, ...]) -> str:
    """`a, b`; `none` for nothing."""
    return ", ".join(str(word) for word in words) or "none"


def protocol_words(conduit: Conduit) -> str:
    """`tcp 443, 8440-8443`, `icmp echo-request`."""
    return f"{conduit.protocol} {listed(conduit.ports or conduit.messages)}"


def service_words(conduit: Conduit) -> str:
    """Who stands at the device's end; `forward` where nobody does."""
    if conduit.from_zone == LOOPBACK_ZONE:
        return f"{conduit.service} to {conduit.listener}"
    return conduit.service or FORWARD


def slot_words(slot: Slot) -> str:
    """`slot broker: at most 2 of 192.0.2.0/24`."""
    return f"slot {slot.name}: at most {slot.most} of {listed(slot.within)}"


def peer_words(policy: NetworkPolicy, conduit: Conduit) -> str:
    """Who is at the other end; for forwarding both ends."""
    if conduit.slot is not None:
        found = [slot_words(slot) for slot in policy.slots if slot.name == conduit.slot]
        peers = found[0] if found else f"slot {conduit.slot}"
    elif conduit.from_zone == LOOPBACK_ZONE:
        peers = listed(conduit.peers or ("127.0.0.1", "::1"))
    else:
        peers = listed(conduit.peers)
    return f"{peers} to {listed(conduit.targets)}" if conduit.targets else peers


def protection_words(conduit: Conduit) -> str:
    """`tls-1.3, mutual-tls`; `no encryption` where there is neither."""
    if conduit.encryption == "none" and conduit.authentication == "none":
        return "no encryption"
    encryption = "no encryption" if conduit.encryption == "none" else conduit.encryption
    return encryption if conduit.authentication == "none" else f"{encryption}, {conduit.authentication}"


def limit_words(conduit: Conduit) -> str:
    """`1000 packets/s, burst 2000, 2 new/s, 2 connections`."""
    rate = conduit.rate
    words = f"{rate.packets} packets/s, burst {rate.burst}, {rate.new} new/s"
    return f"{words}, {rate.connections} connections" if conduit.protocol in ("tcp", "udp") else words


def link_words(link: Link) -> str:
    """How it is found: `igc at pci-0000:02:00.0`, `VLAN 101 on cameras0`."""
    if link.vlan is not None:
        return f"VLAN {link.vlan.tag} on {link.vlan.parent}"
    return f"{link.driver} at {link.place}" if link.place else str(link.driver)


def is_forwarded(conduit: Conduit) -> bool:
    """Whether it goes from zone to zone, through the device."""
    return {DEVICE_ZONE, LOOPBACK_ZONE}.isdisjoint((conduit.from_zone, conduit.to_zone))
