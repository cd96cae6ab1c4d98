"""The journal: what was acknowledged and what was signed, before it stands in tiles. Spec: docs/specs/audit-log.md.

A file of fixed size, zeroes at first, written from its start in batches. A batch is written only after the one before
it was made durable, so only the last one can be torn; anything else that does not read back is damage.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.audit.damage import LogDamagedError
from appliance.audit.disk import Disk
from appliance.core.errors import DecodeError
from appliance.formats.audit_journal import JournalBegin, decode_begin, encode_state

NAME = "journal"
CAPACITY = 2 << 20
MAX_PAYLOAD = 64 << 20

_MAGIC = b"\xffESJ"
"""No entry holds it: 0xff is in no UTF-8."""
_HEADER = struct.Struct(">4sBxxxQQI")
_DIGEST_BYTES = 32
_LENGTH = struct.Struct(">H")
_BEGIN, _ENTRIES, _NOTE = 1, 2, 3


@dataclass
class Replayed:
    """What a journal says. notes: (size, signed note), ascending. torn: bytes of a last batch that is not whole."""

    begin: JournalBegin
    entries: list[bytes] = field(default_factory=list)
    notes: list[tuple[int, bytes]] = field(default_factory=list)
    torn: int = 0

    @property
    def size(self) -> int:
        """Of the log."""
        return self.begin.base + len(self.entries)


class Journal:
    """Appends batches to the file at `path`, which replay() or fresh() has seen or made."""

    def __init__(self, disk: Disk, path: Path, *, offset: int, number: int, capacity: int) -> None:
        self._disk = disk
        self._path = path
        self._offset = offset
        self._number = number
        self.capacity = capacity

    def has_room(self, entries: Sequence[bytes], note: int) -> bool:
        """For a batch of entries and one with a note of `note` bytes."""
        size = sum(map(len, entries)) + 2 * len(entries) + note + 2 * (_HEADER.size + _DIGEST_BYTES)
        return self._offset + size <= self.capacity

    @property
    def is_half_full(self) -> bool:
        """Time for a new one."""
        return self._offset > self.capacity // 2

    def add_entries(self, first: int, entries: Sequence[bytes]) -> None:
        """Durable when it returns."""
        self._add(_entries_batch(self._number, first, entries))

    def add_note(self, size: int, note: bytes) -> None:
        """Durable when it returns."""
        self._add(_batch(_NOTE, self._number, size, note))

    def _add(self, batch: bytes) -> None:
        self._disk.write_at(self._path, self._offset, batch)
        self._disk.sync_data(self._path)
        self._offset += len(batch)
        self._number += 1


def fresh(
    disk: Disk, state: Path, begin: JournalBegin, entries: Sequence[bytes], note: tuple[int, bytes] | None, *, room: int
) -> Journal:
    """Replace the journal in `state` by a new one, durably. room: bytes that are to come for certain."""
    signed = note[0] - begin.base if note is not None else 0
    batches = [_batch(_BEGIN, 0, begin.base, encode_state(begin))]
    if signed:
        batches.append(_entries_batch(len(batches), begin.base, entries[:signed]))
    if note is not None:
        batches.append(_batch(_NOTE, len(batches), *note))
    if len(entries) > signed:
        batches.append(_entries_batch(len(batches), begin.base + signed, entries[signed:]))
    data = b"".join(batches)
    capacity = max(CAPACITY, 2 * len(data) + 2 * room)
    disk.write_synced(state / "new-journal", data + bytes(capacity - len(data)))
    disk.rename(state / "new-journal", state / NAME)
    disk.sync_directory(state)
    return Journal(disk, state / NAME, offset=len(data), number=len(batches), capacity=capacity)


def replay(disk: Disk, state: Path) -> tuple[Replayed, Journal] | None:
    """None when there is no journal. Raises LogDamagedError."""
    data = disk.read(state / NAME)
    if data is None:
        return None
    offset, number, replayed = 0, 0, None
    for kind, first, payload in _batches(data):
        if number == 0:
            replayed = Replayed(_begin(kind, payload))
        elif replayed is not None:
            _take(replayed, kind, first, payload)
        offset += _HEADER.size + len(payload) + _DIGEST_BYTES
        number += 1
    if replayed is None:
        raise LogDamagedError(NAME, "has no beginning")
    later = _later_batch(data, offset, number)
    if later is not None:
        index = replayed.size
        raise LogDamagedError(NAME, f"batch {number} at byte {offset} is damaged, batch {later} is whole", index=index)
    replayed.torn = len(data[offset:].rstrip(b"\0"))
    return replayed, Journal(disk, state / NAME, offset=offset, number=number, capacity=len(data))


def _begin(kind: int, payload: bytes) -> JournalBegin:
    if kind != _BEGIN:
        raise LogDamagedError(NAME, "does not begin as a journal")
    try:
        return decode_begin(payload)
    except DecodeError as error:
        raise LogDamagedError(NAME, error.message) from error


def _take(replayed: Replayed, kind: int, first: int, payload: bytes) -> None:
    if kind == _ENTRIES and first == replayed.size:
        replayed.entries += _split(payload)
    elif kind == _NOTE and first == replayed.size:
        replayed.notes.append((first, payload))
    else:
        raise LogDamagedError(NAME, f"a batch for entry {first} stands at entry {replayed.size}", index=replayed.size)


def _batch(kind: int, number: int, first: int, payload: bytes) -> bytes:
    data = _HEADER.pack(_MAGIC, kind, number, first, len(payload)) + payload
    return data + hashlib.sha256(data).digest()


def _entries_batch(number: int, first: int, entries: Sequence[bytes]) -> bytes:
    payload = b"".join([_LENGTH.pack(len(entry)) + entry for entry in entries])
    return _batch(_ENTRIES, number, first, payload)


def _split(payload: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(payload):
        start = at + _LENGTH.size
        at = start + int.from_bytes(payload[at:start], "big")
        if at > len(payload) or start > len(payload):
            raise LogDamagedError(NAME, "a batch ends within an entry")
        yield payload[start:at]


def _batches(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(kind, first, payload) of each batch that is whole, up to one that is not."""
    offset, number = 0, 0
    while (found := _batch_at(data, offset)) is not None and found[0] == number:
        yield found[1:]
        offset += _HEADER.size + len(found[3]) + _DIGEST_BYTES
        number += 1


def _batch_at(data: bytes, offset: int) -> tuple[int, int, int, bytes] | None:
    """(number, kind, first, payload), or None."""
    if len(data) < offset + _HEADER.size + _DIGEST_BYTES:
        return None
    magic, kind, number, first, length = _HEADER.unpack_from(data, offset)
    end = offset + _HEADER.size + length
    if magic != _MAGIC or length > MAX_PAYLOAD or end + _DIGEST_BYTES > len(data):
        return None
    if hashlib.sha256(data[offset:end]).digest() != data[end : end + _DIGEST_BYTES]:
        return None
    return number, kind, first, data[offset + _HEADER.size : end]


def _later_batch(data: bytes, offset: int, number: int) -> int | None:
    """Number of a whole batch beyond the one that should be at `offset`."""
    at = data.find(_MAGIC, offset + 1)
    while at >= 0:
        found = _batch_at(data, at)
        if found is not None and found[0] > number:
            return found[0]
        at = data.find(_MAGIC, at + 1)
    return None
