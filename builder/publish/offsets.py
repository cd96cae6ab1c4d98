"""A time zone as the table of UTC offsets that devices compute with: they have no time zone data of their own."""

from __future__ import annotations

import difflib
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from appliance.core.errors import InputError
from appliance.formats.approval import UtcOffset

YEARS = 15
_STEP_S = 6 * 3600  # no zone changes twice within it


def offset_table(timezone: str, *, start: int) -> tuple[UtcOffset, ...]:
    """From `start` (Unix seconds) on for YEARS years; the first entry begins at 0, the others where local time jumps.

    timezone: an IANA name. The same table for the same time zone data. Raises InputError when there is no such zone.
    """
    zone = _zone(timezone)
    table = [UtcOffset(since=0, seconds=_offset(zone, start))]
    end = start + YEARS * 366 * 86_400
    for at in range(start, end, _STEP_S):
        if _offset(zone, at + _STEP_S) != table[-1].seconds:
            change = _change(zone, at, at + _STEP_S)
            table.append(UtcOffset(since=change, seconds=_offset(zone, change)))
    return tuple(table)


def parse_moment(text: str, timezone: str) -> int:
    """Unix seconds of `2026-07-01T22:00`, site-local where it names no offset. Raises InputError."""
    try:
        moment = datetime.fromisoformat(text)
        local = moment if moment.tzinfo is not None else moment.replace(tzinfo=_zone(timezone))
        return int(local.timestamp())
    except (ValueError, OverflowError) as error:
        hint = "for example 2026-07-01T22:00, or 2026-07-01T20:00Z"
        raise InputError(f"this is no date with a time: {text!r}", hint=hint) from error


def _zone(timezone: str) -> ZoneInfo:
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        near = difflib.get_close_matches(timezone, sorted(available_timezones()), n=1)
        hint = f"did you mean `{near[0]}`?" if near else "an IANA name, for example Europe/Berlin"
        raise InputError(f"there is no time zone `{timezone}`", hint=hint) from error


def _offset(zone: ZoneInfo, instant: int) -> int:
    offset = datetime.fromtimestamp(instant, UTC).astimezone(zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


def _change(zone: ZoneInfo, low: int, high: int) -> int:
    """The first second in (low, high] that has another offset than `low`."""
    before = _offset(zone, low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(zone, middle) == before else (low, middle)
    return high
