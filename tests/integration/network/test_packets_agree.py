"""Packets at every boundary of every packet class: the kernel, the evaluator and the conduits say the same of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from appliance.formats.network_policy import Link
from builder.network.classes import LOOPBACK_INTERFACE, PacketClass
from tests.support.netlab import lab
from tests.support.netlab_cases import NAMES, UIDS, Case, case, plan, sweep
from tests.support.netlab_facts import Allowed, Facts
from tests.support.netlab_judge import Judges
from tests.support.netlab_points import representative
from tests.support.netlab_shapes import Shot, hops, shapes
from tests.support.netlab_sweep import Outcome, Sweeper, count

TAGS = (10, 20)


@pytest.mark.parametrize("name", NAMES)
def test_the_kernel_accepts_exactly_what_the_conduits_allow(name: str) -> None:
    made = case(name)
    with lab(made.policy, uids=UIDS, filled=made.filled) as built:
        sweeper = Sweeper(built)
        planned = plan(made, sweeper)
        swept = sweep(made, sweeper, planned, made.ruleset)
        clothed = sweeper.in_clothes(made.ruleset, _bases(made), lambda base: _clothes(built.link(base.iif), base))
        sweeper.load(made.ruleset)
        mismatches = list(Judges(built, Allowed(made.classes)).mismatches([*swept, *clothed]))
    seen = len(swept) + len(clothed)
    print(f"{name}: {sweeper.sent} packets, {seen} verdicts, {sweeper.unseen} not let through by the kernel itself")
    print(f"{len(mismatches)} mismatches; {count(swept)}; in other clothes: {count(clothed)}")
    assert not mismatches, "\n".join(map(str, mismatches[:20]))
    assert never_accepted(made, swept) == []
    assert [one.facts for one in clothed if "tag" in one.facts.shape and one.accepted] == []


def never_accepted(made: Case, seen: Iterable[Outcome]) -> list[PacketClass]:
    """Classes of which no packet came through: of them the sweep has shown nothing.

    Not those of loopback, where both ends are sockets: test_conduits_work.py has them.
    """
    accepted = [one.facts for one in seen if one.accepted]
    classes = [one for one in made.classes if LOOPBACK_INTERFACE not in (one.iif, one.oif)]
    return [one for one in classes if not any(Allowed([one]).by(facts) for facts in accepted)]


def _bases(made: Case) -> list[Facts]:
    inward = (one for one in made.classes if one.hook != "output" and one.family != "arp")
    return [representative(made.policy, one) for one in inward if one.iif != LOOPBACK_INTERFACE]


def _clothes(link: Link, base: Facts) -> Iterator[Shot]:
    yield from shapes(base)
    own = link.vlan.tag if link.vlan else None
    yield from hops(base, own, [tag for tag in TAGS if tag != own])
