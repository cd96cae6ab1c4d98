"""Rulesets with one mistake: packets find every one that changes what is accepted, and so does the proof.

Full run: pytest tests/integration/network/test_packets_and_mutants.py --all-mutants
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from builder.network.listing import Ruleset
from builder.network.packet import Packet
from builder.network.prove import prove
from tests.support.kernel_listing import take_back_each
from tests.support.mutants import Mutant, mutants
from tests.support.netlab import lab
from tests.support.netlab_cases import PROFILES, UIDS, Case, Plan, case, parts, plan
from tests.support.netlab_facts import Allowed
from tests.support.netlab_flood import LIMITS, floods
from tests.support.netlab_sweep import Sweeper

SAMPLE = 4
NOT_LOADED, SAME, LIMITS_ONLY, FOUND = "not loaded", "same", "other limits", "found"
ONLY_ANSWERS = "only in answers of the kernel"
"""Such a mistake changes what is accepted on output, and nothing that could come there."""

BEYOND_PACKETS = ("arp hlen", "arp plen")
"""The kernel drops an ARP frame with other lengths before any hook sees it (arp_rcv): no packet can show that."""

NEVER_ESTABLISHED = "drop-condition: ct state new of ct state new ct count over "
"""A connection over the number is never established, so it shows in no packet whether established ones are asked."""


Limited = dict[tuple[str, str, bool], bool]


@pytest.mark.parametrize("name", PROFILES)
def test_packets_and_proof_find_the_same_mutants(name: str, request: pytest.FixtureRequest) -> None:
    made = case(name)
    every = all_of(made)
    chosen = range(len(every)) if request.config.getoption("--all-mutants", default=False) else sample(len(every))
    found: dict[str, int] = {}
    differ = []
    right: dict[str, list[Limited]] = {}
    with lab(made.policy, uids=UIDS, filled=made.filled) as built:
        sweeper = Sweeper(built)
        planned = plan(made, sweeper)
        taken = take_back_each([every[index].ruleset + sweeper.elements().encode() for index in chosen])
        for index, ruleset in zip(chosen, taken, strict=True):
            proof = by_proof(made, ruleset) if ruleset is not None else NOT_LOADED
            packets = by_packets(made, sweeper, planned, every[index]) if ruleset is not None else NOT_LOADED
            if packets == SAME and is_about_limits(every[index]):
                packets = by_floods(made, sweeper, index, right)
            found[proof] = found.get(proof, 0) + 1
            if packets == SAME and NEVER_ESTABLISHED in str(every[index]):
                continue
            if packets != proof and (packets, proof) != (SAME, ONLY_ANSWERS):
                differ.append(f"{every[index]}: {packets} by packets, {proof} by the proof")
    print(f"{name}: {len(chosen)} of {len(every)} mutants, {sweeper.sent} packets: {found}")
    assert differ == []


def test_each_limit_limits_what_it_should() -> None:
    """Connections are what tcp and udp have; echo requests are limited by `packets` and `new`."""
    limited = {}
    for limit, rate in LIMITS.items():
        made = case("everything", rate=rate)
        with lab(made.policy, uids=UIDS, filled=made.filled) as built:
            begun, *messages, established = (one.is_limited for one in floods(made, Sweeper(built), made.ruleset))
        echoes = {one.id for one in made.policy.conduits if "echo-request" in one.messages}
        limited[limit] = (
            {yes for (conduit, _, _), yes in begun.items() if conduit not in echoes},
            {yes for (conduit, _, _), yes in begun.items() if conduit in echoes},
            {yes for flood in messages for yes in flood.values()},
            set(established.values()),
        )
    assert limited == {
        "packets": ({True}, {True}, set(), {True}),
        "new": ({True}, {True}, {True}, {False}),
        "connections": ({True}, {False}, set(), {False}),
    }


def all_of(made: Case) -> list[Mutant]:
    found = mutants(made.ruleset.encode())
    return [one for one in found if not any(word in one.change for word in BEYOND_PACKETS)]


def sample(count: int) -> Sequence[int]:
    """SAMPLE of them, far from each other: always the same ones for the same ruleset."""
    return [(2 * index + 1) * count // (2 * SAMPLE) for index in range(SAMPLE)]


def is_about_limits(mutant: Mutant) -> bool:
    return "limit rate" in mutant.change or "ct count" in mutant.change


def by_packets(made: Case, sweeper: Sweeper, planned: Plan, mutant: Mutant) -> str:
    """FOUND as soon as a packet is not treated as the conduits say."""
    allowed = Allowed(made.classes)
    for part in parts(made, sweeper, planned, mutant.ruleset.decode()):
        if any(one.accepted != (allowed.by(one.facts) is not None) for one in part):
            return FOUND
    return SAME


def by_floods(made: Case, sweeper: Sweeper, index: int, right: dict[str, list[Limited]]) -> str:
    """The same mistake in rulesets whose limits are within reach: whether what is limited stays so.

    right: by limit, what is limited without a mistake; filled here.
    """
    for limit, rate in LIMITS.items():
        narrow = case(made.name, rate=rate)
        if limit not in right:
            right[limit] = [flood.is_limited for flood in floods(narrow, sweeper, narrow.ruleset)]
        mutant = all_of(narrow)[index].ruleset.decode()
        if [flood.is_limited for flood in floods(narrow, sweeper, mutant)] != right[limit]:
            return LIMITS_ONLY
    return SAME


def by_proof(made: Case, ruleset: Ruleset) -> str:
    """What the proof says of what is accepted. What is dead or silent accepts the same."""
    proof = prove(ruleset, made.policy, uids=UIDS, filled=made.filled)
    wrong = [one for one in proof.findings if one.kind in ("accepted", "refused")]
    if wrong and all(one.kind == "accepted" and one.packet and is_only_answer(one.packet) for one in wrong):
        return ONLY_ANSWERS
    if wrong:
        return FOUND
    return LIMITS_ONLY if any(one.kind == "limit" for one in proof.findings) else SAME


def is_only_answer(packet: Packet) -> bool:
    """Whether only the kernel could send it, and only in answer to a packet: one that the ruleset refuses on input."""
    if packet.hook != "output" or packet.user is not None:
        return False
    if packet.family == "arp":
        return packet.arp["operation"] == 2
    return packet.protocol in (1, 58) and packet.first >> 8 in (0, 129, 136)
