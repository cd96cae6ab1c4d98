"""What a start reads of the spool's file: little, and always the same amount."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass

from appliance.core.clock import Moment
from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.gap import decode_gap
from appliance.uplink.ages import Boot, Boots
from appliance.uplink.gaps import PendingGaps
from appliance.uplink.spooled import Stream
from appliance.uplink.spoolfile import MAX_SEQUENCE, STREAM_NUMBERS, SpoolDamagedError, explained, row_of, sequence_of

KEPT_BOOTS = 32  # fewer are not worth a write


@dataclass(frozen=True, slots=True)
class Count:
    """Of one stream: the next sequence, and what is in the file for it."""

    next: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class State:
    """See the module."""

    epoch: str
    counts: dict[Stream, Count]
    gaps: PendingGaps
    boots: Boots
    taken_over: tuple[str, int]


def load(database: sqlite3.Connection, moment: Moment) -> State:
    """Raises SpoolDamagedError, and EdgesealError when it cannot be read at all."""
    try:
        return _load(database, moment)
    except (DecodeError, TypeError, ValueError) as error:
        raise SpoolDamagedError(str(error)) from error
    except sqlite3.Error as error:
        meaning = explained(error)
        if isinstance(meaning, SpoolDamagedError):
            raise meaning from error
        raise EdgesealError(f"cannot read the spool: {error}") from error


def _load(database: sqlite3.Connection, moment: Moment) -> State:
    [(epoch, taken_epoch, taken)] = database.execute("SELECT epoch, taken_epoch, taken FROM spool").fetchall()
    rows = {row[0]: Count(*row[1:]) for row in database.execute("SELECT * FROM stream")}
    if set(rows) != set(STREAM_NUMBERS.values()):
        raise SpoolDamagedError("its streams are not the ones that it was made with")
    counts = {stream: rows[number] for stream, number in STREAM_NUMBERS.items()}
    oldest = [_check_ends(database, stream, count) for stream, count in counts.items()]
    boots = [Boot(*row) for row in database.execute("SELECT * FROM boot ORDER BY number")]
    used = min((boot for boot in oldest if boot is not None), default=boots[-1].number if boots else 0)
    if len(boots) > KEPT_BOOTS:
        with contextlib.suppress(sqlite3.OperationalError):  # a full disk: there will be another start
            database.execute("DELETE FROM boot WHERE number < ?", (used,))
    return State(
        epoch=epoch,
        counts=counts,
        gaps=PendingGaps(decode_gap(row[0]) for row in database.execute("SELECT body FROM gap")),
        boots=Boots((boot for boot in boots if boot.number >= used), moment),
        taken_over=(taken_epoch, taken),
    )


def _check_ends(database: sqlite3.Connection, stream: Stream, count: Count) -> int | None:
    """Read the first and the last message, so that a file that was cut shows. The boot of the oldest one."""
    boot = None
    for order in ("DESC", "ASC"):
        sql = f"SELECT id, boot, body FROM message WHERE id BETWEEN ? AND ? ORDER BY id {order} LIMIT 1"  # noqa: S608
        row = database.execute(sql, (row_of(stream, 0), row_of(stream, MAX_SEQUENCE))).fetchone()
        if row is not None and not 0 < sequence_of(row[0]) < count.next:
            raise SpoolDamagedError(f"the stream {stream} has a message beyond its end")
        boot = None if row is None else int(row[1])
    return boot
