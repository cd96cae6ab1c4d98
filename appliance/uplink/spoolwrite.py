"""The statements of one commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from appliance.core.clock import TimeQuality
from appliance.formats.gap import Gap, encode_gap
from appliance.uplink.ages import Boot
from appliance.uplink.ranges import RangeSet
from appliance.uplink.spooled import Stream
from appliance.uplink.spoolfile import STREAM_NUMBERS, row_of
from appliance.uplink.spoolstate import Count

ROW_OVERHEAD = 64  # what a row costs beside its body, for the budget
COLUMNS = "id, kind, boot, monotonic_us, wall_us, quality, body"

Row = tuple[int, str, int, int, int, TimeQuality, bytes]
"""COLUMNS."""

_INSERT = "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?)"
_SIZE = "SELECT count(*), coalesce(sum(length(body)), 0) FROM message WHERE id BETWEEN ? AND ?"
_DELETE = "DELETE FROM message WHERE id BETWEEN ? AND ?"
_COUNT = "UPDATE stream SET next = ?, rows = ?, bytes = ? WHERE number = ?"


@dataclass(frozen=True)
class Changes:
    """What is to be written. counts: with `added`, before `gone`; committed: what the file says. None: as it is."""

    counts: Mapping[Stream, Count]
    committed: Mapping[Stream, Count]
    added: Sequence[Row]
    gone: Mapping[Stream, RangeSet]
    gaps: Iterable[Gap] | None
    boot: Boot | None
    taken_over: tuple[str, int] | None


def write(database: sqlite3.Connection, changes: Changes) -> dict[Stream, Count]:
    """In the open transaction. The counts that then hold. Raises sqlite3.Error."""
    counts = dict(changes.counts)
    if changes.added:
        database.executemany(_INSERT, changes.added)
    for stream, ranges in changes.gone.items():
        for first, last in ranges:
            counts[stream] = _delete(database, stream, first, last, counts[stream])
    changed = [
        (count.next, count.rows, count.bytes, STREAM_NUMBERS[stream])
        for stream, count in counts.items()
        if count != changes.committed[stream]
    ]
    database.executemany(_COUNT, changed)
    if changes.gaps is not None:
        database.execute("DELETE FROM gap")
        database.executemany("INSERT INTO gap (body) VALUES (?)", [(encode_gap(gap),) for gap in changes.gaps])
    if changes.boot is not None:
        boot = changes.boot
        row = (boot.number, boot.boot_id, boot.last_us, boot.origin_us)
        database.execute("INSERT OR REPLACE INTO boot VALUES (?, ?, ?, ?)", row)
    if changes.taken_over is not None:
        database.execute("UPDATE spool SET taken_epoch = ?, taken = ?", changes.taken_over)
    return counts


def _delete(database: sqlite3.Connection, stream: Stream, first: int, last: int, count: Count) -> Count:
    bounds = (row_of(stream, first), row_of(stream, last))
    rows, size = database.execute(_SIZE, bounds).fetchone()
    if not rows:
        return count
    database.execute(_DELETE, bounds)
    return replace(count, rows=count.rows - rows, bytes=count.bytes - size - rows * ROW_OVERHEAD)
