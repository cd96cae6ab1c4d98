"""A ruleset against a policy: what is accepted is what the conduits allow, and nothing in it is dead. Pure.

What is decided, and what is not: docs/explanation/network-proof.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from appliance.formats.network_policy import NetworkPolicy
from builder.network.classes import Family, Hook, PacketClass, allowed_classes
from builder.network.comparison import Comparison, Finding
from builder.network.explore import Explorer, Life, Outcome, Region
from builder.network.listing import Chain, Rule, Ruleset, Table, bind_cgroups
from builder.network.liveness import unused
from builder.network.space import Space

HOOKED: tuple[tuple[Hook, Family], ...] = (
    ("input", "ipv4"),
    ("input", "ipv6"),
    ("output", "ipv4"),
    ("output", "ipv6"),
    ("forward", "ipv4"),
    ("forward", "ipv6"),
    ("input", "arp"),
    ("output", "arp"),
)
"""Every hook of every family that a packet passes on its way to, from or through the device."""

_TABLES = {"ipv4": ("inet", "ip"), "ipv6": ("inet", "ip6"), "arp": ("arp",)}


@dataclass(frozen=True)
class Proof:
    """classes: allowed by the policy. accepted: regions that the ruleset accepts. conduits: those that are reachable.

    rules, elements: how many there are; each is matched by some packet, unless a finding says otherwise.
    """

    classes: int
    accepted: int
    conduits: tuple[str, ...]
    rules: int
    elements: int
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Nothing was found."""
        return not self.findings


def prove(
    ruleset: Ruleset,
    policy: NetworkPolicy,
    *,
    uids: Mapping[str, int],
    filled: Mapping[str, Sequence[str]],
    waiting: bool = False,
) -> Proof:
    """Decide whether `ruleset` accepts exactly the packets that `policy` allows, and whether all of it is needed.

    ruleset: as the kernel gives it back, cgroup sets empty, the slots in `filled` filled.
    waiting: whether slots are unfilled on purpose; what only they would use is then not called dead.
    Raises InputError for bytecode that is not known.
    """
    services = tuple(sorted({*uids, "kernel"} - {"kernel"}))
    return _Prover(bind_cgroups(ruleset, services), policy, services, waiting).prove(
        allowed_classes(policy, uids=uids, filled=filled)
    )


@dataclass
class _Prover:
    ruleset: Ruleset
    policy: NetworkPolicy
    services: tuple[str, ...]
    waiting: bool
    life: Life = field(default_factory=Life)
    limits: dict[tuple[str, str, str], set[tuple[Rule, int]]] = field(default_factory=dict)

    def prove(self, classes: Sequence[PacketClass]) -> Proof:
        findings = list(self._strangers())
        accepted, closed = 0, set()
        for hook, family in HOOKED:
            space = Space(hook, family, self.services)
            mine = [one for one in classes if (one.hook, one.family) == (hook, family)]
            outcomes = self._explore(space)
            found = list(Comparison(space, mine, outcomes, self.limits).findings())
            accepted += sum(outcome.verdict == "accept" for outcome in outcomes)
            closed |= {each.conduit for each in found if each.conduit}
            findings += [each.finding for each in found]
        findings += self._shared_limits()
        findings += self._unused()
        conduits = {one.conduit for one in classes} - closed
        return Proof(
            classes=len(classes),
            accepted=accepted,
            conduits=tuple(sorted(conduits)),
            rules=sum(1 for _ in self.ruleset.rules),
            elements=sum(len(each.elements) for table in self.ruleset.tables for each in table.sets.values()),
            findings=tuple(findings),
        )

    def _strangers(self) -> Iterator[Finding]:
        """Base chains that are none of the eight that must be there."""
        expected = {("inet", "input"), ("inet", "output"), ("inet", "forward"), ("arp", "input"), ("arp", "output")}
        seen: set[tuple[str, str]] = set()
        for table, chain in _base_chains(self.ruleset):
            name = f"{table.family} {table.name} {chain.name}"
            place = (table.family, chain.hook)
            if place not in expected or place in seen or chain.kind != "filter" or chain.priority != 0:
                what = f"type {chain.kind}, priority {chain.priority}"
                yield Finding(
                    "hook", f"the chain {name} hooks into {chain.hook} ({what}): nothing else may hook in", name
                )
            elif chain.policy != "drop":
                yield Finding("hook", f"the chain {name} has the policy {chain.policy}: it must be drop", name)
            seen.add(place)
        for family, hook in sorted(expected - seen):
            yield Finding("hook", f"no chain of the family {family} hooks into {hook}: everything passes there")

    def _explore(self, space: Space) -> list[Outcome]:
        """Through every base chain of the hook, in the order of priorities; all must accept."""
        outcomes = [Outcome(Region({}), "accept", None)]
        chains = [
            (table, chain)
            for table, chain in _base_chains(self.ruleset)
            if chain.hook == space.hook and table.family in _TABLES[space.family]
        ]
        for table, chain in sorted(chains, key=lambda each: each[1].priority):
            entering = [outcome.region for outcome in outcomes if outcome.verdict == "accept"]
            dropped = [outcome for outcome in outcomes if outcome.verdict != "accept"]
            outcomes = dropped + Explorer(table, space, self.life).run(chain, entering)
        return outcomes

    def _shared_limits(self) -> Iterator[Finding]:
        """A conduit's limit is one rule, and no other conduit's: else it would carry more, or less."""
        users: dict[tuple[Rule, int], set[str]] = {}
        for (conduit, direction, value), keys in sorted(self.limits.items()):
            for key in sorted(keys, key=lambda each: (each[0].key, each[1])):
                users.setdefault(key, set()).add(conduit)
            if len(keys) > 1:
                text = f"conduit {conduit} ({direction}) is limited to {value} in {len(keys)} places, each by itself"
                yield Finding("limit", text, str(min(keys, key=lambda key: key[0].handle)[0]))
        for (rule, _), conduits in users.items():
            if len(conduits) > 1:
                yield Finding("limit", f"the conduits {' and '.join(sorted(conduits))} share one limit", str(rule))

    def _unused(self) -> Iterator[Finding]:
        for kind, text, rule in unused(self.ruleset, self.life, waiting=self.waiting):
            yield Finding(kind, text, rule)


def _base_chains(ruleset: Ruleset) -> Iterator[tuple[Table, Chain]]:
    return ((table, chain) for table in ruleset.tables for chain in table.chains.values() if chain.hook)
