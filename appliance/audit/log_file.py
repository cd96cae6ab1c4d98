"""The one file of the audit log: opened, verified at its end, appended to, made durable."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from appliance.core.durable import fsync_directory
from appliance.core.errors import EdgesealError
from appliance.formats.audit_log import FIRST_PREVIOUS, LogEntry, encode_entry, line_digest, verify_lines

TAIL_BYTES = 256 << 10  # verified at every start; the whole log is verified by who reads it


@dataclass(frozen=True)
class Opened:
    """What was found at start. torn_bytes: cut off at the end. last: the newest entry, None in a new log."""

    torn_bytes: int
    last: LogEntry | None
    replaced: tuple[str, str] | None


class LogFile:
    """Appends entries. After an OSError of commit() only a new start can tell what is durable."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the log at `path`. A log that does not verify is put aside, never changed."""
        self._path = path
        replaced = None
        try:
            torn, last, digest = self._open()
        except EdgesealError as error:
            replaced = (self._put_aside(), str(error))
            torn, last, digest = self._open()
        self.opened = Opened(torn_bytes=torn, last=last, replaced=replaced)
        self.sequence = 0 if last is None else last.sequence
        self.previous = digest

    @property
    def size(self) -> int:
        """Bytes, what commit() has not written yet included."""
        return self._size

    def append(self, entry: LogEntry) -> None:
        """Add an entry to the batch; `entry` continues sequence and previous."""
        line = encode_entry(entry)
        self._batch.append(line)
        self._size += len(line)
        self.sequence = entry.sequence
        self.previous = line_digest(line)

    def commit(self) -> None:
        """Make all appended entries durable. Raises OSError."""
        data = b"".join(self._batch)
        while data:
            data = data[os.write(self._descriptor, data) :]
        if self._batch:
            os.fdatasync(self._descriptor)
        self._batch.clear()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _open(self) -> tuple[int, LogEntry | None, str]:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        fsync_directory(self._path.parent)
        self._batch: list[bytes] = []
        try:
            torn = self._cut_torn_line()
            lines = self._tail_lines()
            entries = verify_lines(lines, after=None if self._tail_start > 0 else (0, FIRST_PREVIOUS))
        except BaseException:
            os.close(self._descriptor)
            raise
        if not entries:
            return torn, None, FIRST_PREVIOUS
        return torn, entries[-1], line_digest(lines[-1])

    def _cut_torn_line(self) -> int:
        """A line without its newline was never acknowledged: cut it off. Returns its length."""
        size = os.fstat(self._descriptor).st_size
        tail = os.pread(self._descriptor, TAIL_BYTES, max(0, size - TAIL_BYTES))
        torn = len(tail) - (tail.rfind(b"\n") + 1)
        if torn:
            os.ftruncate(self._descriptor, size - torn)
            os.fsync(self._descriptor)
        self._size = size - torn
        return torn

    def _tail_lines(self) -> list[bytes]:
        start = max(0, self._size - TAIL_BYTES)
        tail = os.pread(self._descriptor, TAIL_BYTES, start)
        if start > 0:
            start += tail.find(b"\n") + 1
            tail = tail[tail.find(b"\n") + 1 :]
        self._tail_start = start
        return tail.splitlines(keepends=True)

    def _put_aside(self) -> str:
        number = 1
        while (aside := self._path.with_name(f"{self._path.name}.rejected-{number}")).exists():
            number += 1
        self._path.rename(aside)
        fsync_directory(self._path.parent)
        return aside.name
