"""The judge of the chaos test finds every kind of fault, and finds nothing where nothing is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.chaos.bodies import body_of, number_of
from tests.support.chaos.consumer import ranges_of
from tests.support.chaos.judge import Arrival, Judgement, judge
from tests.support.chaos.schedule import LINK, TOXICS, Plan, make_schedule

EPOCH = "e" * 32
COUNT = 40


def arrival(sequence: int, *, lane: str = "live", at: float = 0.0) -> Arrival:
    stream = lane if lane in ("alarm", "audit") else "data"
    return Arrival(
        at=at + sequence / 1000,
        epoch=EPOCH,
        stream=stream,
        sequence=sequence,
        lane=lane,
        kind="verdict",
        number=sequence,
        digest=sequence.to_bytes(4),
    )


ACCEPTED = {("data", sequence): sequence for sequence in range(1, COUNT + 1)}
GOOD = [arrival(sequence) for sequence in range(1, COUNT + 1)]


def judged(arrivals: list[Arrival], *, connections: tuple[float, ...] = (0.0,), **more: object) -> Judgement:
    return judge(ACCEPTED, frozenset({99}), arrivals, connections, **more)  # type: ignore[arg-type]


def test_a_faultless_run_has_no_faults() -> None:
    found = judged(GOOD)
    assert found.faults == {}
    assert (found.accepted, found.delivered, found.unique, found.duplicates) == (COUNT, COUNT, COUNT, 0)


def test_repetition_after_a_reconnect_is_no_fault_and_is_counted() -> None:
    again = [*GOOD[:20], *(replace(one, at=1.0, lane="backlog") for one in GOOD[10:]), replace(GOOD[10], at=2.0)]
    found = judged(again, connections=(0.0, 0.5, 1.5))
    assert found.faults == {}
    assert (found.unique, found.duplicates) == (COUNT, 11)


def test_what_was_kept_without_an_answer_belongs_to_the_spool() -> None:
    found = judged([*GOOD, replace(arrival(COUNT + 1), number=99)])
    assert (found.faults, found.kept_unanswered) == ({}, 1)


BROKEN = {
    "a consumer that drops one": (GOOD[:17] + GOOD[18:], {"missing": 1}),
    "an uplink that lost the end": (GOOD[:-3], {"missing": 3}),
    "two changed places": ([*GOOD[:9], GOOD[10], GOOD[9], *GOOD[11:]], {"out_of_order": 1}),
    "one late in its lane": ([*GOOD[:9], *GOOD[10:], GOOD[9]], {"out_of_order": 1}),
    "repeated without a reconnect": ([*GOOD, GOOD[-1]], {"out_of_order": 1}),
    "the same name with other bytes": (
        [*GOOD, replace(GOOD[-1], digest=b"else", lane="backlog")],
        {"unlike": 1},
    ),
    "one body under two names": ([*GOOD, replace(arrival(COUNT + 1), number=COUNT)], {"strangers": 1, "twice": 1}),
    "a body that nobody handed in": ([*GOOD, replace(arrival(COUNT + 1), number=None)], {"strangers": 1}),
    "another body than promised": ([*GOOD[:-1], replace(GOOD[-1], number=99)], {"wrong": 1}),
    "a gap record": ([*GOOD, replace(arrival(1, lane="alarm"), kind="gap", number=None)], {"gaps": 1}),
    "a new epoch": ([*GOOD[:-1], replace(GOOD[-1], epoch="f" * 32)], {"epochs": 1}),
    "a hole between two": ([*GOOD, replace(arrival(COUNT + 2), number=99)], {"missing": 1}),
}


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN.keys())
def test_every_fault_is_found_and_counted(case: tuple[list[Arrival], dict[str, int]]) -> None:
    arrivals, faults = case
    assert judged(arrivals).faults == faults


def test_more_descents_than_reconnects_are_disorder_even_when_there_were_reconnects() -> None:
    pairs = [one for first, second in zip(GOOD[::2], GOOD[1::2], strict=True) for one in (second, first)]
    assert judged(pairs, connections=(0.0, 0.0, 0.0)).faults == {"out_of_order": COUNT // 2 - 2}


def test_a_reconnect_later_does_not_excuse_disorder_now() -> None:
    swapped = [GOOD[1], GOOD[0], *GOOD[2:]]
    assert judged(swapped, connections=(0.0, 60.0)).faults == {"out_of_order": 1}


def test_a_promise_twice_is_a_fault() -> None:
    assert judged(GOOD, repeated=[("data", 3)]).faults == {"repeated_promises": 1}


def test_bodies_are_told_from_each_other_and_from_damaged_ones() -> None:
    for number in (1, 50, 100, 200):
        body = body_of(number, "line-3")
        assert number_of(body) == number
        changed = body | ({"label": "180"} if "label" in body else {"schema": 2})
        assert number_of(changed) is None


def test_a_schedule_is_its_seed() -> None:
    plan = Plan(messages=1000, kills=7, rounds=2, restarts=1, broker_kills=1, disk_full=1, clock_steps=3)
    events = make_schedule(plan, 5)
    assert events == make_schedule(plan, 5) != make_schedule(plan, 6)
    faults = [event.fault for event in events]
    assert [faults.count(toxic) for toxic in TOXICS] == [2] * len(TOXICS)
    assert (faults.count("kill"), faults.count("clock-step"), faults.count("disk-full")) == (7, 3, 1)
    assert len([fault for fault in faults if fault in LINK]) == 2 * len(TOXICS) + 2
    assert all(0 <= event.at < 1000 for event in events)


def test_ranges_of_a_receipt() -> None:
    assert ranges_of({5, 1, 2, 3, 9, 8}) == ((1, 3), (5, 5), (8, 9))
    assert ranges_of(set()) == ()
