"""Boxes against counting: in a space so small that every packet of it can be asked."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from builder.network.boxes import Box, Union, meet, minus, outside
from builder.network.comparison import uncovered
from builder.network.explore import Region
from builder.network.intervals import IntervalSet, contains, intersect, subtract, union

SIDE = 4
FIELDS = ("x", "y", "z")
DOMAINS: Box = dict.fromkeys(FIELDS, ((0, SIDE - 1),))

intervals = st.tuples(st.integers(0, SIDE - 1), st.integers(0, SIDE - 1)).map(lambda pair: (min(pair), max(pair)))
sets = st.lists(intervals, min_size=1, max_size=3).map(union)
boxes = st.dictionaries(st.sampled_from(FIELDS), sets, max_size=3)
unions = st.lists(boxes, max_size=5).map(Union)


def points(box: Box) -> set[tuple[int, ...]]:
    return set(_points(box))


def _points(box: Box) -> Iterator[tuple[int, ...]]:
    for point in product(range(SIDE), repeat=len(FIELDS)):
        if all(contains(box.get(field, DOMAINS[field]), value) for field, value in zip(FIELDS, point, strict=True)):
            yield point


def held(found: Union) -> set[tuple[int, ...]]:
    return {point for box in found.boxes for point in points(box)}


@given(sets, sets)
def test_interval_sets_are_sets(one: IntervalSet, two: IntervalSet) -> None:
    members = {
        name: {value for value in range(SIDE) if contains(each, value)} for name, each in (("1", one), ("2", two))
    }
    assert {value for value in range(SIDE) if contains(intersect(one, two), value)} == members["1"] & members["2"]
    assert {value for value in range(SIDE) if contains(subtract(one, two), value)} == members["1"] - members["2"]


@given(boxes, boxes)
def test_a_difference_is_disjoint_and_complete(one: Box, two: Box) -> None:
    parts = [points(part) for part in minus(one, two, DOMAINS)]
    assert set().union(*parts) == points(one) - points(two)
    assert sum(map(len, parts)) == len(points(one) - points(two))


@given(boxes, unions)
def test_near_is_what_shares_a_packet(box: Box, found: Union) -> None:
    assert list(found.near(box)) == [n for n, each in enumerate(found.boxes) if meet(box, each) is not None]


@given(boxes, st.lists(unions, max_size=3))
def test_outside_finds_a_packet_exactly_when_there_is_one(box: Box, found: list[Union]) -> None:
    left = points(box).difference(*map(held, found))
    part = outside(box, found, DOMAINS)
    assert (part is None) == (not left)
    assert part is None or points(part) <= left


@given(boxes, st.lists(st.tuples(boxes, st.lists(unions, max_size=2)), max_size=4))
def test_uncovered_finds_a_packet_exactly_when_there_is_one(box: Box, made: list[tuple[Box, list[Union]]]) -> None:
    regions = [Region(each, tuple(without)) for each, without in made]
    covered = {point for each in regions for point in points(each.box).difference(*map(held, each.without))}
    part = uncovered(box, Union([each.box for each in regions]), regions, DOMAINS)
    assert (part is None) == (points(box) <= covered)
    assert part is None or not points(part) & covered
