"""Boxes of packets: products of interval sets, unions of them with an index, and what is left of a box. Pure.

Exact: no sampling, and no complement of a large union is ever written out. "In none of these boxes" is kept as that,
and decided by splitting only the part that a question is about.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence

from builder.network.intervals import IntervalSet, intersect, subtract, union

Box = Mapping[str, IntervalSet]
"""Field → values. A field that is not in it may be anything that its domain has."""


def meet(one: Box, two: Box) -> Box | None:
    """Packets in both; None when there are none."""
    if not two:
        return one
    found = dict(one)
    for field, values in two.items():
        here = found.get(field)
        both = values if here is None else intersect(here, values)
        if not both:
            return None
        found[field] = both
    return found


def minus(one: Box, two: Box, domains: Box) -> Iterator[Box]:
    """`one` without `two`, as disjoint boxes: at most one for each field of `two`."""
    rest = dict(one)
    for field, values in two.items():
        here = rest.get(field, domains[field])
        outside = subtract(here, values)
        if outside:
            yield {**rest, field: outside}
        inside = intersect(here, values)
        if not inside:
            return
        rest[field] = inside


class Union:
    """A union of boxes, with an index that finds those near a box without looking at each.

    Per field: which boxes begin at or before a value, and which end at or behind it, as bits of one number. The boxes
    near a box are the ones left when these are put together, field by field; what a kernel's pipapo set does too.
    """

    def __init__(self, boxes: Sequence[Box]) -> None:
        self.boxes = boxes
        self._all = (1 << len(boxes)) - 1
        self._fields: dict[str, _FieldIndex] = {}
        for field in sorted({field for box in boxes for field in box}):
            self._fields[field] = _FieldIndex(field, boxes)

    def near(self, box: Box) -> Iterator[int]:
        """Numbers of the boxes that share a packet with `box`, in their order."""
        mask = self._all
        for field, values in box.items():
            if (index := self._fields.get(field)) is not None:
                mask &= index.touching(values[0][0], values[-1][1])
                if not mask:
                    return
        while mask:
            low = mask & -mask
            number = low.bit_length() - 1
            mask ^= low
            if meet(box, self.boxes[number]) is not None:
                yield number

    def nearest(self, box: Box) -> list[Box]:
        """The boxes themselves."""
        return [self.boxes[number] for number in self.near(box)]


class _FieldIndex:
    def __init__(self, field: str, boxes: Sequence[Box]) -> None:
        anywhere = 0
        starts: dict[int, int] = {}
        ends: dict[int, int] = {}
        for number, box in enumerate(boxes):
            bit = 1 << number
            if field not in box:
                anywhere |= bit
                continue
            values = box[field]
            starts[values[0][0]] = starts.get(values[0][0], 0) | bit
            ends[values[-1][1]] = ends.get(values[-1][1], 0) | bit
        self._anywhere = anywhere
        self._starts = sorted(starts)
        self._ends = sorted(ends)
        self._begun = list(_gathered(starts[value] for value in self._starts))
        self._open = list(_gathered(ends[value] for value in reversed(self._ends)))[::-1]

    def touching(self, first: int, last: int) -> int:
        begun = bisect_right(self._starts, last)
        still = bisect_left(self._ends, first)
        if not begun or still == len(self._ends):
            return self._anywhere
        return (self._begun[begun - 1] & self._open[still]) | self._anywhere


def _gathered(masks: Iterable[int]) -> Iterator[int]:
    gathered = 0
    for mask in masks:
        gathered |= mask
        yield gathered


def outside(box: Box, unions: Sequence[Union], domains: Box) -> Box | None:
    """A part of `box` that lies in none of the `unions`; None when they hold all of it."""
    waiting = [(box, tuple(unions))]
    while waiting:
        here, left = waiting.pop()
        near: list[Box] = []
        while left and not near:
            near = left[0].nearest(here)
            if not near:
                left = left[1:]
        if not near:
            return here
        free = _value_outside(here, near, domains)
        if free is not None:
            waiting.append((free, left[1:]))
            if len(left) == 1:
                continue
        waiting += [(part, left) for part in minus(here, _widest(near), domains)]
    return None


def _value_outside(box: Box, near: Sequence[Box], domains: Box) -> Box | None:
    """The part of `box` with values of one field that none of the boxes has: the quick answer, mostly there."""
    for field in near[0]:
        if all(field in other for other in near):
            here = box.get(field, domains[field])
            left = subtract(here, union(each for other in near for each in other[field]))
            if left:
                return {**box, field: left}
    return None


def _widest(near: Sequence[Box]) -> Box:
    """Fewest fields first: what such a box takes away leaves the fewest parts."""
    return min(near, key=len)
