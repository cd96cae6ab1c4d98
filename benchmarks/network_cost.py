"""`python -m benchmarks.network_cost`: what the ruleset costs each packet, at 10 and at 2,000 conduits.

Real packets between namespaces, on this machine, one kind after the other; the same packets at a ruleset that accepts
everything are the baseline, and at one with a rule for each conduit in a row the comparison. The floor is a ruleset
whose cost does not grow with its conduits. Needs root.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from appliance.formats.network_policy import DEVICE_ZONE, Conduit, NetworkPolicy, Rate
from builder.network.ruleset import compile_ruleset
from tests.support import netlab_frames as frames
from tests.support.netlab import SERVICES, WIRE, Lab, device_mac, lab
from tests.support.netlab_cases import UIDS
from tests.support.policies import synthetic

ZONES = 4
SIZES = (10, 2000)
ROUNDS = 5
FLOOR = 1.25
"""Times what a packet takes with 10 conduits. Flat is 1.0; one rule for each conduit grows ten to thirty times."""
SERIES = 150
"""Packets that are timed together. The best series counts: on a busy machine most are interrupted."""

_NUMBERS = {"tcp": frames.TCP, "udp": frames.UDP}
_UNLIMITED = Rate(packets=1_000_000, burst=100_000, new=10_000, connections=100_000)
_ACCEPT = """
table inet edgeseal {
	chain input { type filter hook input priority 0; policy accept;
		ct state invalid accept
	}
	chain output { type filter hook output priority 0; policy accept;
	}
}
"""
"""The baseline: connections are tracked, and nothing is asked."""


@dataclass(frozen=True)
class Kind:
    """One packet class. send: sends so many of it and gives the seconds."""

    name: str
    send: Callable[[int], float]


def main(argv: Sequence[str] | None = None) -> int:
    """argv: without the program's name. Returns 1 when the cost grows with the number of conduits."""
    arguments = _parse(argv)
    sizes = {size: measure(size, arguments.packets) for size in SIZES}
    growth = {kind: sizes[SIZES[-1]][kind]["edgeseal"] / sizes[SIZES[0]][kind]["edgeseal"] for kind in sizes[SIZES[0]]}
    result = {"nanoseconds": sizes, "growth": growth, "floor": FLOOR}
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        _show(sizes, growth)
    return int(max(growth.values()) > FLOOR)


def measure(conduits: int, packets: int) -> dict[str, dict[str, float]]:
    """Nanoseconds for a packet: kind → ruleset → the best of ROUNDS, taken by turns."""
    print(f"{conduits} conduits …", file=sys.stderr)
    policy = synthetic(ZONES, conduits)
    limitless = (msgspec.structs.replace(one, rate=_UNLIMITED) for one in policy.conduits)
    policy = msgspec.structs.replace(policy, conduits=tuple(limitless))
    rulesets = {
        "accept all": _ACCEPT,
        "edgeseal": compile_ruleset(policy, name="benchmark", uids=UIDS).decode(),
        "one rule each": linear(policy),
    }
    best: dict[str, dict[str, float]] = {}
    with lab(policy, uids=UIDS, filled={}) as built:
        built.introduce()
        kinds = list(_kinds(built))
        for _ in range(ROUNDS):
            for name, ruleset in rulesets.items():
                _load(built, name, ruleset)
                for kind in kinds:
                    kind.send(SERIES)
                    spent = min(kind.send(SERIES) for _ in range(packets // SERIES)) / SERIES * 1e9
                    row = best.setdefault(kind.name, {})
                    row[name] = min(spent, row.get(name, spent))
    return best


def linear(policy: NetworkPolicy) -> str:
    """What most people write: for each conduit one rule out and one in."""
    into, out = [], []
    for one in policy.conduits:
        link = next(zone.link for zone in policy.zones if zone.id in (one.from_zone, one.to_zone))
        protocol, port = _NUMBERS[one.protocol], one.ports[0]
        peer, outward = one.peers[0], one.from_zone == DEVICE_ZONE
        opens, answers = "ct state { new, established } accept", "ct state established accept"
        who = f"meta skuid {UIDS[one.service or '']} " if outward else ""
        near, far = ("sport", "dport") if outward else ("dport", "sport")  # of the conduit's port, in and out
        heard, said = (answers, who + opens) if outward else (opens, answers)
        into.append(f'iifname "{link}" ip saddr {peer} meta l4proto {protocol} th {near} {port} {heard}')
        out.append(f'oifname "{link}" ip daddr {peer} meta l4proto {protocol} th {far} {port} {said}')
    chains = {"input": into, "output": out}
    body = "".join(
        f"chain {hook} {{ type filter hook {hook} priority 0; policy drop;\n" + "\n".join(rules) + "\n}\n"
        for hook, rules in chains.items()
    )
    return f"table inet edgeseal {{\n{body}}}\n"


def _load(built: Lab, name: str, ruleset: str) -> None:
    cgroups = [one for one in SERVICES if f"set cg_{one} " in ruleset]
    filled = "".join(f'add element inet edgeseal cg_{one} {{ "{built.cgroups.name}/{one}" }}\n' for one in cgroups)
    built.load(ruleset, filled)
    built.device.forget_connections()


def _kinds(built: Lab) -> Iterator[Kind]:
    """The last conduit of each sort, and packets of no conduit."""
    udp = [one for one in built.policy.conduits if one.protocol == "udp"]
    inward = [one for one in udp if one.to_zone == DEVICE_ZONE] or [
        one for one in built.policy.conduits if one.to_zone == DEVICE_ZONE
    ]
    outward = [one for one in udp if one.from_zone == DEVICE_ZONE]
    yield Kind("out, new, accepted", _datagrams(built, outward[-1], _port(outward[-1])))
    yield Kind("out, no conduit", _datagrams(built, outward[-1], 9))
    yield Kind("in, no conduit", _frames(built, inward[-1], inward[-1].peers[0], 9))
    yield Kind("in, spoofed", _frames(built, inward[-1], "192.0.2.1", _port(inward[-1])))
    yield Kind("in, another user's port", _frames(built, inward[-1], inward[-1].peers[0], _port(inward[-1])))


def _datagrams(built: Lab, conduit: Conduit, port: int) -> Callable[[int], float]:
    number = built.device.open(built.service(conduit.service or ""), socket.AF_INET, socket.SOCK_DGRAM)
    built.device.bind(number, (_own(built, conduit.to_zone), 40000))
    return lambda count: built.device.time_datagram(number, (conduit.peers[0], port), count)


def _frames(built: Lab, conduit: Conduit, source: str, port: int) -> Callable[[int], float]:
    own, link = _own(built, conduit.from_zone), built.zone(conduit.from_zone).link
    segment = frames.transport(source, own, frames.UDP, 40000, port)
    frame = frames.ethernet(device_mac(built, link), frames.mac(1), frames.ip(source, own, frames.UDP, segment))
    return lambda count: built.zones[conduit.from_zone].time_frame(WIRE, frame, count)


def _own(built: Lab, zone: str) -> str:
    found = built.device_address(built.zone(zone).link, 4)
    assert found is not None and ip_address(found)
    return found


def _port(conduit: Conduit) -> int:
    return int(str(conduit.ports[0]).partition("-")[0])


def _show(sizes: Mapping[int, Mapping[str, Mapping[str, float]]], growth: Mapping[str, float]) -> None:
    table = Table(title="microseconds for a packet, and times the baseline", title_justify="left")
    table.add_column("packets")
    for size in sizes:
        for ruleset in ("accept all", "edgeseal", "one rule each"):
            table.add_column(f"{size}: {ruleset}", justify="right")
    table.add_column("edgeseal grows", justify="right")
    for kind in growth:
        cells = []
        for rows in sizes.values():
            base = rows[kind]["accept all"]
            cells += [f"{rows[kind][name] / 1000:.2f} ({rows[kind][name] / base:.2f})" for name in rows[kind]]
        table.add_row(kind, *cells, f"{growth[kind]:.2f}")
    console = Console(width=170)
    console.print(table)
    console.print(f"floor: flat, {FLOOR} at most", highlight=False)


def _parse(argv: Sequence[str] | None) -> Any:
    summary = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.network_cost", description=summary)
    parser.add_argument("--packets", type=int, default=4000, help="of each kind, at each ruleset, in each round")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
