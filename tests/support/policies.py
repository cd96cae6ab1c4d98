"""Network policies that tests share: a tiny one, one with everything that a policy can say, one of any size."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from appliance.formats.identities import USERS
from appliance.formats.network_policy import (
    Conduit,
    Link,
    NetworkPolicy,
    Rate,
    Slot,
    Vlan,
    Zone,
)

UIDS = {"network": 0} | {user.removeprefix("edgeseal-"): uid for user, uid in USERS.items()}
REVIEW = "2027-06-30"


def rate(packets: int = 200, *, burst: int = 100, new: int = 10, connections: int = 4) -> Rate:
    return Rate(packets=packets, burst=burst, new=new, connections=connections)


def zone(name: str, link: str, *prefixes: str, kind: Any = "site", level: int = 2, **more: Any) -> Zone:
    more = {"organisation": "Example Works, line 3", "boundary": f"switch ports of {name}", **more}
    return Zone(id=name, kind=kind, link=link, prefixes=prefixes, security_level=level, **more)


def conduit(name: str, begins: str, answers: str, protocol: Any, **more: Any) -> Conduit:
    """With words and limits that a test does not care about."""
    plain = {
        "rate": rate(),
        "encryption": "none",
        "authentication": "none",
        "data": f"what {name} carries; internal",
        "purpose": f"{name} is needed",
        "owner": "OT security",
        "review": REVIEW,
    }
    return Conduit(id=name, from_zone=begins, to_zone=answers, protocol=protocol, **{**plain, **more})


def arp(link_zone: str, *peers: str) -> tuple[Conduit, Conduit]:
    """Both directions of address resolution with `peers`: IPv4 over Ethernet does not work without."""
    common = {"service": "kernel", "messages": ("request", "reply"), "peers": peers}
    return (
        conduit(f"arp-to-{link_zone}", "device", link_zone, "arp", **common),
        conduit(f"arp-from-{link_zone}", link_zone, "device", "arp", **common),
    )


def tiny() -> NetworkPolicy:
    """One link, one zone, one broker."""
    return NetworkPolicy(
        security_level=2,
        links=(Link(name="uplink0", driver="igc", addresses=("192.168.20.10/24",), gateway="192.168.20.1"),),
        zones=(zone("site", "uplink0", "192.168.20.0/24"),),
        conduits=(
            conduit(
                "broker",
                "device",
                "site",
                "tcp",
                service="uplink",
                ports=(8883,),
                peers=("192.168.20.5",),
                encryption="tls-1.3",
                authentication="mutual-tls",
            ),
            *arp("site", "192.168.20.5"),
        ),
    )


def everything() -> NetworkPolicy:
    """Each thing that a policy can say, once: both families, VLANs, a slot, inbound, ICMP, NDP, ARP, forwarding."""
    return NetworkPolicy(
        component_type="network",
        security_level=3,
        links=_LINKS,
        zones=_ZONES,
        slots=_SLOTS,
        conduits=(*_OUT, *_IN, *_MESSAGES, *_NEIGHBOURS, *_FORWARD, *_LOOPBACK),
    )


_LINKS = (
    Link(
        name="uplink0",
        driver="igc",
        addresses=("192.168.20.10/24", "2001:db8:20::10/64"),
        gateway="192.168.20.1",
    ),
    Link(name="trunk0", driver="r8169"),
    Link(name="cell10", vlan=Vlan(parent="trunk0", tag=10), addresses=("10.10.0.1/24",)),
    Link(name="cell20", vlan=Vlan(parent="trunk0", tag=20), addresses=("10.20.0.1/24", "2001:db8:a020::1/64")),
    Link(name="camera0", driver="e1000e", addresses=("172.16.0.1/28",)),
)
_ZONES = (
    zone("site", "uplink0", "192.168.20.0/24", "192.168.30.0/24", "2001:db8:20::/64"),
    zone("vendor", "uplink0", "198.51.100.0/24", kind="vendor-dmz", level=1, organisation="Example Vision GmbH"),
    zone("cell-10", "cell10", "10.10.0.0/24", kind="ot-cell", level=3, safety="related", assets=("PLC, high",)),
    zone("cell-20", "cell20", "10.20.0.0/24", "2001:db8:a020::/64", kind="ot-cell", level=3),
    zone("camera", "camera0", "172.16.0.0/28", kind="camera", assumptions=("nobody opens the cabinet",)),
)
_SLOTS = (
    Slot(name="broker", within=("192.168.20.0/25",), most=2, purpose="the plant's MQTT broker"),
    Slot(name="broker-v6", type="ipv6", within=("2001:db8:20::/64",), purpose="the same by IPv6"),
)
_TLS: dict[str, Any] = {"encryption": "tls-1.3", "authentication": "mutual-tls"}
_SIGNED: dict[str, Any] = {"encryption": "signed-content", "authentication": "signatures"}
_OUT = (
    conduit("broker", "device", "site", "tcp", service="uplink", ports=(8883,), slot="broker", **_TLS),
    conduit("broker-v6", "device", "site", "tcp", service="uplink", ports=(8883,), slot="broker-v6", **_TLS),
    conduit(
        "repository",
        "device",
        "vendor",
        "tcp",
        service="update",
        ports=(443, "8440-8443"),
        peers=("198.51.100.7", "198.51.100.16/30"),
        **_SIGNED,
    ),
    conduit("names", "device", "site", "udp", service="update", ports=(53,), peers=("192.168.30.2", "2001:db8:20::2")),
    conduit("cell-io", "device", "cell-20", "tcp", service="inference", ports=(502,), peers=("2001:db8:a020::8/125",)),
)
_IN = (
    conduit("results", "cell-10", "device", "tcp", service="inference", ports=("8000-8010",), peers=("10.10.0.0/25",)),
    conduit(
        "trigger", "cell-20", "device", "udp", service="inference", ports=(4840,), peers=("10.20.0.7", "10.20.0.9")
    ),
    conduit(
        "trigger-v6",
        "cell-20",
        "device",
        "tcp",
        service="inference",
        ports=(4841,),
        peers=("2001:db8:a020::7",),
        **_TLS,
    ),
)
_MESSAGES = (
    conduit("ping-in", "site", "device", "icmp", service="kernel", messages=("echo-request",), peers=("192.168.20.5",)),
    conduit(
        "ping-out", "device", "site", "icmp", service="network", messages=("echo-request",), peers=("192.168.20.1",)
    ),
    conduit(
        "ping6-in",
        "site",
        "device",
        "icmpv6",
        service="kernel",
        messages=("echo-request",),
        peers=("2001:db8:20::/125",),
    ),
    conduit(
        "errors-in",
        "vendor",
        "device",
        "icmp",
        service="kernel",
        messages=("destination-unreachable", "time-exceeded"),
        peers=("198.51.100.0/24",),
    ),
    conduit(
        "errors-out",
        "device",
        "cell-20",
        "icmp",
        service="kernel",
        messages=("destination-unreachable",),
        peers=("10.20.0.7",),
    ),
    conduit(
        "mtu-in",
        "site",
        "device",
        "icmpv6",
        service="kernel",
        messages=("packet-too-big",),
        peers=("2001:db8:20::/64",),
    ),
)
_NEIGHBOURS = (
    *arp("site", "192.168.20.0/25"),
    *arp("cell-10", "10.10.0.0/25"),
    *arp("cell-20", "10.20.0.0/28"),
    conduit(
        "neighbours-to-site",
        "device",
        "site",
        "icmpv6",
        service="kernel",
        messages=("neighbour-solicitation", "neighbour-advertisement"),
        peers=("2001:db8:20::/125",),
    ),
    conduit(
        "neighbours-from-site",
        "site",
        "device",
        "icmpv6",
        service="kernel",
        messages=("neighbour-solicitation", "neighbour-advertisement"),
        peers=("2001:db8:20::/125",),
    ),
)
_FORWARD = (
    conduit(
        "historian",
        "cell-10",
        "site",
        "tcp",
        ports=(4840,),
        peers=("10.10.0.16/28",),
        targets=("192.168.20.40", "192.168.20.41"),
    ),
    conduit(
        "historian-v6",
        "cell-20",
        "site",
        "udp",
        ports=("5000-5003",),
        peers=("2001:db8:a020::10",),
        targets=("2001:db8:20::40",),
    ),
    conduit(
        "ping-through",
        "site",
        "cell-10",
        "icmp",
        messages=("echo-request",),
        peers=("192.168.20.40",),
        targets=("10.10.0.17",),
    ),
)
_LOOPBACK = (conduit("models", "loopback", "loopback", "tcp", service="uplink", listener="inference", ports=(8001,)),)


def synthetic(zones: int, conduits: int) -> NetworkPolicy:
    """`zones` VLANs on one link, and `conduits` flows that go round them: three of four leave, one comes in.

    zones: 1 to 200. No two conduits share a flow.
    """
    names = [f"cell-{number}" for number in range(zones)]
    return NetworkPolicy(
        security_level=2,
        links=(
            Link(name="trunk0", driver="igc"),
            *(_synthetic_link(number) for number in range(zones)),
        ),
        zones=tuple(zone(name, f"cell{number}", f"10.{number}.0.0/16") for number, name in enumerate(names)),
        conduits=tuple(_synthetic_conduit(number, number % zones) for number in range(conduits)),
    )


def _synthetic_link(number: int) -> Link:
    return Link(name=f"cell{number}", vlan=Vlan(parent="trunk0", tag=number + 2), addresses=(f"10.{number}.0.1/16",))


def _synthetic_conduit(number: int, cell: int) -> Conduit:
    services = ("uplink", "update", "inference")
    peer = str(IPv4Address(f"10.{cell}.1.0") + number // 3)
    ends = (f"cell-{cell}", "device") if number % 4 == 3 else ("device", f"cell-{cell}")
    protocol = "udp" if number % 5 == 4 else "tcp"
    port: int | str = 1024 + number if number % 2 else f"{2 * number + 8000}-{2 * number + 8001}"
    return conduit(
        f"flow-{number}", *ends, protocol, service=services[number % len(services)], ports=(port,), peers=(peer,)
    )
