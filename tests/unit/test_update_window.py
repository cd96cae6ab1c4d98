"""Maintenance windows against a calendar: summer time both ways, midnight, the week's end, no table at all."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from appliance.formats.approval import UtcOffset, Window
from appliance.update.window import is_open, next_close, next_open, offset_at

BERLIN = ZoneInfo("Europe/Berlin")
OFFSETS = (
    UtcOffset(since=0, seconds=3600),
    UtcOffset(since=1774746000, seconds=7200),  # 2026-03-29 01:00 UTC
    UtcOffset(since=1792890000, seconds=3600),  # 2026-10-25 01:00 UTC
)
NIGHT = Window(start_min=22 * 60, minutes=6 * 60)
WEEKEND = Window(days=("sat", "sun"), start_min=22 * 60, minutes=6 * 60)
SKIPPED = Window(days=("sun",), start_min=2 * 60, minutes=60)


def berlin(text: str, *, fold: int = 0) -> int:
    """Unix seconds of what the wall clock in Berlin shows."""
    return int(datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp())


def test_the_table_is_that_of_berlin() -> None:
    for text in ("2026-01-01T00:00", "2026-03-29T01:59", "2026-03-29T03:00", "2026-07-01T12:00", "2026-10-25T03:00"):
        offset = datetime.fromisoformat(text).replace(tzinfo=BERLIN).utcoffset()
        assert offset is not None
        assert offset_at(OFFSETS, berlin(text)) == offset.total_seconds()
    assert offset_at((), 1774746000) == 0
    assert offset_at(OFFSETS[1:], 0) == 7200, "the first entry also holds for all time before"


@pytest.mark.parametrize(
    ("window", "wall", "inside"),
    [
        (NIGHT, "2026-07-01T21:59:59", False),
        (NIGHT, "2026-07-01T22:00:00", True),
        (NIGHT, "2026-07-02T00:00:00", True),
        (NIGHT, "2026-07-02T03:59:59", True),
        (NIGHT, "2026-07-02T04:00:00", False),
        (WEEKEND, "2026-07-03T23:00:00", False),  # a Friday
        (WEEKEND, "2026-07-04T23:00:00", True),
        (WEEKEND, "2026-07-05T23:00:00", True),
        (WEEKEND, "2026-07-06T03:59:59", True),  # Monday: Sunday's window, over the week's end
        (WEEKEND, "2026-07-06T04:00:00", False),
        (WEEKEND, "2026-07-06T22:00:00", False),
        (Window(days=("fri",), start_min=0, minutes=7 * 24 * 60), "2026-07-09T23:59:59", True),
        (Window(days=("fri",), start_min=23 * 60 + 59, minutes=7 * 24 * 60), "2026-07-10T23:58:59", True),
        (Window(start_min=0, minutes=1), "2026-07-10T00:00:59", True),
        (Window(start_min=0, minutes=1), "2026-07-10T00:01:00", False),
    ],
)
def test_the_wall_clock_decides(window: Window, wall: str, inside: bool) -> None:
    assert is_open((window,), OFFSETS, berlin(wall)) is inside


def test_the_night_summer_time_begins_has_an_hour_less() -> None:
    assert next_open((NIGHT,), OFFSETS, berlin("2026-03-28T12:00")) == berlin("2026-03-28T22:00")
    assert next_close((NIGHT,), OFFSETS, berlin("2026-03-28T22:00")) == berlin("2026-03-29T04:00")
    assert berlin("2026-03-29T04:00") - berlin("2026-03-28T22:00") == 5 * 3600


def test_the_night_summer_time_ends_has_an_hour_more() -> None:
    assert next_close((NIGHT,), OFFSETS, berlin("2026-10-24T22:00")) == berlin("2026-10-25T04:00")
    assert berlin("2026-10-25T04:00") - berlin("2026-10-24T22:00") == 7 * 3600


def test_an_hour_that_is_skipped_has_no_window_that_day() -> None:
    assert next_open((SKIPPED,), OFFSETS, berlin("2026-03-29T00:00")) == berlin("2026-04-05T02:00")


def test_a_window_that_the_change_cuts_opens_with_the_change() -> None:
    cut = Window(days=("sun",), start_min=2 * 60 + 30, minutes=60)
    assert next_open((cut,), OFFSETS, berlin("2026-03-29T00:00")) == berlin("2026-03-29T03:00")
    assert next_close((cut,), OFFSETS, berlin("2026-03-29T03:00")) == berlin("2026-03-29T03:30")


def test_an_hour_that_comes_twice_has_its_window_twice() -> None:
    half = Window(days=("sun",), start_min=2 * 60, minutes=30)
    edges = list(changes((half,), berlin("2026-10-25T00:00"), berlin("2026-10-25T12:00")))
    assert edges == [
        berlin("2026-10-25T02:00", fold=0),
        berlin("2026-10-25T02:30", fold=0),
        berlin("2026-10-25T02:00", fold=1),
        berlin("2026-10-25T02:30", fold=1),
    ]


def changes(windows: tuple[Window, ...], start: int, end: int) -> Iterator[int]:
    """Every second in which a window opens or closes, found by trying each minute."""
    for at in range(start + 60, end, 60):
        if is_open(windows, OFFSETS, at) is not is_open(windows, OFFSETS, at - 60):
            yield at


def test_without_windows_it_is_always_open() -> None:
    assert is_open((), OFFSETS, 0)
    assert next_open((), OFFSETS, 5) == 5
    assert next_close((), OFFSETS, 5) is None


def test_a_window_that_never_closes() -> None:
    assert next_close((Window(start_min=0, minutes=1440),), OFFSETS, berlin("2026-07-01T12:00")) is None


def test_without_a_table_local_time_is_utc() -> None:
    noon = int(datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp())
    assert is_open((Window(start_min=720, minutes=1),), (), noon)
    assert not is_open((Window(start_min=720, minutes=1),), (), noon + 60)
