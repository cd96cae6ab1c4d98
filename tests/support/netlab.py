"""The lab: the device and its zones as network namespaces, the compiled ruleset in the device's, real packets between.

Each zone is a namespace with hosts of its prefixes, on the device's link by a bridge that stands for the switch. The
kernel's own opinion about packets (reverse path, martians, forwarding) is off: what is refused here is refused by the
ruleset. Everything is gone when the lab's processes are; cgroups are removed by `close`.
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from appliance.formats.network_policy import DEVICE_ZONE, Link, NetworkPolicy, Zone
from tests.support.netlab_station import Identity, Remote, start

SERVICES = ("audit", "inference", "uplink", "update", "network")
STRANGER = "stranger"
UNKNOWN_UID = 799
_CGROUP = "edgeseal-lab-"
WIRE = "wire"
PORT = "port"
"""In a zone: WIRE is the interface that speaks to the device's link; under a VLAN link, PORT carries it."""

_FINDERS = {"request", "neighbour-solicitation"}
_DEVICE_SYSCTL = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/accept_local": "1",
    "net/ipv4/conf/all/route_localnet": "1",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
    "net/ipv4/conf/all/accept_source_route": "1",
    "net/ipv4/icmp_echo_ignore_broadcasts": "0",
    "net/ipv4/icmp_ratelimit": "0",
    "net/ipv4/ip_nonlocal_bind": "1",
    "net/ipv4/ping_group_range": "0 65535",
    "net/ipv6/ip_nonlocal_bind": "1",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv6/conf/default/dad_transmits": "0",
    "net/ipv6/conf/default/router_solicitations": "0",
    "net/ipv6/conf/all/accept_source_route": "1",
    "net/ipv6/icmp/ratelimit": "0",
    "net/netfilter/nf_conntrack_tcp_be_liberal": "1",
}
_ZONE_SYSCTL = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv6/conf/default/dad_transmits": "0",
    "net/ipv6/conf/default/router_solicitations": "0",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv4/ping_group_range": "0 65535",
}


@dataclass
class Lab:
    """A policy's surroundings. filled: the addresses of its slots. hosts: the addresses that live in each zone."""

    policy: NetworkPolicy
    uids: Mapping[str, int]
    filled: Mapping[str, Sequence[str]]
    device: Remote
    switch: Remote
    zones: dict[str, Remote]
    hosts: dict[str, tuple[str, ...]]
    cgroups: Path
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 1 << 32)))

    def number(self) -> int:
        """One that no packet has had: its MAC address or its mark."""
        return next(self._numbers)

    def service(self, name: str) -> Identity:
        """The user and the cgroup of a service; of `kernel`: none that any conduit knows."""
        return Identity(self.uids.get(name, UNKNOWN_UID), f"{self.cgroups.name}/{name}")

    def link(self, name: str) -> Link:
        return next(link for link in self.policy.links if link.name == name)

    def zone(self, name: str) -> Zone:
        return next(zone for zone in self.policy.zones if zone.id == name)

    def device_address(self, link: str, family: int) -> str | None:
        """The device's own on `link`."""
        found = [
            address for address, _ in addresses_of(self.link(link)) if ipaddress.ip_address(address).version == family
        ]
        return found[0] if found else None

    def load(self, *rulesets: str) -> None:
        """Replace what is loaded on the device by `rulesets`, in one transaction, connections forgotten."""
        self.device.command(["nft", "-f", "-"], "flush ruleset\n" + "\n".join(rulesets))

    def introduce(self) -> None:
        """Where no conduit lets a host and the device find each other by ARP or NDP, they know each other already."""
        for zone in self.policy.zones:
            link = self.link(zone.link)
            found = [
                peer
                for conduit in self.policy.conduits
                if zone.id in (conduit.from_zone, conduit.to_zone) and set(conduit.messages) & _FINDERS
                for peer in conduit.peers
            ]
            for host in self.hosts[zone.id]:
                own = self.device_address(link.name, ipaddress.ip_address(host).version)
                if own is not None and _on_link(link, host) and not in_prefixes(host, found):
                    theirs = self.zones[zone.id].mac(WIRE)
                    self._entry(self.device, host, theirs, link.name)
                    self._entry(self.zones[zone.id], own, device_mac(self, link.name).hex(":"), WIRE)

    def _entry(self, station: Remote, address: str, mac: str, device: str) -> None:
        station.command(["ip", "neigh", "replace", address, "lladdr", mac, "dev", device, "nud", "permanent"])

    def close(self) -> None:
        for station in (*self.zones.values(), self.device, self.switch):
            station.stop()
        _remove(self.cgroups)


@contextmanager
def lab(policy: NetworkPolicy, *, uids: Mapping[str, int], filled: Mapping[str, Sequence[str]]) -> Iterator[Lab]:
    """The namespaces of `policy`, wired up, nothing loaded yet. Needs root and cgroup v2."""
    _remove_stale()
    cgroups = _unified() / f"{_CGROUP}{os.getpid()}"
    for name in (*SERVICES, STRANGER, "kernel"):
        (cgroups / name).mkdir(parents=True, exist_ok=True)
    made = Lab(
        policy=policy,
        uids=uids,
        filled=filled,
        device=start(cgroups=_unified()),
        switch=start(),
        zones={zone.id: start() for zone in policy.zones},
        hosts={zone.id: _hosts(policy, zone, filled) for zone in policy.zones},
        cgroups=cgroups,
    )
    try:
        _wire(made)
        yield made
    finally:
        made.close()


def device_mac(lab: Lab, link: str) -> bytes:
    """Of the link, or of the link that carries it."""
    names = [link.name for link in lab.policy.links]
    return bytes([2, 1, 0, 0, 0, names.index(_carrier(lab.link(link)))])


def addresses_of(link: Link) -> list[tuple[str, int]]:
    """The link's own addresses and their prefix lengths."""
    return [(text.partition("/")[0], int(text.partition("/")[2])) for text in link.addresses]


def in_prefixes(address: str, prefixes: Sequence[str]) -> bool:
    found = ipaddress.ip_address(address)
    return any(found in ipaddress.ip_network(prefix) for prefix in prefixes)


def ends(peer: str) -> tuple[str, str]:
    """First and last address of a peer: an address or a prefix."""
    network = ipaddress.ip_network(peer)
    return str(network[0]), str(network[-1])


def _unified() -> Path:
    """Where cgroup v2 is mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise RuntimeError("cgroup v2 is not mounted")


def _remove(cgroup: Path) -> None:
    for inner in sorted(cgroup.iterdir()):
        if inner.is_dir():
            inner.rmdir()
    cgroup.rmdir()


def _remove_stale() -> None:
    """What a test left behind that was killed."""
    for found in sorted(_unified().glob(f"{_CGROUP}*")):
        if not Path("/proc", found.name.removeprefix(_CGROUP)).exists():
            _remove(found)


def _hosts(policy: NetworkPolicy, zone: Zone, filled: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Every peer of the zone's conduits that is one address, and one host of each that is a prefix."""
    found: dict[str, None] = {}
    for conduit in policy.conduits:
        for name, peers in ((conduit.from_zone, conduit.peers), (conduit.to_zone, conduit.targets or conduit.peers)):
            if name == zone.id and name != DEVICE_ZONE:
                found |= dict.fromkeys(_host(peer, policy) for peer in (*peers, *filled.get(conduit.slot or "", ())))
    return tuple(found) or (_host(zone.prefixes[0], policy),)


def _host(peer: str, policy: NetworkPolicy) -> str:
    """An address of `peer` that is no network's own, no gateway and not the device's."""
    network = ipaddress.ip_network(peer)
    if network.num_addresses == 1:
        return str(network[0])
    own = {address for link in policy.links for address, _ in addresses_of(link)}
    taken = own | {link.gateway for link in policy.links}
    return next(str(address) for address in network.hosts() if str(address) not in taken)


def _carrier(link: Link) -> str:
    return link.vlan.parent if link.vlan else link.name


# ---- wiring


def _wire(lab: Lab) -> None:
    lab.device.sysctl(_DEVICE_SYSCTL)
    lab.switch.sysctl({"net/ipv6/conf/default/disable_ipv6": "1"})
    for station in lab.zones.values():
        station.sysctl(_ZONE_SYSCTL)
    for index, link in enumerate(link for link in lab.policy.links if link.vlan is None):
        _plug_in_device(lab, index, link)
    for link in lab.policy.links:
        if link.vlan is not None:
            lab.device.vlan(link.vlan.parent, link.name, link.vlan.tag)
    for index, zone in enumerate(lab.policy.zones):
        _plug_in_zone(lab, index, zone)
    _address_device(lab)
    for zone in lab.policy.zones:
        _address_zone(lab, zone)
    _settle(lab)


def _plug_in_device(lab: Lab, index: int, link: Link) -> None:
    lab.switch.command(
        ["ip", "-batch", "-"],
        f"link add bridge{index} type bridge mcast_snooping 0 forward_delay 0 ageing_time 0\n"
        f"link add dev{index} type veth peer name d{index} address {device_mac(lab, link.name).hex(':')}\n"
        f"link set dev{index} master bridge{index} up\n"
        f"link set bridge{index} up\n"
        f"link set d{index} netns {lab.device.process.pid} name {link.name}\n",
    )


def _plug_in_zone(lab: Lab, index: int, zone: Zone) -> None:
    link = lab.link(zone.link)
    carriers = [link.name for link in lab.policy.links if link.vlan is None]
    station = lab.zones[zone.id]
    lab.switch.command(
        ["ip", "-batch", "-"],
        f"link add zone{index} type veth peer name z{index} address 02:02:00:00:00:{index:02x}\n"
        f"link set zone{index} master bridge{carriers.index(_carrier(link))} up\n"
        f"link set z{index} netns {station.process.pid} name {PORT if link.vlan else WIRE}\n",
    )
    station.command(["ip", "link", "set", "lo", "up"])
    if link.vlan:
        station.command(["ip", "link", "set", PORT, "up"])
        station.vlan(PORT, WIRE, link.vlan.tag)


def _address_device(lab: Lab) -> None:
    lines = ["link set lo up"]
    lines += [f"link set {link.name} up" for link in lab.policy.links]
    for link in lab.policy.links:
        lines += [f"addr add {text} dev {link.name}{_nodad(text)}" for text in link.addresses]
    for link in lab.policy.links:
        lines += [f"route add default via {link.gateway} dev {link.name}"] if link.gateway else []
    lines += _device_routes(lab)
    lines += _more_local_addresses(lab)
    lab.device.command(["ip", "-batch", "-"], "\n".join(lines) + "\n")


def _device_routes(lab: Lab) -> Iterator[str]:
    """For prefixes of a zone that are neither on its link nor behind its gateway: as if they were on it."""
    for zone in lab.policy.zones:
        link = lab.link(zone.link)
        for prefix in zone.prefixes:
            network = ipaddress.ip_network(prefix)
            if not any(network.version == ipaddress.ip_interface(text).version for text in link.addresses):
                continue
            behind = link.gateway is not None and ipaddress.ip_address(link.gateway).version == network.version
            if behind and not _on_link(link, str(network[0])):
                yield f"route replace {prefix} via {link.gateway} dev {link.name}"
            elif not _on_link(link, str(network[0])):
                yield f"route replace {prefix} dev {link.name}"


def _more_local_addresses(lab: Lab) -> Iterator[str]:
    """The neighbours of the device's own addresses are local, too: or the routing table keeps them from input."""
    taken = {host for hosts in lab.hosts.values() for host in hosts} | {link.gateway for link in lab.policy.links}
    own = {address for link in lab.policy.links for address, _ in addresses_of(link)}
    for address in sorted(own):
        for near in (ipaddress.ip_address(address) - 1, ipaddress.ip_address(address) + 1):
            if str(near) not in taken | own:
                yield f"route replace local {near} dev lo"


def _address_zone(lab: Lab, zone: Zone) -> None:
    link = lab.link(zone.link)
    gateway = link.gateway if link.gateway and in_prefixes(link.gateway, zone.prefixes) else None
    lines = [f"link set {WIRE} up"]
    for host in dict.fromkeys((*lab.hosts[zone.id], *([gateway] if gateway else []))):
        lines.append(f"addr add {host}/{128 if ':' in host else 32} dev {WIRE}{_nodad(host)}")
    for address, _ in addresses_of(link):
        lines += _routes_to_device(lab, zone, link, address)
    if gateway:
        for other in lab.policy.zones:
            if other.link == link.name and other.id != zone.id:
                lines += [
                    f"route add {prefix} dev {WIRE}" for prefix in other.prefixes if (":" in prefix) == (":" in gateway)
                ]
    lab.zones[zone.id].command(["ip", "-batch", "-"], "\n".join(lines) + "\n")


def _routes_to_device(lab: Lab, zone: Zone, link: Link, address: str) -> Iterator[str]:
    """To the device, and by it to the other zones; from behind a gateway by the gateway."""
    version = ipaddress.ip_address(address).version
    same = [host for host in lab.hosts[zone.id] if ipaddress.ip_address(host).version == version]
    if not same:
        return
    behind = link.gateway and not _on_link(link, same[0]) and not in_prefixes(link.gateway, zone.prefixes)
    if behind:
        yield f"route add {link.gateway} dev {WIRE} src {same[0]}"
        yield f"route add default via {link.gateway} dev {WIRE} src {same[0]}"
        return
    yield f"route add {address} dev {WIRE} src {same[0]}"
    yield f"route add default via {address} dev {WIRE} src {same[0]}"


def _on_link(link: Link, address: str) -> bool:
    return any(ipaddress.ip_address(address) in ipaddress.ip_interface(text).network for text in link.addresses)


def _nodad(text: str) -> str:
    return " nodad" if ":" in text else ""


def _settle(lab: Lab) -> None:
    """Wait until no IPv6 address is tentative any more."""
    deadline = time.monotonic() + 5
    for station in (lab.device, *lab.zones.values()):
        while "tentative" in station.command(["ip", "-6", "addr"]):
            if time.monotonic() > deadline:
                raise RuntimeError("an IPv6 address stays tentative")
            time.sleep(0.02)
