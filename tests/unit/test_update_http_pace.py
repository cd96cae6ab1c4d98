"""The rules of pace: for any sequence of transfers, no more than the cap and no slower than the floor."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from appliance.update.pace import SpeedGuard, TokenBucket, backoff


@given(st.lists(st.tuples(st.integers(1, 1 << 20), st.floats(0, 100)), max_size=50), st.integers(1, 1 << 20))
def test_a_token_bucket_never_lets_more_through(received: list[tuple[int, float]], rate: int) -> None:
    """After each pause: bytes so far <= one second's worth + rate x time."""
    now = start = 1000.0
    bucket = TokenBucket(rate, now=now)
    total = 0
    for count, idle in received:
        total += count
        now += bucket.delay(count, now=now)
        assert total <= rate + rate * (now - start) + 1e-3 * rate
        now += idle


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_bounded_and_jittered_in_full(failed: int, draw: float) -> None:
    pause_s = backoff(failed, first_s=10, longest_s=3600, draw=draw)
    assert pause_s == draw * min(3600, 10 * 2 ** min(failed - 1, 63))
    assert backoff(failed, first_s=10, longest_s=3600, draw=0.0) == 0.0


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 1000)), max_size=100))
def test_a_speed_guard_bounds_the_whole_transfer(waits: list[tuple[float, int]]) -> None:
    guard = SpeedGuard(slowest=200, grace_s=60)
    waited = 0.0
    received = 0
    for seconds, count in waits:
        if guard.left_s <= 0:
            assert waited >= 60 + received / 200 - 1e-6
            return
        guard.note(waited_s=seconds, received=count)
        waited += seconds
        received += count
    assert guard.left_s == pytest.approx(60 + received / 200 - waited)
