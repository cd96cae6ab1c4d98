"""The same packet before three judges: the kernel, the evaluator of its bytecode, and what the conduits allow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from builder.network.classes import OTHER_CGROUP
from builder.network.evaluate import verdict
from builder.network.listing import Ruleset, read_listing
from builder.network.packet import Packet
from tests.support.netlab import SERVICES, STRANGER, Lab
from tests.support.netlab_facts import ETHERNET_MAC, Allowed, Facts, payload_of
from tests.support.netlab_sweep import Outcome


@dataclass(frozen=True)
class Mismatch:
    """One packet about which the judges differ. conduit: the one that allows it."""

    facts: Facts
    kernel: bool
    evaluator: bool
    conduit: str | None

    def __str__(self) -> str:
        words = {True: "accepted", False: "refused"}
        allowed = f"allowed by {self.conduit}" if self.conduit else "allowed by no conduit"
        return f"{self.facts}: {words[self.kernel]} by the kernel, {words[self.evaluator]} by the evaluator, {allowed}"


class Judges:
    """They are asked about packets at one ruleset: the one that is loaded in the lab when this is made."""

    def __init__(self, lab: Lab, allowed: Allowed) -> None:
        self._ruleset = _listed(lab)
        self._allowed = allowed
        self._cgroups = {name: (lab.cgroups / name).stat().st_ino for name in SERVICES}
        self._cgroups[OTHER_CGROUP] = (lab.cgroups / STRANGER).stat().st_ino

    def mismatches(self, outcomes: Iterable[Outcome]) -> Iterator[Mismatch]:
        for one in outcomes:
            found = verdict(self._ruleset, _packet(one.facts), cgroups=self._cgroups).verdict == "accept"
            conduit = self._allowed.by(one.facts)
            if not one.accepted == found == (conduit is not None):
                yield Mismatch(one.facts, one.accepted, found, conduit)


def _listed(lab: Lab) -> Ruleset:
    """The tables under test, as the lab's kernel gives them back. The observer looks on and is no part of it."""
    lab.device.command(["nft", "-f", "-"], "".join(f"delete table {family} observer\n" for family in ("inet", "arp")))
    lab.device.command(["nft", "-f", "-"], "table inet setup\ndelete table inet setup\n")
    bytecode = lab.device.command(["nft", "--debug=netlink", "list", "ruleset"])
    return read_listing(bytecode, lab.device.command(["nft", "-j", "list", "ruleset"]))


def _packet(facts: Facts) -> Packet:
    if facts.family == "arp":
        hardware, protocol = facts.arp_types
        fields = {"hardware_type": hardware, "protocol_type": protocol, "hardware_length": 6, "protocol_length": 4}
        fields |= {"operation": facts.operation, "sender_hardware": int.from_bytes(ETHERNET_MAC, "big")}
        return Packet(
            hook=facts.hook,  # type: ignore[arg-type]
            family="arp",
            iif=facts.iif,
            oif=facts.oif,
            source=facts.source,
            destination=facts.destination,
            arp=fields,
        )
    head = payload_of(facts)
    return Packet(
        hook=facts.hook,  # type: ignore[arg-type]
        family=facts.family,  # type: ignore[arg-type]
        iif=facts.iif,
        oif=facts.oif,
        user=facts.user,
        cgroup=facts.cgroup,
        state=facts.state,  # type: ignore[arg-type]
        protocol=facts.protocol,
        source=facts.source,
        destination=facts.destination,
        header=facts.header,
        first=int.from_bytes(head[:2], "big"),
        second=int.from_bytes(head[2:4], "big"),
        hops=facts.hops,
        more=dict(enumerate(head[4:64], 4)),
    )
