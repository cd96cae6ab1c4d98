"""Which message goes next, how much may be in flight, and what becomes of refused ones."""

from __future__ import annotations

from appliance.uplink.awaiting import Awaiting
from appliance.uplink.lanes import LIVE_BEHIND, LIVE_KEPT, Flight, Lanes
from appliance.uplink.pace import FIRST, LEAST, MOST, Pace
from appliance.uplink.ranges import RangeSet, runs
from appliance.uplink.refusals import ATTEMPTS, Refusals
from appliance.uplink.spooled import Lane, Stream

SHARES: dict[Lane, int] = {"live": 60, "backlog": 30, "audit": 10}
ALL = 1 << 30
S = 1_000_000


def open_lanes(limit: int = 10, **newest: int) -> Lanes:
    lanes = Lanes(SHARES)
    streams: dict[Stream, int] = {"alarm": 0, "data": 0, "audit": 0}
    lanes.open(limit, {stream: newest.get(stream, 0) for stream in streams})
    return lanes


def send(lanes: Lanes, token: int, *, size: int = 500, allowed: int = ALL) -> Lane | None:
    lane = lanes.next(bytes_allowed=allowed)
    if lane is not None:
        head = lanes.waiting(lane).head
        assert head is not None
        lanes.sent(token, Flight(lane, head[0], head[0], 1, size, 0))
    return lane


def test_nothing_goes_without_a_connection() -> None:
    lanes = Lanes(SHARES)
    lanes.extend("alarm", 1, 5)
    assert (lanes.connected, lanes.next(bytes_allowed=ALL)) == (False, None)


def test_what_was_there_before_the_connection_is_backlog_and_what_comes_later_is_live() -> None:
    lanes = open_lanes(data=3)
    lanes.extend("live", 4, 5)
    assert list(lanes.waiting("backlog")) == [(1, 3)]
    assert list(lanes.waiting("live")) == [(4, 5)]


def test_an_alarm_goes_before_everything_and_has_a_place_of_its_own() -> None:
    lanes = open_lanes(limit=4, data=100, audit=100)
    assert [send(lanes, token) for token in range(4)].count(None) == 1, "one place is kept"
    lanes.extend("alarm", 1, 1)
    assert send(lanes, 9) == "alarm"
    assert send(lanes, 10) is None


def test_a_link_of_one_message_has_no_place_to_spare() -> None:
    lanes = open_lanes(limit=1, data=1)
    assert send(lanes, 1) == "backlog"


def test_the_shares_hold_in_bytes() -> None:
    lanes = open_lanes(data=100_000, audit=100_000)
    lanes.extend("live", 100_001, 100_900)
    sent: dict[Lane, int] = dict.fromkeys(SHARES, 0)
    sizes: dict[Lane, int] = {"live": 500, "backlog": 20_000, "audit": 3000}
    for token in range(1200):
        lane = lanes.next(bytes_allowed=ALL)
        assert lane is not None
        sent[lane] += sizes[lane]
        assert send(lanes, token, size=sizes[lane]) == lane
        lanes.done(token)
        if not lanes.waiting("live"):
            break
    total = sum(sent.values())
    for lane, share in SHARES.items():
        assert abs(sent[lane] / total - share / 100) < 0.05, (lane, sent)


def test_a_lane_alone_has_the_whole_link() -> None:
    lanes = open_lanes(limit=100, audit=50)
    assert [send(lanes, token) for token in range(50)] == ["audit"] * 50


def test_when_live_falls_behind_its_oldest_become_backlog() -> None:
    lanes = open_lanes(data=10)
    lanes.extend("live", 11, 10 + LIVE_BEHIND)
    assert list(lanes.waiting("backlog")) == [(1, 10)]
    send(lanes, 1)
    lanes.extend("live", 11 + LIVE_BEHIND, 12 + LIVE_BEHIND)
    assert lanes.waiting("live").count == LIVE_KEPT
    assert lanes.waiting("backlog").count + LIVE_KEPT + 1 == 12 + LIVE_BEHIND


def test_bytes_in_flight_are_bounded_but_one_message_always_goes() -> None:
    lanes = open_lanes(data=10)
    assert send(lanes, 1, size=5000, allowed=100) == "backlog"
    assert send(lanes, 2, size=5000, allowed=100) is None
    lanes.done(1)
    assert (send(lanes, 3, size=5000, allowed=100), lanes.bytes_in_flight) == ("backlog", 5000)


def test_after_a_loss_everything_is_unsent() -> None:
    lanes = open_lanes(data=2)
    send(lanes, 1)
    lanes.close()
    assert (lanes.flights, lanes.bytes_in_flight, lanes.done(1)) == ({}, 0, None)
    lanes.open(5, {"alarm": 0, "data": 2, "audit": 0})
    assert list(lanes.waiting("backlog")) == [(1, 2)]


def test_a_lane_that_pauses_lets_the_others_go() -> None:
    lanes = open_lanes(data=5, audit=5)
    lanes.pause("backlog", 10 * S)
    assert (send(lanes, 1), lanes.due_us()) == ("audit", 10 * S)
    lanes.resume(10 * S)
    assert lanes.due_us() is None


def test_the_allowance_shrinks_when_messages_wait_in_buffers_and_grows_when_they_do_not() -> None:
    pace = Pace()
    now = 0
    for _ in range(100):  # a satellite: two seconds each, and no queue
        pace.acknowledged(now, now + 2 * S)
        now += 3 * S
    assert pace.allowed == MOST
    for _ in range(100):  # the same way with a queue
        pace.acknowledged(now, now + 4 * S)
        now += 5 * S
    assert pace.allowed == LEAST < FIRST


def test_what_the_broker_can_not_take_now_waits_longer_each_time() -> None:
    refusals = Refusals()
    pauses = [refusals.judge("data", 1, "verdict", 0x97, 0) for _ in range(12)]
    assert {ruling.fate for ruling in pauses} == {"lane-later"}
    assert [ruling.until_us // S for ruling in pauses] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]
    refusals.accepted("verdict")
    assert refusals.judge("data", 1, "verdict", 0x97, 0).until_us == S


def test_a_message_that_alone_is_refused_is_given_up() -> None:
    refusals = Refusals()
    fates = []
    for _ in range(ATTEMPTS):
        fates.append(refusals.judge("data", 1, "verdict", 0x99, 0).fate)
        refusals.accepted("verdict")
    assert fates == ["later", "later", "given-up"]


def test_a_topic_that_is_closed_loses_nothing() -> None:
    refusals = Refusals()
    fates = [refusals.judge("data", number % 3, "verdict", 0x87, 0).fate for number in range(50)]
    assert "given-up" not in fates


def test_what_is_too_large_is_given_up_and_a_gap_record_never() -> None:
    refusals = Refusals()
    assert [refusals.judge("data", 1, "verdict", None, 0).fate for _ in range(3)] == ["later", "later", "given-up"]
    assert "given-up" not in [refusals.judge("alarm", 1, "gap", None, 0).fate for _ in range(9)]


def test_messages_without_a_receipt_come_back_later_each_time() -> None:
    awaiting = Awaiting(100 * S)
    awaiting.put("data", 1, 5, 0)
    awaiting.put("data", 6, 9, S)
    assert (awaiting.due_us(), awaiting.take(99 * S)) == (100 * S, [])
    assert awaiting.take(100 * S) == [("data", 1, 9)]
    awaiting.put("data", 1, 9, 100 * S)
    assert awaiting.due_us() == 300 * S
    awaiting.heard()
    assert awaiting.due_us() == 200 * S


def test_ranges() -> None:
    ranges = RangeSet([(5, 7), (1, 2), (3, 3), (20, 30), (8, 8)])
    assert (list(ranges), ranges.count, len(ranges)) == ([(1, 3), (5, 8), (20, 30)], 18, 3)
    ranges.discard(2, 21)
    assert list(ranges) == [(1, 1), (22, 30)]
    assert ranges.outside(1, 31) == [(2, 21), (31, 31)]
    assert (30 in ranges, 31 in ranges, 0 in ranges) == (True, False, False)
    assert runs([1, 2, 3, 7, 9, 10]) == [(1, 3), (7, 7), (9, 10)]
