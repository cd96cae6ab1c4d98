"""A policy as a reviewer reads it: zones, conduits, defaults, and where it stands on what nobody asked for. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from appliance.formats.conduit_elements import NEIGHBOUR, port_spans, versions_of
from appliance.formats.network_policy import DEVICE_ZONE, LOOPBACK_ZONE, Conduit, NetworkPolicy
from builder.network.words import (
    is_forwarded,
    limit_words,
    link_words,
    peer_words,
    protection_words,
    protocol_words,
    service_words,
    slot_words,
)

_DHCP = (67, 68, 546, 547)
_DNS = (53, 853)
_TIME = (123, 4460)
BEFORE = "no interface is brought up before the ruleset is loaded"
FAILURE = "no interface is brought up when the ruleset cannot be loaded; the audit log is told"


def policy_data(policy: NetworkPolicy, *, name: str) -> dict[str, Any]:
    """What `edgeseal network show --json` prints. name: of the profile."""
    return {
        "profile": name,
        "component_type": policy.component_type,
        "security_level": policy.security_level,
        "links": [{**_plain(link), "found_by": link_words(link)} for link in policy.links],
        "zones": [_plain(zone) for zone in policy.zones],
        "slots": [{**_plain(slot), "words": slot_words(slot)} for slot in policy.slots],
        "conduits": [_conduit_data(policy, conduit) for conduit in policy.conduits],
        "defaults": _defaults(policy),
        "stance": stance(policy),
    }


def _plain(value: msgspec.Struct) -> dict[str, Any]:
    """As JSON has it: lists, not tuples."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(value))
    return plain


def _conduit_data(policy: NetworkPolicy, conduit: Conduit) -> dict[str, Any]:
    return {
        **_plain(conduit),
        "direction": direction(conduit),
        "initiator": conduit.from_zone,
        "links": [zone.link for zone in policy.zones if zone.id in (conduit.from_zone, conduit.to_zone)],
        "words": {
            "service": service_words(conduit),
            "protocol": protocol_words(conduit),
            "peers": peer_words(policy, conduit),
            "limits": limit_words(conduit),
            "protection": protection_words(conduit),
        },
    }


def direction(conduit: Conduit) -> str:
    """As the device sees it: out, in, through or inside."""
    if conduit.from_zone == LOOPBACK_ZONE:
        return "inside"
    if is_forwarded(conduit):
        return "through"
    return "out" if conduit.from_zone == DEVICE_ZONE else "in"


def _defaults(policy: NetworkPolicy) -> list[dict[str, str]]:
    forward = "nothing is forwarded" if policy.component_type != "network" else "conduits between zones only"
    hooks = {"input": "conduits only", "output": "conduits only, by user and cgroup of the service", "forward": forward}
    rows = [
        {"hook": hook, "family": family, "default": "drop", "except": words}
        for hook, words in hooks.items()
        for family in ("IPv4", "IPv6")
    ]
    return rows + [
        {"hook": hook, "family": "ARP", "default": "drop", "except": "conduits only"} for hook in ("input", "output")
    ]


# ---- what is said about each protocol, whether somebody asked for it or not


def stance(policy: NetworkPolicy) -> dict[str, str]:
    """One sentence for each thing that a reviewer asks about."""
    flows = [conduit for conduit in policy.conduits if conduit.protocol in ("tcp", "udp")]
    return {
        "before load": BEFORE,
        "on failure": FAILURE,
        "forwarding": _open(policy, is_forwarded, "nothing is forwarded between zones"),
        "loopback": _open(policy, lambda one: one.from_zone == LOOPBACK_ZONE, "services do not speak over loopback"),
        "IPv6": _open(
            policy,
            lambda one: 6 in versions_of(policy, one),
            "every packet is dropped; the kernel has it switched off (ipv6.disable=1)",
        ),
        "ARP": _open(policy, lambda one: one.protocol == "arp", "no neighbour is reached by IPv4"),
        "NDP": _open(policy, lambda one: bool(set(one.messages) & set(NEIGHBOUR)), "no neighbour is reached by IPv6"),
        "ICMP": _open(policy, _is_icmp, "no echo, no errors"),
        "DHCP": _named(flows, _DHCP, "addresses are static; a client would use packet sockets, which no ruleset sees"),
        "DNS": _named(flows, _DNS, "no name is asked for; peers are addresses"),
        "NTP": _named(flows, _TIME, "no time is asked for, by NTP or NTS"),
        "multicast": _multicast(policy),
    }


def _is_icmp(conduit: Conduit) -> bool:
    return conduit.protocol in ("icmp", "icmpv6") and not set(conduit.messages) & set(NEIGHBOUR)


def _open(policy: NetworkPolicy, chosen: Callable[[Conduit], bool], closed: str) -> str:
    return _sentence([conduit.id for conduit in policy.conduits if chosen(conduit)], closed)


def _named(flows: Iterable[Conduit], ports: Sequence[int], closed: str) -> str:
    return _sentence(
        [
            flow.id
            for flow in flows
            if any(span.low <= port <= span.high for span in port_spans(flow) for port in ports)
        ],
        closed,
    )


def _sentence(ids: list[str], closed: str) -> str:
    return f"by {', '.join(ids)}; else dropped" if ids else f"closed: {closed}"


def _multicast(policy: NetworkPolicy) -> str:
    ids = [conduit.id for conduit in policy.conduits if set(conduit.messages) & set(NEIGHBOUR)]
    return (
        f"the groups of neighbour discovery, by {', '.join(ids)}; else dropped" if ids else "closed: no group is joined"
    )


# ---- text

_ZONE_HEAD = ["zone", "kind", "SL-T", "link", "found by", "prefixes", "safety", "organisation"]
_CONDUIT_HEAD = ["conduit", "way", "from", "to", "service", "protocol", "peers"]


def policy_text(data: dict[str, Any]) -> str:
    """`policy_data` for a terminal, without a final newline."""
    defaults = [[row["hook"], row["family"], row["default"], row["except"]] for row in data["defaults"]]
    lines = [f"{data['profile']}: component type {data['component_type']}, SL-T {data['security_level']}"]
    lines += ["", "ZONES", *_zone_lines(data)]
    lines += ["", "SLOTS, closed until the site fills them"]
    lines += [f"  {slot['words']} ({slot['type']}): {slot['purpose']}" for slot in data["slots"]] or ["  none"]
    lines += ["", "CONDUITS", *_conduit_lines(data["conduits"])]
    lines += ["", "DEFAULTS", *_table([["hook", "family", "default", "except"], *defaults])]
    lines += ["", "STANCE", *_table([[what, words] for what, words in data["stance"].items()])]
    return "\n".join(lines)


def _zone_lines(data: dict[str, Any]) -> list[str]:
    found_by = {link["name"]: link["found_by"] for link in data["links"]}
    rows = [
        [
            zone["id"],
            zone["kind"],
            str(zone["security_level"]),
            zone["link"],
            found_by.get(zone["link"], ""),
            ", ".join(zone["prefixes"]),
            zone["safety"],
            zone["organisation"],
        ]
        for zone in data["zones"]
    ]
    lines = _table([_ZONE_HEAD, *rows])
    for zone in data["zones"]:
        lines.append(f"  {zone['id']}: {zone['boundary']}")
        lines += [f"    asset: {asset}" for asset in zone["assets"]]
        lines += [f"    assumed: {assumption}" for assumption in zone["assumptions"]]
    return lines


def _conduit_lines(conduits: Sequence[dict[str, Any]]) -> list[str]:
    rows = [
        [one["id"], one["direction"], one["from"], one["to"], *(one["words"][key] for key in _CONDUIT_HEAD[4:])]
        for one in conduits
    ]
    head, *body = _table([_CONDUIT_HEAD, *rows])
    lines = [head]
    for line, one in zip(body, conduits, strict=True):
        lines += [
            line,
            f"    {one['words']['limits']}; {one['words']['protection']}",
            f"    data: {one['data']}",
            f"    purpose: {one['purpose']}",
            f"    approved by {one['owner']} until {one['review']}",
        ]
    return lines


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell, two spaces between."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
