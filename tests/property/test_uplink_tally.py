"""The tally against a model that keeps every number it has seen."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from appliance.formats.uplink_envelope import Lane
from builder.uplink.intervals import IntervalSet
from builder.uplink.tally import StreamName, StreamState, StreamTally, Tally, states_of, tally_of

NUMBERS = st.integers(1, 40)
LANES = st.sampled_from(("live", "backlog"))
ARRIVALS = st.tuples(st.just("arrival"), NUMBERS, LANES)
GAPS = st.tuples(NUMBERS, NUMBERS).map(lambda ends: ("gap", min(ends), max(ends)))
OPEN_GAPS = st.tuples(st.just("open"), NUMBERS, st.none())
STEPS = st.lists(st.one_of(ARRIVALS, ARRIVALS, GAPS, OPEN_GAPS), max_size=60)


@dataclass
class Naive:
    """Every arrival, in a list."""

    arrivals: list[tuple[int, Lane]] = field(default_factory=list)
    excused: set[int] = field(default_factory=set)
    open_from: list[int] = field(default_factory=list)

    def first_arrivals(self) -> list[tuple[int, Lane]]:
        seen: set[int] = set()
        found = []
        for number, lane in self.arrivals:
            if number not in seen:
                found.append((number, lane))
            seen.add(number)
        return found

    def duplicates(self) -> int:
        return len(self.arrivals) - len({number for number, _lane in self.arrivals})

    def late(self) -> int:
        first = [number for number, _lane in self.first_arrivals()]
        return sum(number < max(first[:place], default=0) for place, number in enumerate(first))

    def disordered(self) -> int:
        first = self.first_arrivals()
        return sum(
            number < max((other for other, its in first[:place] if its == lane), default=0)
            for place, (number, lane) in enumerate(first)
        )

    def missing(self) -> set[int]:
        here = {number for number, _lane in self.arrivals}
        known = here | self.excused
        expected = range(1, min(max(known, default=0), min(self.open_from, default=10**9) - 1) + 1)
        return set(expected) - known

    def excused_count(self) -> int:
        return len(self.excused - {number for number, _lane in self.arrivals})


def numbers(ranges: object) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}


def run(steps: list[tuple[str, int, object]]) -> tuple[StreamTally, Naive]:
    tally, naive = StreamTally(), Naive()
    for what, number, more in steps:
        if what == "arrival":
            known = number in numbers(tally.arrived)
            assert tally.take(number, more).fresh is not known
            naive.arrivals.append((number, more))
        else:
            tally.excuse(number, more)
            if isinstance(more, int):
                naive.excused |= set(range(number, more + 1))
            else:
                naive.open_from.append(number)
    return tally, naive


@given(STEPS)
def test_it_counts_what_the_model_counts(steps: list[tuple[str, int, object]]) -> None:
    tally, naive = run(steps)
    assert tally.received == len(naive.arrivals)
    assert tally.duplicates == naive.duplicates()
    assert tally.late == naive.late()
    assert tally.disordered == naive.disordered()
    assert numbers(tally.missing()) == naive.missing()
    assert tally.missing_count == len(naive.missing())
    assert tally.excused_count == naive.excused_count()


@given(STEPS)
def test_whoever_joined_late_misses_only_what_came_after_the_lowest_number(
    steps: list[tuple[str, int, object]],
) -> None:
    tally = Tally(joined=True)
    naive = run(steps)[1]
    replay(tally, StreamName("line-3", "0" * 32, "data"), steps)
    lowest = min((number for number, _lane in naive.arrivals), default=10**9)
    wanted = {number for number in naive.missing() if number >= lowest}
    assert {number for each in tally.streams.values() for number in numbers(each.missing())} == wanted


def test_only_the_first_epoch_of_a_device_is_joined() -> None:
    tally = Tally(joined=True)
    tally.take(StreamName("line-3", "0" * 32, "data"), 50, "live")
    resumed = tally_of(states_of(tally), joined=True)
    for each in (tally, resumed):
        each.take(StreamName("line-3", "0" * 32, "alarm"), 7, "alarm")
        each.take(StreamName("line-3", "1" * 32, "data"), 3, "live")
        each.take(StreamName("line-4", "2" * 32, "data"), 9, "live")
        assert [stream.missing_count for stream in each.streams.values()] == [0, 0, 2, 0]


@given(STEPS, STEPS)
def test_it_goes_on_exactly_from_its_state(
    before: list[tuple[str, int, object]], after: list[tuple[str, int, object]]
) -> None:
    name = StreamName("line-3", "0" * 32, "data")
    whole, stopped = Tally(), Tally()
    for tally in (whole, stopped):
        replay(tally, name, before)
    kept = msgspec.json.decode(msgspec.json.encode(states_of(stopped)), type=tuple[StreamState, ...])
    resumed = tally_of(kept)
    replay(whole, name, after)
    replay(resumed, name, after)
    assert states_of(resumed) == states_of(whole)


def replay(tally: Tally, name: StreamName, steps: list[tuple[str, int, object]]) -> None:
    for what, number, more in steps:
        if what == "arrival":
            tally.take(name, number, more)
        else:
            tally.excuse(name, number, more)


@given(st.lists(st.tuples(NUMBERS, NUMBERS).map(lambda ends: (min(ends), max(ends))), max_size=30), NUMBERS, NUMBERS)
def test_intervals_are_the_set_of_their_numbers(ranges: list[tuple[int, int]], low: int, high: int) -> None:
    made, model = IntervalSet(), set[int]()
    for first, last in ranges:
        wanted = set(range(first, last + 1))
        assert made.add_range(first, last) == len(wanted - model)
        model |= wanted
    assert numbers(made) == model
    assert made.count == len(model)
    assert all(second[0] > first[1] + 1 for first, second in zip(list(made), list(made)[1:], strict=False))
    assert numbers(made.holes(low, high)) == set(range(low, high + 1)) - model
    assert {number for number in range(45) if number in made} == model
    assert (made.lowest, made.highest) == (min(model, default=None), max(model, default=None))
    assert IntervalSet(reversed(ranges)).count == made.count


@given(st.lists(NUMBERS, max_size=60))
def test_numbers_are_added_one_by_one(given_numbers: list[int]) -> None:
    made, model = IntervalSet(), set[int]()
    for number in given_numbers:
        assert made.add(number) is (number not in model)
        model.add(number)
    assert numbers(made) == model
