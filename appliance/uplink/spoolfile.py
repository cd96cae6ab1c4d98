"""The spool's file: how it is opened, what is in it, and what becomes of one that is damaged. ADR 0025.

Messages of all streams stand in one table whose row number is the stream's number, then the sequence: each stream
grows at a right edge of its own, and a range of a stream is a range of rows.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from pathlib import Path
from typing import Literal

from appliance.core.durable import fsync_directory, write_durable
from appliance.core.errors import EdgesealError
from appliance.uplink.spooled import Stream

STREAM_NUMBERS: dict[Stream, int] = {"alarm": 1, "data": 2, "audit": 3}
SEQUENCE_BITS = 56
MAX_SEQUENCE = 2**53 - 1
KEPT_ASIDE = 1  # damaged files that are kept for whoever wants to look at them; each may be as large as the budgets
FORMAT = 2  # version 1 was spool.sqlite

# journal_size_limit keeps the log's file as large as it has become: with a full disk there is still room to remove.
# secure_delete: Debian's default writes zeros over all that is removed; the partition is encrypted.
_PRAGMAS = (
    "locking_mode=EXCLUSIVE",
    "journal_mode=WAL",
    "synchronous=FULL",
    "secure_delete=OFF",
    "wal_autocheckpoint=2000",
    "journal_size_limit=16777216",
    "cache_size=-1024",
    "cell_size_check=ON",
    "trusted_schema=OFF",
)
_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE message (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, boot INTEGER NOT NULL, monotonic_us INTEGER NOT NULL,
  wall_us INTEGER NOT NULL, quality TEXT NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE stream (number INTEGER PRIMARY KEY, next INTEGER NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL)
  STRICT;
CREATE TABLE boot (number INTEGER PRIMARY KEY, boot_id TEXT NOT NULL, last_us INTEGER NOT NULL,
  origin_us INTEGER NOT NULL) STRICT;
CREATE TABLE gap (number INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE spool (one INTEGER PRIMARY KEY CHECK (one = 1), epoch TEXT NOT NULL, taken_epoch TEXT NOT NULL,
  taken INTEGER NOT NULL) STRICT;
INSERT INTO stream VALUES (1, 1, 0, 0), (2, 1, 0, 0), (3, 1, 0, 0);
"""
_PASSING = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOLFS,
    }
)
_BAD_SECTORS = frozenset({sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS})


class SpoolDamagedError(EdgesealError):
    """The file is not what was written into it."""


class SpoolUnwritableError(EdgesealError):
    """Nothing was written; it may work again later. reason: `full` when the disk is."""

    def __init__(self, message: str, *, reason: Literal["full", "unwritable"]) -> None:
        super().__init__(message)
        self.reason: Literal["full", "unwritable"] = reason


FAULTS = (sqlite3.Error, UnicodeDecodeError)
"""What SQLite's module raises; the second when the name of something damaged stands in its error message."""


def explained(error: Exception) -> SpoolDamagedError | SpoolUnwritableError:
    """What an error of SQLite means for the spool: everything that the disk's state cannot explain is damage."""
    extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    code = extended & 0xFF
    if code not in _PASSING or extended in _BAD_SECTORS:
        return SpoolDamagedError(str(error))
    reason: Literal["full", "unwritable"] = "full" if code == sqlite3.SQLITE_FULL else "unwritable"
    return SpoolUnwritableError(f"the spool cannot be written: {error}", reason=reason)


def row_of(stream: Stream, sequence: int) -> int:
    """The row number of a message."""
    return STREAM_NUMBERS[stream] << SEQUENCE_BITS | sequence


def sequence_of(row: int) -> int:
    """The sequence of a row."""
    return row & ((1 << SEQUENCE_BITS) - 1)


def open_file(path: Path) -> sqlite3.Connection:
    """The file at `path`, made when there is none. Nothing is read but what a start needs, however full it is.

    Raises SpoolDamagedError, and EdgesealError when it cannot be opened at all.
    """
    try:
        database = sqlite3.connect(path, isolation_level=None, cached_statements=64)
    except sqlite3.Error as error:
        raise EdgesealError(f"cannot open the spool {path}: {error}") from error
    try:
        for pragma in _PRAGMAS:
            database.execute(f"PRAGMA {pragma}")
        [version] = database.execute("PRAGMA user_version").fetchone()
        if version == 0 and database.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,):
            _make(database)
            fsync_directory(path.parent)
        elif version != FORMAT:
            raise SpoolDamagedError(f"a spool of version {version}, not {FORMAT}")
    except FAULTS as error:
        database.close()
        meaning = explained(error)
        if isinstance(meaning, SpoolDamagedError):
            raise meaning from error
        raise EdgesealError(f"cannot open the spool {path}: {error}") from error
    except SpoolDamagedError:
        database.close()
        raise
    return database


def write_note(path: Path, epoch: str) -> None:
    """Note the epoch beside the file, for the day when the file cannot be read."""
    if read_note(path) != epoch:
        with contextlib.suppress(OSError):  # a full disk: the next start will note it
            write_durable(path.with_name(f"{path.name}.epoch"), f"{epoch}\n".encode(), mode=0o600)


def read_note(path: Path) -> str | None:
    """The epoch that was noted, or None."""
    try:
        text = path.with_name(f"{path.name}.epoch").read_bytes()[:64].decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if len(text) == 32 and set(text) <= set("0123456789abcdef") else None


def _make(database: sqlite3.Connection) -> None:
    database.executescript(_SCHEMA)
    database.execute("INSERT INTO spool VALUES (1, ?, '', 0)", (secrets.token_hex(16),))
    database.execute(f"PRAGMA user_version={FORMAT}")
    database.execute("COMMIT")


def put_aside(path: Path) -> str:
    """Rename a damaged file, its log with it, and return its new name. The newest KEPT_ASIDE are kept."""
    numbers = sorted(_number(one) for one in path.parent.glob(f"{path.name}.rejected-*") if _number(one) > 0)
    number = numbers[-1] + 1 if numbers else 1
    for old in numbers[: len(numbers) - KEPT_ASIDE + 1] if len(numbers) >= KEPT_ASIDE else ():
        for suffix in ("", "-wal"):
            path.with_name(f"{path.name}.rejected-{old}{suffix}").unlink(missing_ok=True)
    aside = path.with_name(f"{path.name}.rejected-{number}")
    path.rename(aside)  # first: without its log it might pass for a sound, older spool
    with contextlib.suppress(FileNotFoundError):
        path.with_name(path.name + "-wal").rename(aside.with_name(aside.name + "-wal"))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    fsync_directory(path.parent)
    return aside.name


def _number(path: Path) -> int:
    """Of a file put aside; 0 for its log."""
    text = path.name.rpartition("-")[2]
    return int(text) if text.isdigit() else 0
