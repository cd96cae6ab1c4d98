"""Every mutant of every shipped ruleset: the proof finds those that behave differently, and the others are the same.

Each verdict of the prover is confirmed by the evaluator, which reads the bytecode by itself: a counter-example gets
another verdict from the mutant than from the original; and where the prover sees no difference, packets from all
corners of both rulesets see none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from builder.host.toolstree import tools_tree
from builder.network.comparison import Finding
from builder.network.evaluate import verdict
from builder.network.fillings import representatives
from builder.network.listing import Ruleset, bind_cgroups
from builder.network.packet import Packet
from builder.network.prove import prove
from builder.profile.load import load_profile, profile_names
from builder.review.network_proof import Subject, filling, take_back
from builder.rootfs.files import SERVICE_UIDS
from tests.support.kernel_listing import take_back_each
from tests.support.mutants import Mutant, mutants
from tests.support.proof_packets import corner_packets, explored, spaces_of

SERVICES = sorted(SERVICE_UIDS)
CGROUPS = {name: number for number, name in enumerate((*SERVICES, "other"), 1)}
BEHAVIOUR = {"accepted", "refused", "limit"}
PACKETS_PER_SPACE = 40


@dataclass(frozen=True)
class Original:
    """A profile's ruleset with its slots filled, and packets that it decides about."""

    subject: Subject
    filled: dict[str, tuple[str, ...]]
    text: bytes
    ruleset: Ruleset
    packets: Sequence[Packet]
    verdicts: Sequence[str]


def original(name: str) -> Original:
    subject = Subject(load_profile(name).network, name, SERVICE_UIDS)
    unfilled = take_back(subject, {}, tools=tools_tree())
    filled = {slot: found[1:2] for slot, found in representatives(subject.policy, unfilled).items()}
    text = subject.text + filling(subject.policy, filled)
    ruleset = take_back(subject, filled, tools=tools_tree())
    bound = bind_cgroups(ruleset, SERVICES)
    packets = [
        packet
        for space in spaces_of(bound, SERVICES)
        for packet in corner_packets(explored(bound, space), space, PACKETS_PER_SPACE, seed=3)
    ]
    verdicts = [verdict(bound, packet, cgroups=CGROUPS).verdict for packet in packets]
    return Original(subject, filled, text, ruleset, packets, verdicts)


@pytest.mark.parametrize("name", profile_names())
def test_the_proof_finds_every_mutant_that_behaves_differently(name: str) -> None:
    first = original(name)
    assert findings_of(first, first.ruleset) == ()
    all_of_them = list(mutants(first.text))
    counts: Counter[str] = Counter()
    for mutant, ruleset in zip(all_of_them, take_back_each([one.ruleset for one in all_of_them]), strict=True):
        counts[judged(first, mutant, ruleset)] += 1
    assert sum(counts.values()) == len(all_of_them) > 200
    assert counts["caught"] > len(all_of_them) / 2, counts
    assert counts["not loaded"] < len(all_of_them) / 20, counts


def judged(first: Original, mutant: Mutant, ruleset: Ruleset | None) -> str:
    """What became of a mutant; fails when prover and evaluator do not say the same of it."""
    if ruleset is None:
        return "not loaded"
    findings = findings_of(first, ruleset)
    if BEHAVIOUR.isdisjoint(finding.kind for finding in findings):
        agree(first, ruleset, mutant)
        return "structure" if findings else "equivalent"
    for finding in findings:
        if finding.packet is not None and finding.kind in ("accepted", "refused"):
            before, after = decided(first.ruleset, finding.packet), decided(ruleset, finding.packet)
            assert (before, after) in (("accept", "drop"), ("drop", "accept")), f"{mutant}: {finding.text}"
            assert (after == "accept") == (finding.kind == "accepted"), f"{mutant}: {finding.text}"
    return "caught"


def findings_of(first: Original, ruleset: Ruleset) -> tuple[Finding, ...]:
    return prove(ruleset, first.subject.policy, uids=SERVICE_UIDS, filled=first.filled).findings


def agree(first: Original, ruleset: Ruleset, mutant: Mutant) -> None:
    bound = bind_cgroups(ruleset, SERVICES)
    for packet, before in zip(first.packets, first.verdicts, strict=True):
        assert verdict(bound, packet, cgroups=CGROUPS).verdict == before, f"{mutant}: {packet}"


def decided(ruleset: Ruleset, packet: Packet) -> str:
    return verdict(bind_cgroups(ruleset, SERVICES), packet, cgroups=CGROUPS).verdict
