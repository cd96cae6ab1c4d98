"""Messages of the spool of version 1 (spool.sqlite), which a version before this one wrote and may have to use again.

They move in small steps and only as fast as they can be sent, so that an older slot, started again, finds nearly all
that was not sent. They come as stream data of the new spool, accepted when they moved:
version 1 did not keep when. ADR 0025.
"""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.formats.uplink_envelope import MAX_BODY_BYTES
from appliance.uplink.spoolfile import FAULTS

AT_ONCE: Final = 256
_KINDS: Final = ("verdict", "update")
_OVERHEAD: Final = 64  # what version 1 counts for a row


@dataclass(frozen=True)
class Old:
    """One message. sequence: in its spool."""

    sequence: int
    kind: str
    body: bytes

    @property
    def is_sound(self) -> bool:
        """It can be the body of an envelope."""
        shaped = self.body.startswith(b"{") and self.body.endswith(b"}\n") and len(self.body) <= MAX_BODY_BYTES
        return shaped and self.kind in _KINDS


class OldSpool:
    """The file, which stays where it is, in its form. A fault of it ends the taking over: `fault` says which.

    is_tidy: nothing is in it that was taken over.
    """

    def __init__(self, path: Path) -> None:
        self.fault: str | None = None
        self.is_tidy = False
        self.epoch = ""
        self._database: sqlite3.Connection | None = None
        if path.is_file():
            try:
                self._open(path)
            except FAULTS as error:
                self._end(error)

    @property
    def done(self) -> bool:
        """Nothing is left to take over."""
        return self._database is None

    def after(self, sequence: int) -> list[Old]:
        """The next AT_ONCE messages."""
        rows = self._ask(
            "SELECT sequence, kind, payload FROM message WHERE sequence > ? ORDER BY sequence LIMIT ?", sequence
        )
        if not rows:
            self.close()
        return [Old(*row) for row in rows]

    def forget(self, sequence: int) -> None:
        """Remove all up to `sequence`: they are durable elsewhere."""
        if self._database is None:
            return
        self.is_tidy = True
        try:
            self._database.execute("BEGIN IMMEDIATE")
            counted = "SELECT count(*), coalesce(sum(length(payload)), 0) FROM message WHERE sequence <= ?"
            rows, size = self._database.execute(counted, (sequence,)).fetchone()
            self._database.execute("DELETE FROM message WHERE sequence <= ?", (sequence,))
            self._database.execute(
                "UPDATE spool SET rows = rows - ?, bytes = bytes - ?", (rows, size + rows * _OVERHEAD)
            )
            self._database.execute("COMMIT")
        except FAULTS as error:
            self._end(error)

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _open(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, timeout=0.1)
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute("PRAGMA cache_size=-256")
        columns = [column[1] for column in self._database.execute("PRAGMA table_info(message)")]
        if "kind" not in columns:  # a version that knew nothing but verdicts
            self._database.execute("ALTER TABLE message ADD COLUMN kind TEXT NOT NULL DEFAULT 'verdict'")
        row = self._database.execute("SELECT epoch FROM spool").fetchone()
        self.epoch = "" if row is None else str(row[0])

    def _ask(self, sql: str, sequence: int) -> list[tuple[int, str, bytes]]:
        if self._database is None:
            return []
        try:
            return self._database.execute(sql, (sequence, AT_ONCE)).fetchall()
        except FAULTS as error:
            self._end(error)
            return []

    def _end(self, error: Exception) -> None:
        self.fault = str(error)
        with contextlib.suppress(sqlite3.Error):
            self.close()
