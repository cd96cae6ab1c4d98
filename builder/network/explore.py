"""Every packet of a space through every chain, once, as regions. Pure.

A limit has two worlds: within it and over it. Both are followed, and a region remembers which it is in; so nothing is
said about how many packets there are, only about what happens to one in each world.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from appliance.core.errors import InputError
from builder.network.boxes import Box, Union, meet, minus, outside
from builder.network.bytecode import Verdict
from builder.network.listing import Chain, Rule, Table
from builder.network.machine import Compiler, Inside, Program, Within
from builder.network.space import Space

_DEEPEST = 16
"""NFT_JUMP_STACK_SIZE: the kernel refuses more jumps inside each other."""


Key = tuple[tuple[str, str], str, int]
"""Table, chain or set, and the rule's handle or the element's number."""


@dataclass(frozen=True)
class Region:
    """Packets in `box` and in none of `without`. within, over: the limits that they are in and beyond."""

    box: Box
    without: tuple[Union, ...] = ()
    within: tuple[Within, ...] = ()
    over: tuple[Within, ...] = ()

    def narrowed(self, box: Box) -> Region:
        """The same with another box."""
        return Region(box, self.without, self.within, self.over)

    def witness(self, domains: Box, *more: Union) -> Box | None:
        """A box of packets of it that are in none of `more` either; None when there are none."""
        return outside(self.box, (*self.without, *more), domains)


@dataclass(frozen=True)
class Outcome:
    """What happens to a region: accepted or dropped, by a rule, or by the policy of the base chain (None)."""

    region: Region
    verdict: str
    rule: Rule | None


@dataclass
class Life:
    """What some packet matches, and the regions that enter each chain."""

    rules: set[Key] = field(default_factory=set)
    elements: set[Key] = field(default_factory=set)
    entered: dict[tuple[tuple[str, str], str], list[tuple[Space, Region]]] = field(default_factory=dict)


class Explorer:
    """One base chain over one space. outcomes and life are filled by `run`."""

    def __init__(self, table: Table, space: Space, life: Life) -> None:
        self._table = table
        self._space = space
        self._compiler = Compiler(table, space)
        self._programs: dict[tuple[str, int], Program] = {}
        self._life = life
        self.outcomes: list[Outcome] = []

    def run(self, chain: Chain, entering: Sequence[Region]) -> list[Outcome]:
        """Regions through a base chain."""
        left = self._chain(chain, list(entering), 0)
        self.outcomes += [Outcome(region, chain.policy, None) for region in left]
        return self.outcomes

    def try_rule(self, rule: Rule, region: Region) -> None:
        """One rule alone, as if none stood before it in its chain."""
        for _ in self._apply(self._program(rule), [region], []):
            pass

    def _chain(self, chain: Chain, regions: list[Region], depth: int) -> list[Region]:
        """The regions that come back from it."""
        if depth > _DEEPEST:
            raise InputError(f"{chain.name}: more than {_DEEPEST} jumps inside each other")
        self._life.entered.setdefault((self._table.key, chain.name), []).extend((self._space, one) for one in regions)
        returned: list[Region] = []
        for rule in chain.rules:
            program = self._program(rule)
            if not program.has_effect:
                self._note(program, regions)
                continue
            missed: list[Region] = []
            for target, matched in _by_verdict(self._apply(program, regions, missed)):
                if target.kind in ("accept", "drop"):
                    self.outcomes += [Outcome(region, target.kind, rule) for region in matched]
                elif target.kind == "return":
                    returned += matched
                elif target.kind == "continue":
                    missed += matched
                else:
                    back = self._chain(self._table.chains[target.chain], matched, depth + 1)
                    (returned if target.kind == "goto" else missed).extend(back)
            regions = missed
        return returned + regions

    def _program(self, rule: Rule) -> Program:
        key = (rule.chain, rule.handle)
        if key not in self._programs:
            self._programs[key] = self._compiler.program(rule)
        return self._programs[key]

    def _note(self, program: Program, regions: Sequence[Region]) -> None:
        """A rule that only counts or logs: the packets go on; whether one matches is asked all the same."""
        if program.rule.key not in self._life.rules:
            for _ in self._apply(program, regions, []):
                pass

    def _apply(
        self, program: Program, regions: Sequence[Region], missed: list[Region]
    ) -> Iterator[tuple[Verdict, Region]]:
        for region in regions:
            matched = [region]
            for step in program.steps:
                if isinstance(step, Inside) and step.is_map:
                    yield from self._mapped(program, step, matched, missed)
                    matched = []
                    break
                matched = [part for one in matched for part in self._step(step, one, missed)]
            for one in matched:
                self._mark(program.rule, one)
                yield program.verdict or Verdict("continue"), one

    def _step(self, step: Inside | Within, region: Region, missed: list[Region]) -> Iterator[Region]:
        if isinstance(step, Within):
            within, over = replace(region, within=(*region.within, step)), replace(region, over=(*region.over, step))
            missed.append(within if step.inverted else over)
            yield over if step.inverted else within
            return
        inside, rest = self._parts(step, region)
        for part, number in inside:
            self._touch(step, number, part)
        missed += rest if not step.inverted else [part for part, _ in inside]
        yield from rest if step.inverted else (part for part, _ in inside)

    def _parts(self, step: Inside, region: Region) -> tuple[list[tuple[Region, int]], list[Region]]:
        """What of a region is in each box of a union, and what in none."""
        near = list(step.union.near(region.box))
        if not near:
            return [], [region]
        inside = []
        for number in near:
            both = meet(region.box, step.union.boxes[number])
            if both is not None:
                inside.append((region.narrowed(both), number))
        if len(step.union.boxes) == 1:
            rest = [region.narrowed(box) for box in minus(region.box, step.union.boxes[0], self._space.domains)]
        else:
            rest = [replace(region, without=(*region.without, step.union))]
        return inside, rest

    def _mapped(
        self, program: Program, step: Inside, regions: Sequence[Region], missed: list[Region]
    ) -> Iterator[tuple[Verdict, Region]]:
        for region in regions:
            inside, rest = self._parts(step, region)
            for part, number in inside:
                self._mark(program.rule, part)
                self._touch(step, number, part)
                yield step.verdicts[number], part
            if step.rest is None:
                missed += rest
                continue
            for part in rest:
                self._mark(program.rule, part)
                self._alive((self._table.key, step.set, step.rest[0]), part, self._life.elements)
                yield step.rest[1], part

    def _mark(self, rule: Rule, region: Region) -> None:
        self._alive(rule.key, region, self._life.rules)

    def _touch(self, step: Inside, number: int, region: Region) -> None:
        if step.set:
            self._alive((self._table.key, step.set, step.numbers[number]), region, self._life.elements)

    def _alive(self, key: Key, region: Region, known: set[Key]) -> None:
        if key not in known and (not region.without or region.witness(self._space.domains) is not None):
            known.add(key)


def _by_verdict(matched: Iterator[tuple[Verdict, Region]]) -> list[tuple[Verdict, list[Region]]]:
    """Regions that go the same way go together."""
    found: dict[Verdict, list[Region]] = {}
    for verdict, region in matched:
        found.setdefault(verdict, []).append(region)
    return list(found.items())
