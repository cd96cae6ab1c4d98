"""Send packets by the thousand and say of each what the kernel did with it, at every hook that it came to.

Three kinds of sweep, one ruleset: packets that begin something; packets of connections that were established before the
ruleset was loaded, at every boundary; ICMP errors about such connections. What connection tracking calls a packet is
read from the kernel and never guessed.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from appliance.formats.conduit_elements import conduit_elements
from builder.network.classes import NO_CGROUP, OTHER_CGROUP
from tests.support import netlab_frames as frames
from tests.support.netlab import PORT, SERVICES, STRANGER, WIRE, Lab, device_mac, in_prefixes
from tests.support.netlab_facts import Facts, packet_of, text
from tests.support.netlab_observer import Seen, Sent, observer, seen
from tests.support.netlab_points import Identities
from tests.support.netlab_shapes import Shot
from tests.support.netlab_station import Identity

OPEN = """
table inet setup {
	chain quiet { type filter hook output priority -310; policy accept;
		meta mark 0 drop
	}
	chain tracked { type filter hook prerouting priority 0; policy accept;
		ct state new accept
	}
}
"""
"""Connections come about, and the kernel, which has no socket for them, does not end them with RST."""

SILENT = """
table inet setup {
	chain quiet { type filter hook output priority -310; policy accept;
		meta mark 0 drop
	}
}
"""


DEAF = """
table inet deaf
delete table inet deaf
table inet deaf {
	chain input { type filter hook input priority 0; policy accept;
		meta l4proto != 58 drop
		icmpv6 type != { 133, 134, 135, 136 } drop
	}
	chain forward { type filter hook forward priority 0; policy drop; }
}
"""
"""In the zones: their hosts answer nothing by themselves, or they would end what is to be established."""


@dataclass(frozen=True)
class Outcome:
    """facts: with the state that the kernel gave it. shape: how its bytes were unusual."""

    facts: Facts
    accepted: bool


class Sweeper:
    """Sweeps of one lab, which may load many rulesets. deaf: the hosts in its zones answer nothing by themselves."""

    def __init__(self, lab: Lab, *, deaf: bool = True) -> None:
        self.lab = lab
        self.sent = 0
        self.unseen = 0
        self.by_kernel: list[Outcome] = []
        self._listeners: dict[tuple[int, str, int], tuple[int, str]] = {}
        for zone in lab.zones.values() if deaf else ():
            zone.command(["nft", "-f", "-"], DEAF)

    @property
    def identities(self) -> Identities:
        users = (*sorted(set(self.lab.uids.values()) | {0}), 65534)
        return Identities(tuple(users), (*SERVICES, OTHER_CGROUP, NO_CGROUP))

    # ---- rulesets

    def elements(self) -> str:
        """What makes the filled slots' conduits open: what is not in the ruleset that the image has."""
        policy = self.lab.policy
        sealed = set(conduit_elements(policy, {}))
        added = [one for one in conduit_elements(policy, self.lab.filled) if one not in sealed]
        return "".join(f"add element {one.table} edgeseal {one.map} {{ {one.text()} }}\n" for one in added)

    def load(self, ruleset: str, *more: str) -> None:
        """The ruleset with its slots filled and its services' cgroups known, and the observer beside it."""
        cgroups = [name for name in SERVICES if f"set cg_{name} " in ruleset]
        filled = "".join(
            f'add element inet edgeseal cg_{name} {{ "{self.lab.cgroups.name}/{name}" }}\n' for name in cgroups
        )
        self.lab.load(ruleset, self.elements(), filled, observer(), *more)

    # ---- listeners

    def listen(self, points: Iterable[Facts]) -> None:
        """A socket of the named service on each port that a point is sent to, where the service is one of ours."""
        for point in points:
            if point.hook == "input" and point.cgroup != NO_CGROUP and point.protocol in (frames.TCP, frames.UDP):
                self._listen(point)

    def _listen(self, point: Facts) -> None:
        address = text(point.destination, point.version)
        key = (point.protocol, address, point.dport)
        if key in self._listeners or not self._is_own(address) or point.dport == 0:
            return
        kind = socket.SOCK_STREAM if point.protocol == frames.TCP else socket.SOCK_DGRAM
        family = socket.AF_INET if point.version == 4 else socket.AF_INET6
        number = self.lab.device.open(
            self._identity(self.lab.uids.get(point.cgroup, 65534), point.cgroup), family, kind
        )
        self.lab.device.option(number, socket.SOL_SOCKET, socket.SO_MARK, 0)
        self.lab.device.bind(number, (address, point.dport), point.protocol == frames.TCP)
        self._listeners[key] = number, point.cgroup

    def hang_up(self) -> None:
        """Close all listeners."""
        for number, _ in self._listeners.values():
            self.lab.device.close(number)
        self._listeners.clear()

    def _is_own(self, address: str) -> bool:
        own = [text.partition("/")[0] for link in self.lab.policy.links for text in link.addresses]
        return address in (*own, "127.0.0.1", "::1")

    def _listener(self, facts: Facts) -> str:
        key = (facts.protocol, text(facts.destination, facts.version), facts.dport)
        return self._listeners[key][1] if key in self._listeners else NO_CGROUP

    # ---- sweeps

    def begin(self, ruleset: str, points: Sequence[Facts]) -> list[Outcome]:
        """Send each of `points` with nothing established."""
        self.lab.device.forget_connections()
        self.listen(points)
        self.load(ruleset)
        return self.send([Shot(point) for point in points])

    def established(self, ruleset: str, flows: Sequence[Facts], listeners: Sequence[Facts] = ()) -> list[Outcome]:
        """Establish each flow while everything is allowed, load, and send one more packet each way."""
        self.listen(listeners)
        self._prime(flows)
        self.load(ruleset, SILENT)
        return self.send([Shot(replace(one, flags=frames.ACK)) for flow in flows for one in (flow, flow.back)])

    def in_clothes(
        self, ruleset: str, bases: Sequence[Facts], clothes: Callable[[Facts], Iterable[Shot]]
    ) -> list[Outcome]:
        """Send each of `bases` in every shape that `clothes` has for it."""
        self.lab.device.forget_connections()
        self.listen(bases)
        self.load(ruleset)
        return self.send([shot for base in bases for shot in clothes(base)])

    def asked_for(self, addresses: Sequence[int], version: int) -> list[Outcome]:
        """What the kernel sends when each of these is looked for on each link: ARP, neighbour discovery."""
        self.lab.device.command(["ip", "neigh", "flush", "all"])
        seen(self.lab.device)
        lines = [
            f"neigh replace {text(address, version)} dev {link.name} use"
            for link in self.lab.policy.links
            for address in addresses
            if self.lab.device_address(link.name, version)
        ]
        self.lab.device.command(["ip", "-force", "-batch", "-"], "\n".join(lines) + "\n")
        return [_by_kernel(one) for one in seen(self.lab.device)[1]]

    def related(
        self, ruleset: str, flows: Sequence[Facts], errors: Callable[[Facts], Iterable[Facts]]
    ) -> list[Outcome]:
        """Establish each flow, load, send the ICMP errors that `errors` makes of it; then let the kernel make some."""
        self._prime(flows)
        self.load(ruleset)
        found = self.send([Shot(error) for flow in flows for error in errors(flow)])
        self.hang_up()
        return found + self.send([Shot(one) for flow in flows for one in (flow, flow.back) if one.hook == "input"])

    def _prime(self, flows: Sequence[Facts]) -> None:
        self.lab.device.forget_connections()
        self.lab.load(OPEN)
        for turn in ("opens", "answers"):
            self._transmit([Shot(flow if turn == "opens" else flow.back) for flow in flows], self._numbers(len(flows)))

    def send(self, shots: Sequence[Shot]) -> list[Outcome]:
        """Send, and match what the observer saw with what was sent. A packet may come to several hooks."""
        seen(self.lab.device)
        numbers = self._numbers(len(shots))
        self._transmit(shots, numbers)
        found, by_kernel = seen(self.lab.device)
        self.by_kernel += [_by_kernel(one) for one in by_kernel]
        self.sent += len(shots)
        outcomes = []
        for shot, number in zip(shots, numbers, strict=True):
            self.unseen += number not in found
            outcomes += [Outcome(self._settled(shot.facts, one), one.accepted) for one in found.get(number, ())]
        return outcomes

    def _settled(self, facts: Facts, one: Seen) -> Facts:
        """With what only the kernel knows: where it went, its state; and on input the socket that is found."""
        facts = replace(facts, hook=one.hook, iif=one.iif, oif=one.oif, state=one.state)
        if one.hook == "input":
            return replace(facts, user=None, cgroup=self._listener(facts))
        return facts

    def _numbers(self, count: int) -> list[int]:
        return [self.lab.number() for _ in range(count)]

    def _transmit(self, shots: Sequence[Shot], numbers: Sequence[int]) -> None:
        wires: dict[tuple[str, str], list[bytes]] = {}
        packets = []
        for shot, number in zip(shots, numbers, strict=True):
            facts = shot.facts
            if facts.hook == "output":
                who = self._identity(facts.user or 0, facts.cgroup)
                packets.append((who, number, packet_of(facts), facts.oif))
            else:
                place = (self._sender(facts), PORT if shot.port else WIRE)
                wires.setdefault(place, []).extend(self._frames(shot, number))
        for (zone, interface), sent in wires.items():
            self.lab.zones[zone].send_frames(interface, sent)
        if packets:
            codes = self.lab.device.send_packets(packets)
            self._complain(codes)

    def _complain(self, codes: Sequence[int]) -> None:
        """EPERM is the ruleset's; a full queue would be a test that tests nothing."""
        full = codes.count(errno.ENOBUFS) + codes.count(errno.EAGAIN)
        if full:
            raise RuntimeError(f"{full} packets found no room in the queue")

    def _frames(self, shot: Shot, number: int) -> Sequence[bytes]:
        target, source = device_mac(self.lab, shot.facts.iif), frames.mac(number)
        if shot.frames is not None:
            return shot.frames(target, source)
        kind = frames.ARP_TYPE if shot.facts.family == "arp" else 0
        return [frames.ethernet(target, source, packet_of(shot.facts), kind=kind)]

    def _sender(self, facts: Facts) -> str:
        """The zone that a source belongs to; of a spoofed one, any zone on the link: by turns."""
        here = [zone for zone in self.lab.policy.zones if zone.link == facts.iif]
        source = text(facts.source, facts.version)
        for zone in here:
            if in_prefixes(source, zone.prefixes):
                return zone.id
        return here[facts.source % len(here)].id

    def _identity(self, user: int, cgroup: str) -> Identity:
        """cgroup: a service, or one of the names that classes have for the others."""
        inner = {OTHER_CGROUP: f"/{STRANGER}", NO_CGROUP: ""}.get(cgroup, f"/{cgroup}")
        return Identity(user, f"{self.lab.cgroups.name}{inner}")


def _by_kernel(one: Sent) -> Outcome:
    """What the kernel sent by itself has no socket; a SYN-ACK has one that tells no user and no cgroup."""
    facts = Facts(
        hook="output",
        family=one.family,
        oif=one.oif,
        protocol=one.protocol,
        source=int(ipaddress.ip_address(one.source)),
        destination=int(ipaddress.ip_address(one.destination)),
        state=one.state,
        shape="by the kernel",
        hops=255 if one.protocol == frames.IPV6_ICMP else 64,
        flags=frames.RST,
    )
    if one.family == "arp":
        return Outcome(replace(facts, operation=one.word), one.accepted)
    if one.protocol == frames.TCP:
        return Outcome(replace(facts, sport=one.word), one.accepted)
    return Outcome(replace(facts, icmp_type=one.word), one.accepted)


def count(outcomes: Iterable[Outcome]) -> Mapping[str, int]:
    """How many of each: for the test's output."""
    found: dict[str, int] = {}
    for one in outcomes:
        key = f"{one.facts.hook} {one.facts.state} {'accepted' if one.accepted else 'refused'}"
        found[key] = found.get(key, 0) + 1
    return dict(sorted(found.items()))
