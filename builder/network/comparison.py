"""What one hook accepts of one family, against the packet classes that it should. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from builder.network.boxes import Box, Union, meet, minus
from builder.network.classes import PacketClass
from builder.network.explore import Outcome, Region
from builder.network.listing import Rule
from builder.network.packet import Packet, packet_of
from builder.network.space import Space

Kind = Literal["accepted", "refused", "limit", "silent", "hook", "dead", "shadowed"]

_SHOWN = 3
"""Counter-examples for one rule in one space: more would say the same."""


@dataclass(frozen=True)
class Finding:
    """One difference. text: in words. rule: what decides, as nft writes it. packet: the counter-example."""

    kind: Kind
    text: str
    rule: str = ""
    packet: Packet | None = None


@dataclass(frozen=True)
class Found:
    """conduit: the one that is not reachable, if that is what was found."""

    finding: Finding
    conduit: str = ""


class Comparison:
    """limits: filled with the limits that each conduit's packets pass, for who compares all hooks."""

    def __init__(
        self,
        space: Space,
        classes: Sequence[PacketClass],
        outcomes: Sequence[Outcome],
        limits: dict[tuple[str, str, str], set[tuple[Rule, int]]],
    ) -> None:
        self._space = space
        self._classes = classes
        self._outcomes = outcomes
        self._limits = limits
        self._accepts = [outcome for outcome in outcomes if outcome.verdict == "accept"]
        self._allowed = Union([space.box(one) for one in classes])
        self._by_limits = _by_limits(space, classes)

    def findings(self) -> Iterator[Found]:
        """accepted ⊆ allowed, allowed ⊆ accepted within the limits, and each through its conduit's limits."""
        shown: dict[str, int] = {}
        for outcome in self._accepts:
            witness = outcome.region.witness(self._space.domains, self._allowed)
            rule = _rule_text(outcome)
            shown[rule] = shown.get(rule, 0) + (witness is not None)
            if witness is not None and shown[rule] <= _SHOWN:
                packet = packet_of(witness, self._space)
                text = f"{packet} is accepted by {rule}, no conduit allows it"
                yield Found(Finding("accepted", text, rule, packet))
            yield from self._limited(outcome)
        yield from self._closed()
        yield from self._silent()

    def _closed(self) -> Iterator[Found]:
        within = [outcome.region for outcome in self._accepts if not outcome.region.over]
        regions = Union([region.box for region in within])
        for one, box in zip(self._classes, self._allowed.boxes, strict=True):
            left = uncovered(box, regions, within, self._space.domains)
            if left is None:
                continue
            packet = packet_of(left, self._space)
            rule = self._dropping(left)
            text = f"{packet} is dropped by {rule}, conduit {one.conduit} allows it"
            yield Found(Finding("refused", text, rule, packet), one.conduit)

    def _silent(self) -> Iterator[Found]:
        """A packet that no rule decides about is dropped by the policy, without a count and without a reason."""
        for outcome in self._outcomes:
            if outcome.verdict == "drop" and outcome.rule is None:
                left = outcome.region.witness(self._space.domains)
                if left is not None:
                    packet = packet_of(left, self._space)
                    yield Found(Finding("silent", f"{packet} is dropped by the policy, no rule says why", "", packet))
                    return

    def _dropping(self, box: Box) -> str:
        """Which rule drops packets of a box within every limit; for the message."""
        for outcome in self._outcomes:
            if outcome.verdict == "drop" and not outcome.region.over:
                both = meet(outcome.region.box, box)
                if both is not None and Region(both, outcome.region.without).witness(self._space.domains) is not None:
                    return _rule_text(outcome)
        return "a limit"

    def _limited(self, outcome: Outcome) -> Iterator[Found]:
        """An accepted region has passed exactly the limits of a class that allows it, within each of them."""
        region = outcome.region
        passed = frozenset(step.value for step in region.within)
        self._attribute(region)
        wrong = region.witness(self._space.domains) if region.over else self._wrongly_limited(region, passed)
        if wrong is None:
            return
        wanted = sorted({_words(each) for each in self._limits_at(wrong)})
        if not wanted:
            return  # no conduit allows it at all: that is another finding
        packet = packet_of(wrong, self._space)
        text = f"within {_words(passed)}, its conduit has {' or '.join(wanted)}"
        if region.over:
            text = f"over {_words(frozenset(step.value for step in region.over))}"
        yield Found(Finding("limit", f"{packet} is accepted {text}", _rule_text(outcome), packet))

    def _wrongly_limited(self, region: Region, passed: frozenset[str]) -> Box | None:
        """A part of the region that some class allows, but none with these limits."""
        for number in self._allowed.near(region.box):
            both = meet(region.box, self._allowed.boxes[number])
            right = self._by_limits.get(passed, Union([]))
            found = None if both is None else Region(both, region.without).witness(self._space.domains, right)
            if found is not None:
                return found
        return None

    def _limits_at(self, box: Box) -> Iterator[frozenset[str]]:
        return (limits for limits, boxes in self._by_limits.items() if next(boxes.near(box), None) is not None)

    def _attribute(self, region: Region) -> None:
        """Whose limits they are: of the classes that hold the whole region, if one conduit alone has such."""
        holding = [
            self._classes[number]
            for number in self._allowed.near(region.box)
            if not any(True for _ in minus(region.box, self._allowed.boxes[number], self._space.domains))
        ]
        if len({one.conduit for one in holding}) == 1:
            for one in holding:
                for step in region.within:
                    key = (one.conduit, f"{one.hook}, {one.part}", step.value)
                    self._limits.setdefault(key, set()).add(step.key)


def _by_limits(space: Space, classes: Sequence[PacketClass]) -> dict[frozenset[str], Union]:
    """The allowed packets, sorted by what limits them."""
    found: dict[frozenset[str], list[Box]] = {}
    for one in classes:
        for state in sorted(one.states):
            found.setdefault(one.limits(state), []).append(space.box(replace(one, states=frozenset({state}))))
    return {limits: Union(boxes) for limits, boxes in found.items()}


def _words(limits: frozenset[str]) -> str:
    return " and ".join(sorted(limits)) or "no limit"


def _rule_text(outcome: Outcome) -> str:
    return f"`{outcome.rule}`" if outcome.rule is not None else "the policy of the chain, or no chain at all"


def uncovered(box: Box, boxes: Union, regions: Sequence[Region], domains: Box) -> Box | None:
    """A part of `box` that no region holds; None when they hold all of it."""
    waiting: list[tuple[Box, frozenset[int]]] = [(box, frozenset())]
    while waiting:
        here, tried = waiting.pop()
        number = next((number for number in boxes.near(here) if number not in tried), None)
        if number is None:
            return here
        region = regions[number]
        waiting += [(part, tried) for part in minus(here, region.box, domains)]
        inside = meet(here, region.box)
        for excluded in region.without if inside is not None else ():
            for hole in excluded.nearest(inside or {}):
                left = meet(inside or {}, hole)
                if left is not None:
                    waiting.append((left, tried | {number}))
    return None
