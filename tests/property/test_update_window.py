"""Windows: the next opening is exactly the first second that is open, whatever the clock on the wall does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from appliance.formats.approval import WEEKDAYS, UtcOffset, Window
from appliance.update.window import SEARCH_S, is_open, next_close, next_open, offset_at

WINDOWS = st.builds(
    Window,
    days=st.lists(st.sampled_from(WEEKDAYS), max_size=7, unique=True).map(tuple),
    start_min=st.integers(0, 1439),
    minutes=st.one_of(st.integers(1, 600), st.integers(1, 7 * 1440)),
)
SOME = st.lists(WINDOWS, max_size=3).map(tuple)
INSTANTS = st.integers(0, 2**33)


@st.composite
def tables(draw: st.DrawFn, near: int) -> tuple[UtcOffset, ...]:
    """Offsets that change around `near`, also by odd amounts and often."""
    since = draw(st.lists(st.integers(max(0, near - 3 * 86_400), near + 40 * 86_400), max_size=5, unique=True))
    steps = st.one_of(st.integers(-14, 14).map(lambda hour: hour * 3600), st.integers(-50_400, 50_400))
    return tuple(UtcOffset(since=at, seconds=draw(steps)) for at in sorted(since))


@given(st.data(), SOME, INSTANTS)
def test_the_next_opening_is_the_first(data: st.DataObject, windows: tuple[Window, ...], instant: int) -> None:
    offsets = data.draw(tables(instant))
    opens = next_open(windows, offsets, instant)
    tried = data.draw(st.integers(instant, instant + SEARCH_S if opens is None else max(opens - 1, instant)))
    if opens is None:
        assert not is_open(windows, offsets, tried)
    elif opens > instant:
        assert is_open(windows, offsets, opens)
        assert not is_open(windows, offsets, opens - 1)
        assert not is_open(windows, offsets, tried)
    else:
        assert is_open(windows, offsets, instant)


@given(st.data(), SOME, INSTANTS)
def test_the_next_closing_is_the_first(data: st.DataObject, windows: tuple[Window, ...], instant: int) -> None:
    offsets = data.draw(tables(instant))
    closes = next_close(windows, offsets, instant)
    tried = data.draw(st.integers(instant, instant + SEARCH_S if closes is None else max(closes - 1, instant)))
    if closes != instant:
        assert is_open(windows, offsets, tried)
    if closes is not None:
        assert not is_open(windows, offsets, closes)


@given(st.data(), SOME, INSTANTS)
def test_membership_is_what_the_wall_clock_says(data: st.DataObject, windows: tuple[Window, ...], instant: int) -> None:
    """Against the standard library's calendar, minute by minute back from the wall clock."""
    offsets = data.draw(tables(instant))
    wall = datetime.fromtimestamp(instant, UTC) + timedelta(seconds=offset_at(offsets, instant))
    assert is_open(windows, offsets, instant) is (not windows or any(_shown(window, wall) for window in windows))


def _shown(window: Window, wall: datetime) -> bool:
    for back in range(9):
        day = wall.date() - timedelta(days=back)
        if not window.days or WEEKDAYS[day.weekday()] in window.days:
            start = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=window.start_min)
            if start <= wall < start + timedelta(minutes=window.minutes):
                return True
    return False
