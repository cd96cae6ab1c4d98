"""The spool: messages that the broker has not acknowledged yet, durable in SQLite.

A commit returns after the fsync (WAL, synchronous=FULL). One thread owns it.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.core.durable import fsync_directory
from appliance.core.errors import EdgesealError

ROW_OVERHEAD = 64  # what a row costs beside its payload, for the budget
_SCHEMA = """
CREATE TABLE IF NOT EXISTS message (sequence INTEGER PRIMARY KEY AUTOINCREMENT, payload BLOB NOT NULL,
  kind TEXT NOT NULL DEFAULT 'verdict') STRICT;
CREATE TABLE IF NOT EXISTS spool (one INTEGER PRIMARY KEY CHECK (one = 1), epoch TEXT NOT NULL, rows INTEGER NOT NULL,
  bytes INTEGER NOT NULL) STRICT;
"""
# For a spool of a version that knew nothing but verdicts. That version can still use it.
_KIND_COLUMN = "ALTER TABLE message ADD COLUMN kind TEXT NOT NULL DEFAULT 'verdict'"


@dataclass(frozen=True)
class Spooled:
    """One message. sequence: from 1, rising, never reused in this epoch. kind: the last level of its topic."""

    sequence: int
    payload: bytes
    kind: str = "verdict"


class Outbox:
    """The spool at `path`. Every method raises EdgesealError when the file cannot be used; then only a new start helps.

    budget: bytes of payloads with ROW_OVERHEAD each; the file itself may be a little larger.
    epoch: 32 hex digits, made with the file; (device, epoch, sequence) never repeats.
    replaced: why the file found there was put aside, or None.
    """

    def __init__(self, path: Path, *, budget: int) -> None:
        self._budget = budget
        self.replaced: str | None = None
        try:
            self._open(path)
        except sqlite3.OperationalError as error:
            raise EdgesealError(f"cannot open the spool {path}: {error}") from error
        except sqlite3.DatabaseError as error:
            self._database.close()
            self.replaced = f"{error}, kept as {_put_aside(path)}"
            self._open(path)

    @property
    def rows(self) -> int:
        """Messages that wait."""
        return self._rows

    @property
    def used(self) -> int:
        """Bytes that they count against the budget."""
        return self._bytes

    def add(self, payload: bytes, *, kind: str = "verdict") -> int | None:
        """Add a message to the open transaction; its sequence, or None when the budget does not allow it."""
        cost = len(payload) + ROW_OVERHEAD
        if self._bytes + cost > self._budget:
            return None
        with _explained():
            self._begin()
            row = self._database.execute("INSERT INTO message (payload, kind) VALUES (?, ?)", (payload, kind))
        self._rows += 1
        self._bytes += cost
        return row.lastrowid

    def remove(self, sequences: Sequence[int]) -> None:
        """Remove messages, in the open transaction; those already gone are passed over."""
        with _explained():
            self._begin()
            for sequence in sequences:
                found = self._database.execute(
                    "DELETE FROM message WHERE sequence = ? RETURNING length(payload)", (sequence,)
                ).fetchone()
                if found is not None:
                    self._rows -= 1
                    self._bytes -= found[0] + ROW_OVERHEAD

    def commit(self) -> None:
        """Make the open transaction durable."""
        if self._database.in_transaction:
            with _explained():
                self._database.execute("UPDATE spool SET rows = ?, bytes = ?", (self._rows, self._bytes))
                self._database.execute("COMMIT")

    def after(self, sequence: int, *, limit: int) -> list[Spooled]:
        """The oldest messages with a larger sequence number, at most `limit`."""
        rows = self._database.execute(
            "SELECT sequence, payload, kind FROM message WHERE sequence > ? ORDER BY sequence LIMIT ?",
            (sequence, limit),
        )
        return [Spooled(*row) for row in rows]

    def close(self) -> None:
        """Close the file; an open transaction is lost."""
        self._database.close()

    def _begin(self) -> None:
        if not self._database.in_transaction:
            self._database.execute("BEGIN IMMEDIATE")

    def _open(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute("PRAGMA journal_size_limit=4194304")
        self._database.executescript(_SCHEMA)
        if "kind" not in [column[1] for column in self._database.execute("PRAGMA table_info(message)")]:
            self._database.execute(_KIND_COLUMN)
        self._database.execute("INSERT OR IGNORE INTO spool VALUES (1, ?, 0, 0)", (secrets.token_hex(16),))
        row = self._database.execute("SELECT epoch, rows, bytes FROM spool").fetchone()
        self.epoch: str = row[0]
        self._rows: int = row[1]
        self._bytes: int = row[2]
        self.after(0, limit=1)
        fsync_directory(path.parent)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Nothing that was not committed has been acknowledged, so ending the service loses nothing."""
    try:
        yield
    except sqlite3.Error as error:
        raise EdgesealError(f"the spool cannot be written: {error}") from error


def _put_aside(path: Path) -> str:
    number = 1
    while (aside := path.with_name(f"{path.name}.rejected-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.rename(aside)
    fsync_directory(path.parent)
    return aside.name
