"""More packets than a conduit may carry: how many get through. For mistakes in limits, which a sweep does not see."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from appliance.formats.network_policy import Rate
from builder.network.classes import LOOPBACK_INTERFACE
from tests.support.netlab_cases import Case
from tests.support.netlab_facts import Allowed, Facts
from tests.support.netlab_points import plain_flows, representative
from tests.support.netlab_sweep import Outcome, Sweeper

LEAST = 5
SENT = 40
LIMITS = {
    "packets": Rate(packets=LEAST, burst=LEAST, new=10_000, connections=100_000),
    "new": Rate(packets=1_000_000, burst=LEAST, new=LEAST, connections=100_000),
    "connections": Rate(packets=1_000_000, burst=100_000, new=10_000, connections=LEAST),
}
"""One limit within reach at a time: otherwise each hides that another one is missing."""


@dataclass(frozen=True)
class Flood:
    """accepted: (conduit, hook, whether it begins something) → how many of SENT. most: what a limit lets through."""

    accepted: dict[tuple[str, str, bool], int]
    most: float

    @property
    def is_limited(self) -> dict[tuple[str, str, bool], bool]:
        """This is what two rulesets are compared by."""
        return {key: count <= self.most for key, count in self.accepted.items()}


def floods(made: Case, sweeper: Sweeper, ruleset: str) -> Iterator[Flood]:
    """made: of one of LIMITS. What begins something; what belongs to no connection; what is established."""
    begun = time.monotonic()
    yield _counted(made, sweeper.begin(ruleset, list(_openings(made))), begun)
    begun = time.monotonic()
    if made.policy.conduits[0].rate.new == LEAST:  # their limit has the speed of `new`, and it is the only one
        seen = sweeper.begin(ruleset, list(_messages(made)))
        seen += [one for asked in _asked(made) for one in sweeper.asked_for(asked, 4)]
        yield _counted(made, seen, begun)
    flows = [flow for flow in plain_flows(made.policy, made.classes) for _ in range(SENT)]
    begun = time.monotonic()
    yield _counted(made, sweeper.established(ruleset, flows), begun)


def _openings(made: Case) -> Iterator[Facts]:
    """SENT different ones of each conduit."""
    for one in made.classes:
        opens = one.part == "opens" and "new" in one.states
        if opens and LOOPBACK_INTERFACE not in (one.iif, one.oif):
            base = representative(made.policy, one)
            yield from (replace(base, sport=base.sport + index) for index in range(SENT))


def _messages(made: Case) -> Iterator[Facts]:
    for one in made.classes:
        if one.part == "message" and one.hook == "input":
            yield from [representative(made.policy, one)] * SENT


def _asked(made: Case) -> Iterator[list[int]]:
    """Addresses that the device may look for with ARP, SENT of each conduit that has so many."""
    for one in made.classes:
        if one.family == "arp" and one.hook == "output" and one.destination:
            yield [address for first, last in one.destination for address in range(first + 1, last)][:SENT]


def _counted(made: Case, seen: list[Outcome], begun: float) -> Flood:
    spent = time.monotonic() - begun
    allowed, accepted = Allowed(made.classes), dict[tuple[str, str, bool], int]()
    for one in seen:
        conduit = allowed.by(one.facts)
        if conduit is not None:
            key = (conduit, one.facts.hook, one.facts.state == "new")
            accepted[key] = accepted.get(key, 0) + one.accepted
    return Flood(accepted, LEAST + 1 + LEAST * spent)
