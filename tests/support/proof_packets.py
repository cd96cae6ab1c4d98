"""Packets for the prover's tests: from the corners of a ruleset, and what the regions of an exploration say of each."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from builder.network.classes import NO_CGROUP, NO_USER, OTHER_CGROUP
from builder.network.explore import Explorer, Life, Outcome, Region
from builder.network.intervals import IntervalSet, contains
from builder.network.listing import Chain, Ruleset, Table, read_listing
from builder.network.packet import Packet, packet_of
from builder.network.prove import HOOKED
from builder.network.space import STATE_BITS, Space, interface_name, interface_number

DATA = Path(__file__).parents[1] / "unit/data/network"
SERVICES = ("update", "uplink")


def stored_ruleset() -> Ruleset:
    """Rules with every expression that is known, as the kernel gave them back once."""
    return read_listing((DATA / "expressions.listing.txt").read_text(), (DATA / "expressions.listing.json").read_text())


def explored(ruleset: Ruleset, space: Space) -> list[Outcome]:
    """What becomes of every packet of a space; the ruleset has one base chain for it."""
    table, chain = next(_hooked(ruleset, space))
    return Explorer(table, space, Life()).run(chain, [Region({})])


def spaces_of(ruleset: Ruleset, services: Sequence[str]) -> list[Space]:
    """The spaces that a chain of the ruleset looks at."""
    spaces = [Space(hook, family, tuple(services)) for hook, family in HOOKED]
    return [space for space in spaces if any(True for _ in _hooked(ruleset, space))]


def _hooked(ruleset: Ruleset, space: Space) -> Iterator[tuple[Table, Chain]]:
    families = {"arp": ("arp",)}.get(space.family, ("inet",))
    for table in ruleset.tables:
        for chain in table.chains.values():
            if chain.hook == space.hook and table.family in families:
                yield table, chain


def corner_packets(outcomes: Sequence[Outcome], space: Space, count: int, seed: int) -> Iterator[Packet]:
    """Each field takes the ends of what some region says of it, and what lies just beyond."""
    dice = random.Random(seed)
    boxes = [outcome.region.box for outcome in outcomes]
    boxes += [box for outcome in outcomes for hole in outcome.region.without for box in hole.boxes]
    ends = {field: sorted(_ends(field, boxes, domain)) for field, domain in space.domains.items()}
    for _ in range(count):
        base = dice.choice(boxes)
        chosen = {
            field: dice.choice([value for value in values if contains(base.get(field, ()), value)] or values)
            if dice.random() < 0.8
            else dice.choice(values)
            for field, values in ends.items()
        }
        yield packet_of({field: ((value, value),) for field, value in chosen.items()}, space)


def _inner(values: IntervalSet) -> list[int]:
    return [end for interval in values for end in interval]


def _ends(field: str, boxes: Sequence[Mapping[str, IntervalSet]], domain: IntervalSet) -> Iterator[int]:
    found = set(_inner(domain))
    for box in boxes:
        for first, last in box.get(field, ()):
            found |= {first - 1, first, last, last + 1}
    if field in ("iif", "oif"):
        found |= {interface_number("eth9")}
        found = {value for value in found if contains(domain, value) and _is_name(value)}
    return (value for value in found if contains(domain, value))


def _is_name(value: int) -> bool:
    return value == 0 or interface_name(value).isalnum()


def symbolic_verdict(outcomes: Sequence[Outcome], packet: Packet, space: Space, *, over: bool) -> str:
    """The verdict of the one region that a packet is in, with every limit exceeded or none."""
    values = values_of(packet, space)
    found = [
        outcome
        for outcome in outcomes
        if not (outcome.region.within if over else outcome.region.over) and _holds(outcome.region, values)
    ]
    assert len(found) == 1, f"{packet} is in {len(found)} regions"
    return found[0].verdict


def _holds(region: Region, values: Mapping[str, int]) -> bool:
    def inside(box: Mapping[str, IntervalSet]) -> bool:
        return all(contains(allowed, values[field]) for field, allowed in box.items())

    return inside(region.box) and not any(inside(box) for hole in region.without for box in hole.boxes)


def values_of(packet: Packet, space: Space) -> dict[str, int]:
    """A packet as a point of its space."""
    found = {
        "iif": interface_number(packet.iif),
        "oif": interface_number(packet.oif),
        "source": packet.source,
        "destination": packet.destination,
        "state": STATE_BITS[packet.state],
    }
    if packet.family == "arp":
        return found | dict(packet.arp)
    cgroups = (NO_CGROUP, *space.services, OTHER_CGROUP)
    return found | {
        "user": NO_USER if packet.user is None else packet.user,
        "cgroup": cgroups.index(packet.cgroup),
        "protocol": packet.protocol,
        "hops": packet.hops,
        "header": int(packet.header),
        "first": packet.first,
        "second": packet.second,
        **{f"transport+{offset}": packet.more.get(offset, 0) for offset in range(4, 64)},
    }


def cgroup_numbers(space: Space) -> dict[str, int]:
    """The IDs that `bind_cgroups` gave, for the evaluator."""
    return {name: number for number, name in enumerate((*space.services, OTHER_CGROUP), 1)}
