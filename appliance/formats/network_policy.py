"""Zones and conduits: the network part of a profile, and what the device knows of it. Terms of IEC 62443-3-2.

Spec: docs/specs/network-policy.md (v1). Path in the image: /usr/lib/edgeseal/network.json, canonical JSON. The
builder's Profile embeds `NetworkPolicy`, so there is one definition. The shape only: what must hold between two keys
is the builder's to check before it seals.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.device import FrozenStruct, Identifier

NETWORK_POLICY_PATH = "/usr/lib/edgeseal/network.json"

DEVICE_ZONE = "device"
LOOPBACK_ZONE = "loopback"

Interface = Annotated[
    str, msgspec.Meta(pattern=r"^[a-z][a-z0-9]{0,14}(?!\n)$", description="interface name in the device")
]
Driver = Annotated[str, msgspec.Meta(min_length=1)]
Place = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9:._*-]+(?!\n)$", description="udev's ID_PATH")]
Sentence = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Prefix = Annotated[
    str, msgspec.Meta(pattern=r"^[0-9a-f.:]+/[0-9]{1,3}(?!\n)$", description="IPv4 or IPv6 prefix, like 192.0.2.0/24")
]
Address = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f.:]+(?!\n)$", description="IPv4 or IPv6 address")]
Peer = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f.:]+(/[0-9]{1,3})?(?!\n)$", description="an address or a prefix")]
InterfaceAddress = Annotated[  # not Prefix's pattern: messages and the reference tell texts apart by it
    str, msgspec.Meta(pattern=r"^[0-9a-f:.]+/[0-9]{1,3}(?!\n)$", description="address/prefix length")
]
Ports = Annotated[
    str,
    msgspec.Meta(pattern=r"^[0-9]{1,5}-[0-9]{1,5}(?!\n)$", description="a range of ports, like 8000-8010"),
]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Date = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(?!\n)$")]
SecurityLevel = Annotated[int, msgspec.Meta(ge=1, le=4)]

# Who stands at the device's end of a conduit. `kernel` is what has no socket of a process: ARP, neighbour discovery,
# the answer to an echo request, ICMP errors.
Service = Literal["audit", "inference", "uplink", "update", "network", "kernel"]
Protocol = Literal["tcp", "udp", "icmp", "icmpv6", "arp"]
Message = Literal[
    "echo-request",
    "destination-unreachable",
    "time-exceeded",
    "parameter-problem",
    "packet-too-big",
    "neighbour-solicitation",
    "neighbour-advertisement",
    "router-solicitation",
    "router-advertisement",
    "request",
    "reply",
]


class Vlan(FrozenStruct, frozen=True, kw_only=True):
    """IEEE 802.1Q: a link that is a tag on another link."""

    parent: Annotated[Interface, msgspec.Meta(description="The link that carries it.")]
    tag: Annotated[int, msgspec.Meta(ge=1, le=4094, description="Its VLAN identifier.")]


class Link(FrozenStruct, frozen=True, kw_only=True):
    """One interface of the device. A physical one is found by driver and place, a VLAN by its parent and tag."""

    name: Annotated[Interface, msgspec.Meta(description="Its name in the device.")]
    driver: Annotated[
        Driver | None, msgspec.Meta(description="The kernel driver that identifies it; not for a VLAN.")
    ] = None
    place: Annotated[
        Place | None,
        msgspec.Meta(description="udev's ID_PATH, like pci-0000:02:00.0, where two links have one driver."),
    ] = None
    vlan: Annotated[Vlan | None, msgspec.Meta(description="For a link that is a VLAN on another one.")] = None
    addresses: Annotated[
        tuple[InterfaceAddress, ...],
        msgspec.Meta(description="Static; none for a link that only carries VLANs."),
    ] = ()
    gateway: Annotated[Address | None, msgspec.Meta(description="Default route; one per family at most.")] = None


class Zone(FrozenStruct, frozen=True, kw_only=True):
    """A group of assets with one need for security, seen from the device: a link and prefixes behind it."""

    id: Annotated[Identifier, msgspec.Meta(description="Its name in conduits and reports.")]
    kind: Annotated[Literal["ot-cell", "camera", "site", "vendor-dmz"], msgspec.Meta(description="What is in it.")]
    link: Annotated[Interface, msgspec.Meta(description="The link that it is reached by.")]
    prefixes: Annotated[
        tuple[Prefix, ...], msgspec.Meta(description="Its addresses. No source outside of them is believed.")
    ]
    security_level: Annotated[SecurityLevel, msgspec.Meta(description="Target security level, SL-T.")]
    organisation: Annotated[Sentence, msgspec.Meta(description="Who is accountable for it.")]
    boundary: Annotated[Sentence, msgspec.Meta(description="Where it ends, logically and physically.")]
    safety: Annotated[
        Literal["none", "related"], msgspec.Meta(description="Whether functional safety depends on it.")
    ] = "none"
    assets: Annotated[tuple[Sentence, ...], msgspec.Meta(description="What is in it, with its criticality.")] = ()
    assumptions: Annotated[
        tuple[Sentence, ...], msgspec.Meta(description="What must hold that the device cannot check.")
    ] = ()


class Slot(FrozenStruct, frozen=True, kw_only=True):
    """Addresses that only the site knows. Its provisioning data fills it; until then its conduits stay closed."""

    name: Annotated[Identifier, msgspec.Meta(description="Its name in conduits and in the site's file.")]
    type: Annotated[Literal["ipv4", "ipv6"], msgspec.Meta(description="What fills it: addresses of hosts.")] = "ipv4"
    within: Annotated[tuple[Prefix, ...], msgspec.Meta(description="Bounds: every address is in one of these.")]
    most: Annotated[int, msgspec.Meta(ge=1, le=64, description="Bounds: how many addresses at most.")] = 1
    purpose: Annotated[Sentence, msgspec.Meta(description="What the addresses are, for whoever fills it.")]


class Rate(FrozenStruct, frozen=True, kw_only=True):
    """What a conduit may carry. More is dropped and counted."""

    packets: Annotated[int, msgspec.Meta(ge=1, le=1_000_000, description="Packets per second, in each direction.")]
    burst: Annotated[int, msgspec.Meta(ge=1, le=100_000, description="Packets above that at once.")]
    new: Annotated[
        int, msgspec.Meta(ge=1, le=10_000, description="New connections (SYN), queries or messages per second.")
    ]
    connections: Annotated[
        int, msgspec.Meta(ge=1, le=100_000, description="Connections at one time; for tcp and udp.")
    ] = 16


class Conduit(FrozenStruct, frozen=True, kw_only=True):
    """One allowed flow. Everything else is dropped, in both directions.

    One of `from` and `to` is `device`, or both are zones (forwarding, only where `component_type` is `network`), or
    both are `loopback`. `from` is who begins: its packets open a connection, and only their answers come back.
    """

    id: Annotated[Identifier, msgspec.Meta(description="Its name in reports and in the ruleset.")]
    from_zone: Annotated[Identifier, msgspec.Meta(description="Who begins: a zone, `device` or `loopback`.")] = (
        msgspec.field(name="from")
    )
    to_zone: Annotated[Identifier, msgspec.Meta(description="Who answers: a zone, `device` or `loopback`.")] = (
        msgspec.field(name="to")
    )
    service: Annotated[
        Service | None,
        msgspec.Meta(description="The service at the device's end, bound to its cgroup and user; not for forwarding."),
    ] = None
    listener: Annotated[
        Service | None, msgspec.Meta(description="On `loopback`: the service that answers; `service` begins.")
    ] = None
    protocol: Annotated[Protocol, msgspec.Meta(description="Protocol.")]
    ports: Annotated[tuple[Port | Ports, ...], msgspec.Meta(description="Ports of who answers; for tcp and udp.")] = ()
    messages: Annotated[tuple[Message, ...], msgspec.Meta(description="Message types; for icmp, icmpv6 and arp.")] = ()
    peers: Annotated[
        tuple[Peer, ...],
        msgspec.Meta(description="Who is at the other end: addresses or prefixes inside its zone."),
    ] = ()
    slot: Annotated[Identifier | None, msgspec.Meta(description="The slot whose addresses are the peers.")] = None
    targets: Annotated[
        tuple[Peer, ...],
        msgspec.Meta(description="For forwarding: who answers; `peers` is who begins."),
    ] = ()
    rate: Annotated[Rate, msgspec.Meta(description="How much it may carry.")]
    encryption: Annotated[
        Literal["tls-1.3", "signed-content", "none"],
        msgspec.Meta(description="What protects the content: `signed-content` is public data under signatures."),
    ]
    authentication: Annotated[
        Literal["mutual-tls", "server-tls", "signatures", "none"],
        msgspec.Meta(description="How both know each other."),
    ]
    data: Annotated[Sentence, msgspec.Meta(description="What it carries, and how confidential that is.")]
    purpose: Annotated[Sentence, msgspec.Meta(description="Why it exists, for whoever approves it.")]
    owner: Annotated[Sentence, msgspec.Meta(description="Who answers for it, and approves it.")]
    review: Annotated[Date, msgspec.Meta(description="Last day of its approval, YYYY-MM-DD.")]


class NetworkPolicy(FrozenStruct, frozen=True, kw_only=True):
    """Links, zones, slots and conduits."""

    component_type: Annotated[
        Literal["embedded", "host", "network"],
        msgspec.Meta(description="IEC 62443-4-2 component type; only a `network` device forwards between zones."),
    ] = "embedded"
    security_level: Annotated[SecurityLevel, msgspec.Meta(description="The zone of the device itself: its SL-T.")]
    links: Annotated[tuple[Link, ...], msgspec.Meta(description="Interfaces that are brought up.")]
    zones: Annotated[tuple[Zone, ...], msgspec.Meta(description="Who is out there.")]
    slots: Annotated[tuple[Slot, ...], msgspec.Meta(description="Peers that only the site knows.")] = ()
    conduits: Annotated[tuple[Conduit, ...], msgspec.Meta(description="Flows that are allowed.")]


def encode_network_policy(policy: NetworkPolicy) -> bytes:
    """The canonical bytes of `policy`."""
    return canonical_json(msgspec.to_builtins(policy))


def decode_network_policy(data: bytes) -> NetworkPolicy:
    """Raises DecodeError on anything but exactly the canonical bytes of a NetworkPolicy."""
    try:
        policy = msgspec.json.decode(data, type=NetworkPolicy)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"network policy: {error}") from error
    if encode_network_policy(policy) != data:
        raise DecodeError("network policy: not in canonical form")
    return policy
