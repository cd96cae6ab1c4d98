"""Read a GUID partition table (UEFI 2.10, chapter 5) and hold its two copies against each other."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from appliance.core.errors import VerificationError

SECTOR = 512
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_MAXIMUM_ENTRIES = 1024

Reader = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Partition:
    """One used entry. offset, size: bytes; flags: the 64 attribute bits."""

    label: str
    type: str
    uuid: str
    offset: int
    size: int
    flags: int


@dataclass(frozen=True)
class _Header:
    own: int
    other: int
    usable: tuple[int, int]
    disk: bytes
    entries_at: int
    entries: int
    entries_crc: int


def read_partitions(disk: Path) -> tuple[Partition, ...]:
    """The partitions in order of offset.

    Raises VerificationError when a checksum is wrong, when primary and backup table differ, or when an entry lies
    outside of the usable area.
    """
    with disk.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)  # a block device has no st_size

        def read(at: int, length: int) -> bytes:
            stream.seek(at)
            data = stream.read(length)
            if len(data) != length:
                raise VerificationError(f"{disk.name}: the partition table points behind its end")
            return data

        primary = _header(read, 1, "primary")
        backup = _header(read, size // SECTOR - 1, "backup")
        if (primary.usable, primary.disk, primary.entries) != (backup.usable, backup.disk, backup.entries):
            raise VerificationError("primary and backup partition header differ")
        table = _table(read, primary, "primary")
        if table != _table(read, backup, "backup"):
            raise VerificationError("primary and backup partition table differ")
    found = [_partition(table[at : at + _ENTRY.size], primary) for at in range(0, len(table), _ENTRY.size)]
    return tuple(sorted((item for item in found if item), key=lambda item: item.offset))


def _header(read: Reader, sector: int, which: str) -> _Header:
    raw = read(sector * SECTOR, SECTOR)
    magic, revision, length, crc, _zero, own, other, first, last, disk, at, count, entry_size, entries_crc = (
        _HEADER.unpack_from(raw)
    )
    if magic != b"EFI PART" or revision != 0x10000 or not _HEADER.size <= length <= SECTOR:
        raise VerificationError(f"there is no {which} partition table")
    if zlib.crc32(raw[:16] + b"\0\0\0\0" + raw[20:length]) != crc or own != sector:
        raise VerificationError(f"the {which} partition header is damaged")
    if entry_size != _ENTRY.size or count > _MAXIMUM_ENTRIES:
        raise VerificationError(f"the {which} partition header has entries of an unknown kind")
    return _Header(own, other, (first, last), disk, at, count, entries_crc)


def _table(read: Reader, header: _Header, which: str) -> bytes:
    table = read(header.entries_at * SECTOR, header.entries * _ENTRY.size)
    if zlib.crc32(table) != header.entries_crc:
        raise VerificationError(f"the {which} partition table is damaged")
    return table


def _partition(raw: bytes, header: _Header) -> Partition | None:
    kind, uuid, first, last, flags, name = _ENTRY.unpack(raw)
    if kind == bytes(16):
        return None
    label = name.decode("utf-16-le", "replace").split("\0", 1)[0]
    if not header.usable[0] <= first <= last <= header.usable[1]:
        raise VerificationError(f"partition {label} lies outside of the usable area")
    return Partition(
        label=label,
        type=str(UUID(bytes_le=kind)),
        uuid=str(UUID(bytes_le=uuid)),
        offset=first * SECTOR,
        size=(last - first + 1) * SECTOR,
        flags=flags,
    )
