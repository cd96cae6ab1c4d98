"""Maintenance windows as people write them: `22:00-04:00`, `sat,sun 22:00-04:00`, `mon-fri 01:00-05:00`,
`fri 22:00-mon 04:00`.
"""

from __future__ import annotations

import re

from appliance.core.errors import InputError
from appliance.formats.approval import DAY_MIN, WEEKDAYS, Weekday, Window

_DAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SYNTAX = re.compile(r"(?:([a-z,-]+) +)?(\d{1,2}):(\d\d) *- *(?:([a-z]+) +)?(\d{1,2}):(\d\d)")
_HINT = 'for example "22:00-04:00", "sat,sun 22:00-04:00", "mon-fri 01:00-05:00" or "fri 22:00-mon 04:00"'


def parse_window(text: str) -> Window:
    """text: site-local days and times. An end at or before the start is on the next day. Raises InputError."""
    found = _SYNTAX.fullmatch(text.strip().lower())
    if found is None:
        raise _bad(text, "this is no window")
    days = _days(text, found[1])
    start, end = _minute(text, found[2], found[3], last=DAY_MIN - 1), _minute(text, found[5], found[6], last=DAY_MIN)
    return Window(days=days, start_min=start, minutes=_length(text, days, start, end, found[4]))


def window_words(window: Window) -> str:
    """The way back: what `parse_window` reads as the same window, where that has a word for it."""
    start, end = window.start_min, window.start_min + window.minutes
    days = ",".join(window.days) + " " if window.days else ""
    if window.minutes < DAY_MIN or end == DAY_MIN:
        return f"{days}{_clock(start)}-{_clock(end if end <= DAY_MIN else end - DAY_MIN)}"
    if len(window.days) == 1:
        last = _DAYS[(_DAYS.index(window.days[0]) + end // DAY_MIN) % 7]
        return f"{days}{_clock(start)}-{last} {_clock(end % DAY_MIN)}"
    return f"{days}{_clock(start)} for {window.minutes // 60} h {window.minutes % 60:02} min"


def _days(text: str, words: str | None) -> tuple[Weekday, ...]:
    """In the order of the week."""
    chosen: set[Weekday] = set()
    for word in words.split(",") if words else ():
        first, _, last = word.partition("-")
        begin, end = _day(text, first), _day(text, last) if "-" in word else _day(text, first)
        chosen.update(_DAYS[(begin + step) % 7] for step in range((end - begin) % 7 + 1))
    return tuple(day for day in _DAYS if day in chosen)


def _day(text: str, word: str) -> int:
    if word not in WEEKDAYS:
        raise _bad(text, f"no day `{word}`")
    return WEEKDAYS.index(word)


def _minute(text: str, hour: str, minute: str, *, last: int) -> int:
    at = int(hour) * 60 + int(minute)
    if int(minute) > 59 or at > last:
        raise _bad(text, f"no time `{hour}:{minute}`")
    return at


def _length(text: str, days: tuple[Weekday, ...], start: int, end: int, end_day: str | None) -> int:
    if end_day is None:
        if start == end:
            raise _bad(text, "it ends when it begins", hint='for a whole day write "00:00-24:00"')
        return (end - start) % DAY_MIN or DAY_MIN
    if len(days) != 1:
        raise _bad(text, "a window that ends on a named day begins on exactly one")
    length = ((_day(text, end_day) - _DAYS.index(days[0])) % 7) * DAY_MIN + end - start
    return length if length > 0 else length + 7 * DAY_MIN


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _bad(text: str, why: str, *, hint: str = _HINT) -> InputError:
    return InputError(f"window {text!r}: {why}", hint=hint)
