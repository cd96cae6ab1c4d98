"""Zones and conduits → one nftables ruleset. Pure, and the same bytes for the same policy.

Layout and why: docs/adr/0021-ruleset-layout.md. What has to be accepted: builder/network/classes.py says it without
knowing this file; `edgeseal network prove` holds one against the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_interface
from itertools import combinations, groupby
from pathlib import Path
from typing import Any, get_args

import jinja2

from appliance.core.errors import InputError
from appliance.formats.conduit_elements import (
    LOOPBACK_ADDRESSES,
    LOOPBACK_LINK,
    answer_chain,
    begin_chain,
    conduit_elements,
    is_flow,
    link_of,
    listener_chain,
    verdict_maps,
)
from appliance.formats.network_policy import DEVICE_ZONE, LOOPBACK_ZONE, Conduit, Link, NetworkPolicy, Service
from appliance.formats.spans import Span, Version, address_spans
from builder.network.lookups import Lookups, vmap

KERNEL = "kernel"
SERVICES = tuple(service for service in get_args(Service) if service != KERNEL)
"""Whose cgroup has a set in every ruleset, in use or not: units can name it without knowing the policy."""

REASONS = (
    "in-spoofed",
    "in-invalid",
    "in-no-conduit",
    "out-spoofed",
    "out-wrong-service",
    "out-no-socket",
    "out-no-conduit",
    "fwd-no-conduit",
)
"""Why a packet is dropped that is over no conduit's limit; `rate-ID` and `connections-ID` are the others."""
ARP_REASONS = ("arp-in-spoofed", "arp-in-no-conduit", "arp-out-no-conduit")

_VERSIONS: tuple[Version, ...] = (4, 6)


def compile_ruleset(policy: NetworkPolicy, *, name: str, uids: Mapping[str, int]) -> bytes:
    """The ruleset of `policy`, for `nft --file`. It replaces the tables `inet edgeseal` and `arp edgeseal` at once.

    name: of the profile, for the reader. uids: the user of each service that begins a conduit.
    The sets of cgroups are empty, and the conduits of slots have no peers: both are filled on the device.
    Raises InputError for a service without a user, or for two with the same one.
    """
    links = _links(policy)
    lookups = Lookups(policy, [link.name for link in links])
    users = _users(policy, uids)
    text = (
        _environment()
        .get_template("nftables.conf.j2")
        .render(
            name=name,
            policy=policy,
            services=SERVICES,
            reasons=REASONS,
            arp_reasons=_arp_reasons(policy, lookups),
            links=links,
            hosts=_hosts(policy),
            maps=_maps(policy),
            lookups=lookups,
            leaving=(KERNEL, *(user["service"] for user in users), "answers", "echoes", "errors", "neighbours"),
            bases=_bases(links, lookups),
            users=users,
            forwards=_forwards(policy, links),
            chains=[_chains(conduit) for conduit in policy.conduits if conduit.protocol != "arp"],
            arp_chains=[_chains(conduit) for conduit in policy.conduits if conduit.protocol == "arp"],
        )
    )
    return text.encode()


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  nftables syntax, not HTML
    )


# ---- sets


@dataclass(frozen=True)
class _Family:
    """One family of addresses on one link. word: as in `ip saddr`. protocol: as in `meta nfproto`.

    own: addresses of the device; none where it has no static one. sources: those that are believed; none where the link
    has no zone of this family, and no packet of it passes. has_self: whether one of the device's own is among them.
    """

    version: Version
    word: str
    protocol: str
    own: tuple[str, ...]
    sources: tuple[str, ...]
    has_self: bool


@dataclass(frozen=True)
class _Link:
    """A link that has zones, or loopback, which is there so that its drops say why."""

    name: str
    families: tuple[_Family, ...]


def _links(policy: NetworkPolicy) -> list[_Link]:
    zoned = {zone.link for zone in policy.zones}
    names = [LOOPBACK_LINK, *(link.name for link in policy.links if link.name in zoned)]
    return [_Link(name, tuple(_family(policy, name, version) for version in _VERSIONS)) for name in names]


def _family(policy: NetworkPolicy, link: str, version: Version) -> _Family:
    loopback = link == LOOPBACK_LINK
    own = address_spans(LOOPBACK_ADDRESSES, version) if loopback else _own(policy.links, version, link)
    sources = own if loopback else address_spans(_prefixes(policy, link), version)
    return _Family(
        version,
        word="ip" if version == 4 else "ip6",
        protocol=f"ipv{version}",
        own=tuple(span.text() for span in own),
        sources=tuple(span.text() for span in sources),
        has_self=any(near.low <= host.low <= near.high for near in sources for host in _own(policy.links, version)),
    )


def _own(links: Iterable[Link], version: Version, name: str | None = None) -> tuple[Span, ...]:
    """The static addresses of a link, or of all: each by itself, since they are looked up exactly."""
    found = [ip_interface(address).ip for link in links if name in (link.name, None) for address in link.addresses]
    return tuple(span for host in dict.fromkeys(found) for span in address_spans([str(host)], version))


def _hosts(policy: NetworkPolicy) -> dict[Version, list[str]]:
    return {version: [span.text() for span in _own(policy.links, version)] for version in _VERSIONS}


def _prefixes(policy: NetworkPolicy, link: str) -> list[str]:
    return [prefix for zone in policy.zones if zone.link == link for prefix in zone.prefixes]


def _arp_reasons(policy: NetworkPolicy, lookups: Lookups) -> list[str]:
    """Without the one that nothing leads to."""
    asks = any(lookups.has(f"in_{link.name}", "arp") for link in policy.links) and _own(policy.links, 4)
    return [reason for reason in ARP_REASONS if asks or reason != "arp-in-spoofed"]


# ---- maps


def _maps(policy: NetworkPolicy) -> dict[str, list[dict[str, Any]]]:
    """table → its maps, with the elements that are known before any slot is filled."""
    known = {
        key: [element.text() for element in group]
        for key, group in groupby(conduit_elements(policy, {}), key=lambda element: (element.table, element.map))
    }
    found: dict[str, list[dict[str, Any]]] = {"inet": [], "arp": []}
    for one in verdict_maps(policy):
        elements = known.get((one.table, one.name), [])
        found[one.table].append({"name": one.name, "type": " . ".join(one.type), "elements": elements})
    return found


# ---- identities


def _users(policy: NetworkPolicy, uids: Mapping[str, int]) -> list[dict[str, Any]]:
    """The services that begin conduits, in the order of their names, each with its user."""
    named = {
        conduit.service
        for conduit in policy.conduits
        if conduit.service is not None
        and conduit.service != KERNEL
        and conduit.from_zone in (DEVICE_ZONE, LOOPBACK_ZONE)
    }
    for service in sorted(named):
        if service not in uids:
            raise InputError(f"the service `{service}` has a conduit, but no user")
    users = {service: uids[service] for service in sorted(named)}
    for service, other in combinations(users, 2):
        if users[service] == users[other]:
            raise InputError(f"the services `{service}` and `{other}` have one user, {users[other]}")
    return [{"service": service, "uid": uid} for service, uid in users.items()]


# ---- chains


def _bases(links: Iterable[_Link], lookups: Lookups) -> dict[str, str]:
    """The rule of a base chain that leads a packet to the chain of its link; none where no link has one."""
    names = [link.name for link in links]
    ways = [
        ("input", "iifname", "in", names),
        ("output", "oifname", "to", names),
        ("arp_input", "iifname", "in", [name for name in names if lookups.has(f"in_{name}", "arp")]),
        ("arp_output", "oifname", "out", [name for name in names if lookups.has(f"out_{name}", "arp")]),
    ]
    return {
        base: vmap(selector, [(f'"{name}"', f"goto {prefix}_{name}") for name in names])
        for base, selector, prefix, names in ways
        if names
    }


def _forwards(policy: NetworkPolicy, links: Iterable[_Link]) -> dict[str, list[str]]:
    """link → the links that something is forwarded to from it; empty for a device that forwards nothing."""
    pairs = set()
    for conduit in policy.conduits:
        if {DEVICE_ZONE, LOOPBACK_ZONE}.isdisjoint((conduit.from_zone, conduit.to_zone)):
            here, there = link_of(policy, conduit.from_zone), link_of(policy, conduit.to_zone)
            pairs |= {(here, there), (there, here)}
    names = [link.name for link in links if link.name != LOOPBACK_LINK] if pairs else []
    return {here: sorted(there for one, there in pairs if one == here) for here in names}


def _chains(conduit: Conduit) -> dict[str, Any]:
    """What the template needs to write the chains of one conduit."""
    inbound = conduit.to_zone == DEVICE_ZONE and conduit.protocol in ("tcp", "udp")
    loopback = conduit.from_zone == LOOPBACK_ZONE
    return {
        "id": conduit.id,
        "words": _words(conduit),
        "rate": conduit.rate,
        "tracked": is_flow(conduit),
        "counts": conduit.protocol in ("tcp", "udp"),
        "begin": begin_chain(conduit),
        "answers": answer_chain(conduit) if is_flow(conduit) else None,
        "listener": listener_chain(conduit) if loopback else None,
        "listens": conduit.service if inbound else conduit.listener if loopback else None,
        "inbound": inbound,
    }


def _words(conduit: Conduit) -> str:
    what = [str(port) for port in conduit.ports] or list(conduit.messages)
    whom = " for " + conduit.service if conduit.service else ""
    return f"{conduit.from_zone} → {conduit.to_zone}, {conduit.protocol} {', '.join(what)}{whom}"
