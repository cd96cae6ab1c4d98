"""Which broker is next, and when: fail-over, sticky return, pauses; 10,000 devices that come back at once."""

from __future__ import annotations

import heapq
import random
from collections import Counter

import pytest

from appliance.uplink.brokers import FIRST_PAUSE_S, LONGEST_PAUSE_S, Broker, Ending, Rota

A, B, C = Broker("10.0.0.1", 8883), Broker("10.0.0.2", 8883), Broker("fd00::3", 8884)
DEVICES = 10_000


def rota(*brokers: Broker) -> Rota:
    return Rota(brokers, return_s=600)


def test_the_next_broker_is_tried_after_a_failure_and_the_same_one_after_a_loss() -> None:
    order = rota(A, B, C)
    tried = []
    endings: tuple[Ending, ...] = ("worked", "failed", "failed", "failed", "failed", "worked")
    for ending in endings:
        tried.append(order.present)
        order.ended(ending, 0.5)
    assert tried == [A, A, B, C, A, B]
    assert order.present == B


def test_the_pause_doubles_with_each_round_to_a_limit_and_is_evenly_drawn() -> None:
    order = rota(A, B)
    longest = [order.ended("failed", 1.0) for _ in range(20)]
    assert longest[:8] == [10.0, 20.0, 20.0, 40.0, 40.0, 80.0, 80.0, 120.0]
    assert longest[-1] == LONGEST_PAUSE_S == max(longest)
    assert order.ended("failed", 0.0) == 0.0
    assert order.ended("failed", 0.25) == LONGEST_PAUSE_S / 4
    assert order.ended("worked", 1.0) == FIRST_PAUSE_S


def test_who_was_taken_over_does_not_fight() -> None:
    order = rota(A, B)
    assert [order.ended("taken-over", 0.0) for _ in range(6)] == [30.0, 60.0, 120.0, 240.0, 450.0, 450.0]
    assert order.present == A
    order.settled()
    assert order.ended("taken-over", 1.0) == 60.0


def test_going_back_costs_one_attempt_when_the_earlier_broker_takes_nobody() -> None:
    order = rota(A, B)
    order.ended("failed", 0.5)
    assert (order.present, order.earlier) == (B, (A,))
    order.go_back(A)
    assert order.ended("moving", 0.9) == 0.0
    assert (order.present, order.earlier) == (A, ())
    assert order.ended("failed", 0.9) == 0.0
    assert order.present == B
    assert 600 <= order.next_look(0.0) < order.next_look(1.0) == 1200


def seconds_of_attempts(outage_s: float, *, seconds: int, capacity: int | None = None) -> Counter[int]:
    """Attempts a second of DEVICES that lose their broker at 0 and that it takes again from `outage_s` on.

    capacity: connections that it accepts in a second; the others fail.
    """
    dice = random.Random(7)
    orders = [rota(A) for _ in range(DEVICES)]
    queue = [(order.ended("worked", dice.random()), number) for number, order in enumerate(orders)]
    heapq.heapify(queue)
    attempts, accepted = Counter[int](), Counter[int]()
    while queue and queue[0][0] < seconds:
        now, number = heapq.heappop(queue)
        attempts[int(now)] += 1
        if now >= outage_s and (capacity is None or accepted[int(now)] < capacity):
            accepted[int(now)] += 1
            continue
        heapq.heappush(queue, (now + 0.01 + orders[number].ended("failed", dice.random()), number))
    assert not queue, "all of them are back"
    return attempts


STAMPEDES = (
    ("a restart", 0, None, 1100, 1100, 10),
    ("2 s", 2, None, 1200, 1200, 40),
    ("a minute", 60, None, 1650, 250, 120),
    ("ten minutes", 600, None, 1650, 200, 120),
    ("a restart, and it takes 300 a second", 0, 300, 1450, 1450, 125),
    ("a minute, and it takes 100 a second", 60, 100, 1650, 300, 200),
)


@pytest.mark.parametrize(
    ("outage_s", "capacity", "most", "most_after", "all_within_s"), [row[1:] for row in STAMPEDES],
    ids=[row[0] for row in STAMPEDES],
)  # fmt: skip
def test_ten_thousand_devices_do_not_stampede(
    outage_s: int, capacity: int | None, most: int, most_after: int, all_within_s: int
) -> None:
    """The rate while it is down is the rate at which it finds them when it is back: there is no peak then."""
    attempts = seconds_of_attempts(outage_s, seconds=outage_s + 400, capacity=capacity)
    after = {second: count for second, count in attempts.items() if second >= outage_s}
    assert most * 0.8 <= max(attempts.values()) <= most
    assert most_after * 0.6 <= max(after.values()) <= most_after
    assert max(after) - outage_s <= all_within_s


def test_a_plant_that_gets_its_power_back_is_spread_as_well() -> None:
    dice = random.Random(8)
    starts = Counter(int(rota(A).start(dice.random())) for _ in range(DEVICES))
    assert max(starts.values()) <= 2200


def test_an_address_is_written_as_in_an_address_bar() -> None:
    assert [str(broker) for broker in (A, C)] == ["10.0.0.1:8883", "[fd00::3]:8884"]
