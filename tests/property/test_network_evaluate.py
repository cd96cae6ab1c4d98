"""Two readings of one bytecode: all packets at once, and one packet after the other, agree on every packet."""

from __future__ import annotations

import pytest

from builder.network.evaluate import verdict
from builder.network.listing import bind_cgroups
from tests.support.proof_packets import (
    SERVICES,
    cgroup_numbers,
    corner_packets,
    explored,
    spaces_of,
    stored_ruleset,
    symbolic_verdict,
)

RULESET = bind_cgroups(stored_ruleset(), SERVICES)
SPACES = spaces_of(RULESET, SERVICES)


@pytest.mark.parametrize("space", SPACES, ids=[f"{space.hook}-{space.family}" for space in SPACES])
def test_regions_and_single_packets_get_the_same_verdict(space) -> None:  # type: ignore[no-untyped-def]
    outcomes = explored(RULESET, space)
    seen = set()
    for number, packet in enumerate(corner_packets(outcomes, space, 400, seed=7)):
        over = bool(number % 2)
        concrete = verdict(RULESET, packet, cgroups=cgroup_numbers(space), over=over).verdict
        assert symbolic_verdict(outcomes, packet, space, over=over) == concrete, str(packet)
        seen.add(concrete)
    assert seen == {"accept", "drop"}
