"""The spool: messages that have not been delivered yet, durable in SQLite. ADR 0025.

A commit returns after the fsync (WAL, synchronous=FULL). What is added, removed and given up is collected in memory and
becomes durable with the next commit, all of it or nothing. One thread owns it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from appliance.core.clock import Moment
from appliance.core.errors import EdgesealError
from appliance.formats.gap import Gap, GapReason, decode_gap
from appliance.uplink.ranges import Range, RangeSet, runs
from appliance.uplink.spooled import Spooled, Stream
from appliance.uplink.spoolfile import (
    FAULTS,
    MAX_SEQUENCE,
    SpoolDamagedError,
    explained,
    open_file,
    put_aside,
    read_note,
    row_of,
    sequence_of,
    write_note,
)
from appliance.uplink.spoolstate import Count, load
from appliance.uplink.spoolwrite import COLUMNS, ROW_OVERHEAD, Changes, Row, write

STREAMS: tuple[Stream, ...] = get_args(Stream)
GAP = "gap"
"""The kind of gap records."""

News = tuple[Stream, GapReason, int, int, int]
"""Stream, reason, first, last and count of messages that were given up."""


@dataclass(frozen=True, slots=True)
class Head:
    """A message without its body. cost: against the budget."""

    sequence: int
    kind: str
    boot: int
    monotonic_us: int
    cost: int


class Outbox:
    """The spool at `path`.

    epoch: 32 hex digits, made with the file; (epoch, stream, sequence) never repeats.
    replaced: why the file found there was put aside, or None; it changes when that happens later.
    gaps: records that wait to become messages. given_up: messages since start, by reason. boots: for ages.
    taken_over: of the spool of version 1: its epoch, and up to which sequence its messages are here; what is set here
    becomes durable with the next commit.
    """

    taken_over: tuple[str, int]
    _taken_over: tuple[str, int]
    _counts: dict[Stream, Count]
    _committed: dict[Stream, Count]
    _gone: dict[Stream, RangeSet]

    def __init__(self, path: Path, moment: Moment) -> None:
        """Raises EdgesealError when the file cannot be opened; one that is damaged is replaced."""
        self._path = path
        self._news: list[News] = []
        self.given_up: Counter[GapReason] = Counter()
        self.replaced: str | None = None
        try:
            self._open(moment)
        except SpoolDamagedError as error:
            lost = read_note(path)
            self._replace(error, moment)
            if lost is not None:
                for stream in STREAMS:
                    self.gaps.put(Gap(epoch=lost, stream=stream, first=1, last=None, reason="corrupt"))

    def counts(self, stream: Stream) -> Count:
        """What is there, what was added since the last commit included; what was removed still counts."""
        return self._counts[stream]

    @property
    def rows(self) -> int:
        """Messages that wait."""
        return sum(count.rows for count in self._counts.values())

    @property
    def used(self) -> int:
        """Bytes that they count against the budgets."""
        return sum(count.bytes for count in self._counts.values())

    @property
    def has_added(self) -> bool:
        """Whether a message waits for a commit."""
        return bool(self._added)

    @property
    def removed(self) -> int:
        """Messages whose removal waits for a commit, at most."""
        return sum(ranges.count for ranges in self._gone.values())

    def add(self, stream: Stream, kind: str, body: bytes, moment: Moment) -> int:
        """Add a message; its sequence. Durable, and to be told to anybody, only after the commit."""
        count = self._counts[stream]
        if count.next > MAX_SEQUENCE:
            raise EdgesealError(f"the stream {stream} has used up its numbers")
        row = (
            row_of(stream, count.next),
            kind,
            self.boots.current,
            moment.monotonic_us,
            moment.wall_us,
            moment.quality,
            body,
        )
        self._added.append(row)
        self._counts[stream] = Count(count.next + 1, count.rows + 1, count.bytes + len(body) + ROW_OVERHEAD)
        return count.next

    def remove(self, stream: Stream, first: int, last: int) -> None:
        """Remove messages; those already gone are passed over. A crash before the commit only sends them again."""
        last = min(last, self._committed[stream].next - 1)
        self._gone[stream].add(max(1, first), last)

    def give_up(self, stream: Stream, ranges: Iterable[Range], reason: GapReason) -> None:
        """Remove messages that were not delivered: a gap record says so."""
        ranges = list(ranges)
        self.gaps.add(self.epoch, stream, reason, ranges)
        for first, last in ranges:
            self._gone[stream].add(first, last)
        count = sum(last - first + 1 for first, last in ranges)
        self._news.append((stream, reason, ranges[0][0], ranges[-1][1], count))
        self.given_up[reason] += count

    def news(self) -> list[News]:
        """What was given up since the last call."""
        news, self._news = self._news, []
        return news

    def commit(self, moment: Moment) -> None:
        """Make everything since the last one durable.

        Raises SpoolUnwritableError: what was added is forgotten, what was removed waits for the next commit.
        Raises SpoolDamagedError: only recover() helps.
        """
        if not (self._added or self.removed or self.gaps.changed):
            return
        boot = self.boots.to_write(moment)
        changes = Changes(
            counts=self._counts,
            committed=self._committed,
            added=self._added,
            gone=self._gone,
            gaps=self.gaps if self.gaps.changed else None,
            boot=boot,
            taken_over=self.taken_over if self.taken_over != self._taken_over else None,
        )
        try:
            self._database.execute("BEGIN IMMEDIATE")
            counts = write(self._database, changes)
            self._database.execute("COMMIT")
        except FAULTS as error:
            self.forget()
            with contextlib.suppress(sqlite3.Error):  # then the log begins anew: removals need no room on the disk
                self._database.execute("PRAGMA wal_checkpoint(RESTART)")
            raise explained(error) from error
        if boot is not None:
            self.boots.written(boot)
        self._taken_over = self.taken_over
        self._added.clear()
        for ranges in self._gone.values():
            ranges.clear()
        self.gaps.changed = False
        self._counts, self._committed = counts, dict(counts)

    def forget(self) -> None:
        """What was added and not committed was told to nobody: it is not there. Gap records wait again."""
        with contextlib.suppress(sqlite3.Error):
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
        for row in self._added:
            if row[1] == GAP:
                self.gaps.put(decode_gap(row[-1]))
        self._added.clear()
        self._counts = dict(self._committed)
        self.taken_over = self._taken_over

    def read(self, stream: Stream, first: int, last: int, limit: int) -> list[Spooled]:
        """The lowest committed messages of first to last, at most `limit`.

        Raises SpoolDamagedError, SpoolUnwritableError.
        """
        found: list[Spooled] = []
        for low, high in self._gone[stream].outside(first, last):
            found += (self._spooled(stream, row) for row in self._rows(COLUMNS, stream, low, high, limit - len(found)))
            if len(found) >= limit:
                break
        return found

    def heads(self, stream: Stream, first: int, last: int, limit: int) -> list[Head]:
        """As read(), without bodies."""
        found: list[Head] = []
        columns = f"id, kind, boot, monotonic_us, length(body) + {ROW_OVERHEAD}"
        for low, high in self._gone[stream].outside(first, last):
            for row in self._rows(columns, stream, low, high, limit - len(found)):
                found.append(Head(sequence_of(row[0]), *row[1:]))
            if len(found) >= limit:
                break
        return found

    def present(self, stream: Stream, first: int, last: int) -> list[Range]:
        """Which of first to last are still in the spool."""
        found: list[int] = []
        for low, high in self._gone[stream].outside(first, last):
            found += (sequence_of(row[0]) for row in self._rows("id", stream, low, high, high - low + 1))
        return runs(found)

    def recover(self, error: SpoolDamagedError, moment: Moment) -> None:
        """Put the damaged file aside and begin a new one, with a new epoch. What was in it is told as a gap."""
        known = [
            Gap(epoch=self.epoch, stream=stream, first=1, last=count.next - 1, reason="corrupt")
            for stream, count in self._committed.items()
            if count.rows
        ]
        waiting = list(self.gaps)
        self._database.close()
        self._replace(error, moment)
        for gap in (*waiting, *known):
            self.gaps.put(gap)

    def close(self) -> None:
        """Close the file; what was not committed is lost."""
        self._database.close()

    def _rows(self, columns: str, stream: Stream, first: int, last: int, limit: int) -> list[Any]:
        sql = f"SELECT {columns} FROM message WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"  # noqa: S608 (constants)
        try:
            return self._database.execute(sql, (row_of(stream, first), row_of(stream, last), limit)).fetchall()
        except FAULTS as error:
            raise explained(error) from error

    def _spooled(self, stream: Stream, row: Row) -> Spooled:
        number, kind, boot, monotonic_us, wall_us, quality, body = row
        boot_id = self.boots.id_of(boot)
        if boot_id is None:
            raise SpoolDamagedError(f"a message of boot {boot}, which is not in the spool")
        return Spooled(stream, sequence_of(number), kind, boot, boot_id, monotonic_us, wall_us, quality, body)

    def _open(self, moment: Moment) -> None:
        self._database = open_file(self._path)
        try:
            state = load(self._database, moment)
        except EdgesealError:
            self._database.close()
            raise
        self.epoch, self.gaps, self.boots = state.epoch, state.gaps, state.boots
        self.taken_over = self._taken_over = state.taken_over
        self._counts, self._committed = state.counts, dict(state.counts)
        self._added: list[Row] = []
        self._gone = {stream: RangeSet() for stream in STREAMS}
        write_note(self._path, self.epoch)

    def _replace(self, error: SpoolDamagedError, moment: Moment) -> None:
        self.replaced = f"{error}, kept as {put_aside(self._path)}"
        self._open(moment)
