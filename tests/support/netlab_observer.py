"""What became of each packet, seen from beside the ruleset under test.

An own table has a chain right before and one right after the ruleset's at each hook, and writes down which packets
come by: on the way in by the number in their source MAC, on the way out by their mark. The ruleset neither sees the
numbers nor is it touched.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.support.netlab_station import Remote

_BY_MAC = "type ether_addr . ct_state . ifname"
_BY_MARK = "type mark . ct_state . ifname"
_PLACES = (
    ("input", "input", _BY_MAC, "meta iiftype 1 add @{set} {{ ether saddr . ct state . iifname }}"),
    ("forward", "forward", f"{_BY_MAC} . ifname", "add @{set} {{ ether saddr . ct state . iifname . oifname }}"),
    ("output", "output", _BY_MARK, "meta mark != 0 add @{set} {{ meta mark . ct state . oifname }}"),
    ("loopback", "input", _BY_MARK, 'iifname "lo" meta mark != 0 add @{set} {{ meta mark . ct state . iifname }}'),
)
_KERNEL = {
    "tcp4": ("ipv4_addr . inet_service . ipv4_addr", "ip saddr . tcp sport . ip daddr"),
    "tcp6": ("ipv6_addr . inet_service . ipv6_addr", "ip6 saddr . tcp sport . ip6 daddr"),
    "icmp4": ("ipv4_addr . icmp_type . ipv4_addr", "ip saddr . icmp type . ip daddr"),
    "icmp6": ("ipv6_addr . icmpv6_type . ipv6_addr", "ip6 saddr . icmpv6 type . ip6 daddr"),
}
_PROTOCOL = {"tcp": (6, 6), "icmp": (1, 58)}
"""What the kernel sends by itself has no number: it is written down by what it says, as far as five fields go."""

_STATES = {1: "invalid", 2: "established", 4: "related", 8: "new", 64: "untracked"}
_SIZE = 1 << 20


@dataclass(frozen=True)
class Seen:
    """What happened to one packet at one hook. state: connection tracking's word for it."""

    hook: str
    state: str
    iif: str
    oif: str
    accepted: bool


@dataclass(frozen=True)
class Sent:
    """What the kernel sent by itself. word: source port, ICMP type or ARP operation."""

    family: str
    protocol: int
    oif: str
    state: str
    source: str
    destination: str
    word: int
    accepted: bool


def observer(before: int = -5, after: int = 5) -> str:
    """The table. before, after: priorities around that of the ruleset's chains."""
    parts = ["table inet observer {"]
    for name, hook, kind, rule in _PLACES:
        for side, priority in (("before", before), ("after", after)):
            parts += _chain(f"{name}_{side}", hook, kind, rule, priority)
    for name, (types, key) in _KERNEL.items():
        protocol = _PROTOCOL[name[:-1]][name.endswith("6")]
        rule = f"meta mark 0 meta l4proto {protocol} add @{{set}} {{{{ oifname . ct state . {key} }}}}"
        kind = f"type ifname . ct_state . {types}"
        for side, priority in (("before", before), ("after", after)):
            parts += _chain(f"{name}_{side}", "output", kind, rule, priority)
    parts += ["}", "table arp observer {"]
    for side, priority in (("before", before), ("after", after)):
        rule = "add @{set} {{ oifname . arp operation . arp saddr ip . arp daddr ip }}"
        parts += _chain(f"arpout_{side}", "output", "type ifname . arp_op . ipv4_addr . ipv4_addr", rule, priority)
    for side, priority in (("before", before), ("after", after)):
        rule = "add @{set} {{ ether saddr . iifname }}"
        parts += _chain(f"arp_{side}", "input", "type ether_addr . ifname", rule, priority)
    return "\n".join([*parts, "}", ""])


def _chain(name: str, hook: str, kind: str, rule: str, priority: int) -> list[str]:
    return [
        f"set {name} {{ {kind}; size {_SIZE}; flags dynamic; }}",
        f"chain {name} {{ type filter hook {hook} priority {priority}; policy accept;",
        rule.format(set=name),
        "}",
    ]


def seen(device: Remote) -> tuple[dict[int, list[Seen]], list[Sent]]:
    """What the observer has written down since the last call: by number, and what the kernel sent by itself."""
    listed = json.loads(device.command(["nft", "-jn", "list", "table", "inet", "observer"]))["nftables"]
    listed += json.loads(device.command(["nft", "-jn", "list", "table", "arp", "observer"]))["nftables"]
    sets = {entry["set"]["name"]: entry["set"] for entry in listed if "set" in entry}
    flushed = [f"flush set {found['family']} observer {name}" for name, found in sets.items()]
    device.command(["nft", "-f", "-"], "\n".join(flushed) + "\n")
    numbered: dict[int, list[Seen]] = {}
    kernel = []
    for name in sorted(name for name in sets if name.endswith("_before")):
        place = name.removesuffix("_before")
        after = {_keys(element) for element in sets[f"{place}_after"].get("elem", ())}
        for key in (_keys(element) for element in sets[name].get("elem", ())):
            if place in _KERNEL or place == "arpout":
                kernel.append(_sent(place, key, key in after))
            elif (number := _number(key[0])) is not None:
                numbered.setdefault(number, []).append(_seen(place, key, key in after))
    return numbered, kernel


def _sent(place: str, key: tuple[Any, ...], accepted: bool) -> Sent:
    if place == "arpout":
        oif, operation, source, destination = key
        operation = operation if operation < 256 else operation >> 8  # nft 1.0.6 prints it the wrong way round
        return Sent("arp", 0, oif, "untracked", source, destination, operation, accepted)
    oif, state, source, word, destination = key
    protocol = _PROTOCOL[place[:-1]][place.endswith("6")]
    return Sent(f"ipv{place[-1]}", protocol, oif, _STATES[state], source, destination, word, accepted)


def _seen(place: str, key: tuple[Any, ...], accepted: bool) -> Seen:
    match place:
        case "output":
            return Seen("output", _STATES[key[1]], "", key[2], accepted)
        case "forward":
            return Seen("forward", _STATES[key[1]], key[2], key[3], accepted)
        case "arp":
            return Seen("input", "untracked", key[1], "", accepted)
    return Seen("input", _STATES[key[1]], key[2], "", accepted)


def _keys(element: Any) -> tuple[Any, ...]:
    return tuple(element["concat"])


def _number(key: str | int) -> int | None:
    """Of a mark or a MAC address; None: an address that has no number in it."""
    if isinstance(key, int):
        return key
    return int(key.replace(":", "")[4:], 16) if key.startswith("02:00:") else None
