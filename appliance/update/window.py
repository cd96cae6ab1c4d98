"""Maintenance windows, in the site's local time. Spec: docs/specs/approval.md.

A window is open while the clock on the site's wall is in it. So where summer time begins, the hour that the wall clock
skips does not exist; where it ends, the hour that it shows twice counts twice. A window never reaches past the time
of day that people agreed on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

from appliance.formats.approval import DAY_MIN, WEEKDAYS, UtcOffset, Window

DAY_S = 86_400
SEARCH_S = 32 * DAY_S
"""How far ahead the next opening is looked for: a window may be skipped by a change of the clock, for a week."""

_LONGEST_DAYS = 8  # that a window which is still open may have begun before


def offset_at(offsets: Sequence[UtcOffset], instant: int) -> int:
    """Seconds to add to Unix time for the site's local time; 0 when there is no table."""
    if not offsets:
        return 0
    index = bisect_right(offsets, instant, key=lambda offset: offset.since) - 1
    return offsets[max(index, 0)].seconds


def is_open(windows: Sequence[Window], offsets: Sequence[UtcOffset], instant: int) -> bool:
    """instant: Unix seconds. No windows at all are open always."""
    local = instant + offset_at(offsets, instant)
    return not windows or any(_holds(window, local) for window in windows)


def next_open(windows: Sequence[Window], offsets: Sequence[UtcOffset], instant: int) -> int | None:
    """The first second from `instant` on in which a window is open; None when there is none within SEARCH_S."""
    return _first(windows, offsets, instant, lambda at: is_open(windows, offsets, at))


def next_close(windows: Sequence[Window], offsets: Sequence[UtcOffset], instant: int) -> int | None:
    """The first second from `instant` on in which no window is open; None when there is none within SEARCH_S."""
    return _first(windows, offsets, instant, lambda at: not is_open(windows, offsets, at))


def _holds(window: Window, local: int) -> bool:
    day, start = local // DAY_S, window.start_min * 60
    return any(
        _on(window, begun) and 0 <= local - begun * DAY_S - start < window.minutes * 60
        for begun in range(day - _days_back(window), day + 1)
    )


def _on(window: Window, day: int) -> bool:
    """day: counted from 1970-01-01, a Thursday."""
    return not window.days or WEEKDAYS[(day + 3) % 7] in window.days


def _days_back(window: Window) -> int:
    return (window.start_min + window.minutes) // DAY_MIN


def _first(
    windows: Sequence[Window], offsets: Sequence[UtcOffset], instant: int, wanted: Callable[[int], bool]
) -> int | None:
    """What is wanted changes at an edge of a window or at a change of the offset, and nowhere else."""
    edges = {instant, *_edges(windows, offsets, instant)}
    return next((at for at in sorted(edges) if wanted(at)), None)


def _edges(windows: Sequence[Window], offsets: Sequence[UtcOffset], instant: int) -> Iterator[int]:
    until = instant + SEARCH_S
    changes = [offset.since for offset in offsets if instant < offset.since <= until]
    yield from changes
    for begin, end in zip((instant, *changes), (*changes, until), strict=True):
        ahead = offset_at(offsets, begin)
        for day in range((begin + ahead) // DAY_S - _LONGEST_DAYS, (end + ahead) // DAY_S + 1):
            for window in windows:
                if _on(window, day):
                    start = day * DAY_S + window.start_min * 60 - ahead
                    yield from (at for at in (start, start + window.minutes * 60) if begin <= at <= end)
