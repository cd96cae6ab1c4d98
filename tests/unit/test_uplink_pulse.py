"""Whether a connection is alive: pings, silence, a broker that acknowledges nothing."""

from __future__ import annotations

import pytest

from appliance.uplink.opening import EndedError
from appliance.uplink.pulse import Pulse, Ration


def pulse(keepalive_s: float = 30, server_s: int = 0) -> Pulse:
    made = Pulse(keepalive_s, 0.0)
    made.accepted(server_s)
    made.connected()
    return made


def test_it_pings_after_three_quarters_of_the_keepalive_without_a_word_and_not_again_at_once() -> None:
    beating = pulse()
    pings = [now for now in range(60) if beating.beat(now, heard_at=now - 1, sent_at=0, waiting=False)]
    assert pings == [23, 46]
    beating = pulse()
    pings = [now for now in range(37) if beating.beat(now, heard_at=0, sent_at=now - 1, waiting=False)]
    assert pings == [23]


@pytest.mark.parametrize(("keepalive_s", "server_s", "dead"), [(30, 0, 38), (30, 10, 13), (8, 60, 11)])
def test_silence_ends_it_within_one_and_a_half_keepalives(keepalive_s: float, server_s: int, dead: int) -> None:
    """Also while bytes go out: sent_at is always now."""
    beating = pulse(keepalive_s, server_s)
    with pytest.raises(EndedError) as caught:
        for now in range(100):
            beating.beat(now, heard_at=0, sent_at=now, waiting=True)
    assert (now, str(caught.value)) == (dead, f"the broker has said nothing for {dead} s")
    assert dead <= 1.5 * min(keepalive_s, server_s or keepalive_s)


def test_a_broker_that_only_answers_pings_is_left() -> None:
    beating = pulse(10)
    beating.progress_at = 5.0
    assert not beating.beat(35, heard_at=35, sent_at=35, waiting=True)
    assert not beating.beat(99, heard_at=99, sent_at=99, waiting=False)
    with pytest.raises(EndedError, match=r"^the broker has acknowledged nothing for 31 s$"):
        beating.beat(36, heard_at=36, sent_at=36, waiting=True)


def test_an_opening_takes_half_a_minute_at_most() -> None:
    beating = Pulse(5, 0.0)
    assert not beating.beat(30, heard_at=0, sent_at=0, waiting=False)
    with pytest.raises(EndedError, match=r"^the broker did not accept us within 30 s$"):
        beating.beat(30.1, heard_at=30, sent_at=30, waiting=False)


def test_a_broker_has_a_ration_of_each_second() -> None:
    ration = Ration(messages=3, size=10)
    assert [ration.allows(1, 5.0 + place / 10) for place in range(5)] == [True, True, True, False, False]
    assert [ration.allows(size, 6.0) for size in (6, 5, 4, 1)] == [True, False, True, False]
    assert ration.allows(10, 9.0)
