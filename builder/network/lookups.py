"""Which chain of the ruleset looks what up: per link, and what leaves also per service. Pure.

Interfaces are told apart first, by an exact map; so no key with ranges has one in it, which is what makes a lookup
quick (docs/adr/0021-ruleset-layout.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from appliance.formats.conduit_elements import verdict_maps
from appliance.formats.network_policy import NetworkPolicy

FLOWS = ("4", "6")
ECHOES = ("icmp", "icmpv6")
FAMILIES = (*FLOWS, *ECHOES)
_KEYS = {
    "4": "ip {end}addr . meta l4proto . th {port}port",
    "6": "ip6 {end}addr . meta l4proto . th {port}port",
    "icmp": "ip {end}addr . icmp type",
    "icmpv6": "ip6 {end}addr . icmpv6 type",
}
_FORWARD_KEYS = {
    "4": "ip saddr . ip daddr . meta l4proto . th {port}port",
    "6": "ip6 saddr . ip6 daddr . meta l4proto . th {port}port",
    "icmp": "ip saddr . ip daddr . icmp type",
    "icmpv6": "ip6 saddr . ip6 daddr . icmpv6 type",
}
_NEIGHBOURS = {
    "in": "ip6 hoplimit 255 ip6 saddr . ip6 daddr . icmpv6 type",
    "out": "ip6 hoplimit 255 ip6 daddr . icmpv6 type",
}


@dataclass(frozen=True)
class Way:
    """A chain that only looks up. key: what leads to it, a link or a state of a connection, as nft writes it."""

    key: str
    chain: str
    lookups: tuple[str, ...]


class Lookups:
    """The lookups in the maps of one policy, without those that do not exist."""

    def __init__(self, policy: NetworkPolicy, links: Sequence[str]) -> None:
        """links: those that packets of a zone come and leave by, and loopback."""
        self._names = {(one.table, one.name) for one in verdict_maps(policy)}
        self._links = links

    def states(self, link: str) -> tuple[Way, ...]:
        """On input from `link`: what is looked up in which state of a connection."""
        begin, answers = self.of(f"in_{link}_begin"), self.of(f"in_{link}_answers")
        found = {"new": begin, "established": answers + begin, "related": self.of(f"in_{link}_errors")}
        return tuple(Way(state, f"in_{link}_{state}", lookups) for state, lookups in found.items() if lookups)

    def tracked(self, link: str) -> str:
        """The rule that leads to those of `states`."""
        return vmap("ct state", [(way.key, f"jump {way.chain}") for way in self.states(link)])

    def leaving(self, kind: str) -> tuple[Way, ...]:
        """On output, by link. kind: a service, `answers`, `echoes` (the answers to pings), `errors` or `neighbours`."""
        name, families = {"answers": ("answers", FLOWS), "echoes": ("answers", ECHOES)}.get(kind, (kind, FAMILIES))
        made = (Way(f'"{link}"', f"out_{link}_{kind}", self.of(f"out_{link}_{name}", families)) for link in self._links)
        return tuple(way for way in made if way.lookups)

    def asking(self, kind: str, verb: str = "jump") -> tuple[str, ...]:
        """The rule that leads to those of `leaving`; none where there are none."""
        ways = self.leaving(kind)
        return (vmap("oifname", [(way.key, f"{verb} {way.chain}") for way in ways]),) if ways else ()

    def of(self, kind: str, families: Iterable[str] = FAMILIES) -> tuple[str, ...]:
        """kind: like `out_uplink0_uplink`, `in_cell0_answers`, `fwd_a_b_begin`: the map's name without its family."""
        hook, answers = kind.partition("_")[0], kind.endswith("_answers")
        if kind.endswith("_neighbours"):
            return (f"{_NEIGHBOURS[hook]} vmap @{kind}",) if self.has(kind) else ()
        keys, end = (_FORWARD_KEYS if hook == "fwd" else _KEYS), "s" if hook == "in" else "d"
        return tuple(
            f"{keys[family].format(end=end, port='s' if answers else 'd')} vmap @{kind}_{family}"
            for family in families
            if self.has(f"{kind}_{family}")
        )

    def has(self, name: str, table: str = "inet") -> bool:
        """Whether there is a map of this name."""
        return (table, name) in self._names


def vmap(selector: str, verdicts: Iterable[tuple[str, str]]) -> str:
    """A rule that leads each key to its verdict."""
    return f"{selector} vmap {{ {', '.join(f'{key} : {verdict}' for key, verdict in verdicts)} }}"
