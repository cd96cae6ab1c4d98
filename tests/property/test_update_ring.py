"""Rings and reference time: raising a percentage drops nobody, the mark never falls, no clock replaces it."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from appliance.formats.approval import Ring
from appliance.update.reftime import FURTHEST_AHEAD_S, TimeKnowledge, best_now, raise_mark
from appliance.update.ring import in_ring, percentile, rings_of

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
DEVICES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
TIMES = st.integers(0, 2**40)


@given(NAMES, DEVICES, st.integers(0, 100), st.integers(0, 100))
def test_raising_the_percentage_never_drops_a_device(site: str, device: str, one: int, other: int) -> None:
    low, high = (Ring(name="r", percent=percent) for percent in sorted((one, other)))
    assert in_ring(high, site=site, device=device, groups=()) or not in_ring(low, site=site, device=device, groups=())


@given(NAMES, DEVICES, st.lists(NAMES, max_size=3), st.lists(NAMES, max_size=3), st.lists(DEVICES, max_size=3))
def test_who_is_in_a_ring(site: str, device: str, mine: list[str], groups: list[str], devices: list[str]) -> None:
    ring = Ring(name="r", devices=tuple(devices), groups=tuple(groups))
    assert in_ring(ring, site=site, device=device, groups=mine) is (device in devices or bool(set(mine) & set(groups)))
    everyone = msgspec.structs.replace(ring, percent=100)
    assert rings_of((everyone, ring), site=site, device=device, groups=mine)[0] == "r"


def test_the_percentile_is_even_and_that_of_the_spec() -> None:
    """10,000 devices: each percentile has 60 to 140 of them (binomial: mean 100, sigma 10)."""
    counts = [0] * 100
    for number in range(10_000):
        counts[percentile("plant-4", f"press-{number}")] += 1
    assert min(counts) >= 60
    assert max(counts) <= 140
    # sha256("plant-4/press-7") begins 581fc5d9ff96a269, by sha256sum
    assert percentile("plant-4", "press-7") == 0x581FC5D9FF96A269 % 100 == 65


@given(TIMES, st.lists(TIMES, max_size=5))
def test_the_mark_never_falls(mark: int, signed: list[int]) -> None:
    raised = raise_mark(mark, *signed)
    assert raised >= mark
    assert raised in (mark, *signed)
    assert raise_mark(raised, *signed) == raised


@given(TIMES, st.one_of(st.none(), TIMES), st.booleans())
def test_now_is_never_below_the_mark(t_low: int, wall: int | None, counts: bool) -> None:
    now = best_now(TimeKnowledge(t_low, wall), clock_counts=counts)
    if now is None:
        assert not counts or wall is None or wall < t_low or wall > t_low + FURTHEST_AHEAD_S
    else:
        assert counts
        assert now == wall
        assert now >= t_low


def test_the_edge_of_a_percentage() -> None:
    """press-7 has percentile 65; the first device with percentile 0 is in no ring of nobody."""
    members = [in_ring(Ring(name="r", percent=n), site="plant-4", device="press-7", groups=()) for n in (65, 66)]
    assert members == [False, True]
    zero = next(f"press-{n}" for n in range(10_000) if percentile("plant-4", f"press-{n}") == 0)
    assert not in_ring(Ring(name="r"), site="plant-4", device=zero, groups=())
    assert in_ring(Ring(name="r", percent=1), site="plant-4", device=zero, groups=())


def test_the_edges_of_a_plausible_clock() -> None:
    low, high = 1_000, 1_000 + FURTHEST_AHEAD_S
    walls = (low - 1, low, high, high + 1)
    assert [best_now(TimeKnowledge(low, wall), clock_counts=True) for wall in walls] == [None, low, high, None]
