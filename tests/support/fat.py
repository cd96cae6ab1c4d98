"""A FAT32 volume as firmware reads it: the first allocation table, long names, whatever order the writes came in.

Format: Microsoft FAT32 File System Specification 1.03. Strict: a chain that leaves the volume, comes back to itself or
ends too early is a FatError, and so is a file that such a chain holds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy

SECTOR = 512
SLOT = 32
FREE, END = 0, 0x0FFFFFF8
_MASK = 0x0FFFFFFF
ATTRIBUTE_VOLUME, ATTRIBUTE_DIRECTORY, ATTRIBUTE_LONG = 0x08, 0x10, 0x0F
DELETED = 0xE5


class FatError(Exception):
    """The volume does not hold together here."""


@dataclass(frozen=True)
class Layout:
    """Byte offsets from the start of the volume. cluster: bytes. count: of data clusters, numbered from 2."""

    tables: tuple[int, ...]
    table_bytes: int
    information: int
    data: int
    cluster: int
    root: int
    count: int

    def at(self, cluster: int) -> int:
        """Where a cluster stands."""
        if not 2 <= cluster < self.count + 2:
            raise FatError(f"cluster {cluster} is outside of the volume")
        return self.data + (cluster - 2) * self.cluster


@dataclass(frozen=True)
class Node:
    """A directory entry. slots: byte offsets in the volume of its 32-byte slots, the short one last."""

    name: str
    attributes: int
    cluster: int
    size: int
    slots: tuple[int, ...]

    @property
    def is_directory(self) -> bool:
        return bool(self.attributes & ATTRIBUTE_DIRECTORY)


def read_layout(boot: bytes) -> Layout:
    """From the first sector."""
    sector, per_cluster, reserved, tables, root16, total16 = struct.unpack_from("<HBHBHH", boot, 11)
    (total32,) = struct.unpack_from("<I", boot, 32)
    table_sectors, _flags, _version, root, information = struct.unpack_from("<IHHIH", boot, 36)
    if boot[510:512] != b"\x55\xaa" or sector != SECTOR or root16 or total16 or not per_cluster or not tables:
        raise FatError("this is no FAT32 volume with sectors of 512 bytes")
    table_bytes = table_sectors * SECTOR
    data = reserved * SECTOR + tables * table_bytes
    return Layout(
        tables=tuple(reserved * SECTOR + number * table_bytes for number in range(tables)),
        table_bytes=table_bytes,
        information=information * SECTOR,
        data=data,
        cluster=per_cluster * SECTOR,
        root=root,
        count=(total32 * SECTOR - data) // (per_cluster * SECTOR),
    )


class Bytes(Protocol):
    """A disk, read by slices."""

    def __getitem__(self, place: slice) -> bytes | bytearray:
        """The bytes."""


class FatVolume:
    """Reads out of `disk`, which may change between calls; nothing is remembered but the layout."""

    def __init__(self, disk: Bytes, start: int) -> None:
        self.disk, self.start = disk, start
        self.layout = read_layout(self.bytes_at(0, SECTOR))

    def bytes_at(self, offset: int, length: int) -> bytes:
        """offset: in the volume."""
        return bytes(self.disk[self.start + offset : self.start + offset + length])

    def next_of(self, cluster: int) -> int:
        """What the first table says of a cluster."""
        self.layout.at(cluster)
        (value,) = struct.unpack("<I", self.bytes_at(self.layout.tables[0] + 4 * cluster, 4))
        return int(value) & _MASK

    def chain(self, first: int) -> list[int]:
        """The clusters from `first` to the end mark. Raises FatError."""
        found, seen, cluster = [], set(), first
        while cluster < END:
            if cluster in seen:
                raise FatError(f"the chain from cluster {first} comes back to {cluster}")
            found.append(cluster)
            seen.add(cluster)
            cluster = self.next_of(cluster)
        return found

    def read(self, node: Node) -> bytes:
        """A whole file. Raises FatError when its chain is shorter than its size."""
        return b"".join(bytes(self.disk[at : at + size]) for at, size in self.extents(node))

    def extents(self, node: Node) -> list[tuple[int, int]]:
        """Where a file lies: (offset on the disk, bytes), neighbours joined. Raises FatError as `read` does."""
        found: list[tuple[int, int]] = []
        left, cluster = node.size, node.cluster
        while left > 0:
            at = self.start + self.layout.at(cluster)
            run, following = self._run(cluster, -(-left // self.layout.cluster))
            found.append((at, min(left, run * self.layout.cluster)))
            left -= found[-1][1]
            cluster = following
        return found

    def _run(self, cluster: int, most: int) -> tuple[int, int]:
        """How many clusters from this one on follow each other, and what the table says of the last of them."""
        most = min(most, self.layout.count + 2 - cluster)
        raw = self.bytes_at(self.layout.tables[0] + 4 * cluster, 4 * most)
        said = numpy.frombuffer(raw, "<u4") & _MASK
        breaks = numpy.flatnonzero(said[:-1] != numpy.arange(cluster + 1, cluster + most, dtype="<u4"))
        run = int(breaks[0]) + 1 if len(breaks) else most
        return run, int(said[run - 1])

    def find(self, path: str) -> Node:
        """By path, without regard to case. Raises FatError when it is not there."""
        node = Node("", ATTRIBUTE_DIRECTORY, self.layout.root, 0, ())
        for part in path.split("/"):
            matches = [item for item in self.list(node) if item.name.lower() == part.lower()]
            if not matches:
                raise FatError(f"{path} is not there")
            node = matches[0]
        return node

    def list(self, directory: Node) -> list[Node]:
        """What a directory holds, dot entries and volume labels left out. Stops at the end mark."""
        return list(self._nodes(directory.cluster))

    def slots(self, first: int) -> Iterator[int]:
        """Offsets of all slots of the directory that begins at cluster `first`."""
        for cluster in self.chain(first):
            start = self.layout.at(cluster)
            yield from range(start, start + self.layout.cluster, SLOT)

    def _nodes(self, first: int) -> Iterator[Node]:
        long: list[tuple[int, bytes]] = []
        for offset in self.slots(first):
            raw = self.bytes_at(offset, SLOT)
            if raw[0] == 0:
                return
            if raw[0] == DELETED:
                long = []
            elif raw[11] == ATTRIBUTE_LONG:
                long = [*(long if not raw[0] & 0x40 else []), (offset, raw)]
            else:
                if not raw[11] & ATTRIBUTE_VOLUME and raw[0] != ord("."):
                    yield _node(raw, offset, long)
                long = []


def short_checksum(short: bytes) -> int:
    """Of an 8.3 name of 11 bytes; each slot of its long name carries it."""
    total = 0
    for byte in short:
        total = ((total & 1) << 7 | total >> 1) + byte & 0xFF
    return total


def long_slots(name: str, short: bytes) -> list[bytes]:
    """The slots that stand before the short one, in their order on the disk."""
    text = name.encode("utf-16-le")
    pieces = [text[at : at + 26] for at in range(0, len(text), 26)]
    found = []
    for number, piece in enumerate(pieces, start=1):
        padded = piece if len(piece) == 26 else (piece + b"\0\0").ljust(26, b"\xff")
        order = number | (0x40 if number == len(pieces) else 0)
        head = struct.pack("<B10sBBB", order, padded[:10], ATTRIBUTE_LONG, 0, short_checksum(short))
        found.insert(0, head + padded[10:22] + b"\0\0" + padded[22:])
    return found


def _node(raw: bytes, offset: int, long: list[tuple[int, bytes]]) -> Node:
    short, attributes = raw[:11], raw[11]
    (high,) = struct.unpack_from("<H", raw, 20)
    low, size = struct.unpack_from("<HI", raw, 26)
    name, slots = _long_name(short, long)
    return Node(name or _short_name(short), attributes, high << 16 | low, size, (*slots, offset))


def _long_name(short: bytes, long: list[tuple[int, bytes]]) -> tuple[str, tuple[int, ...]]:
    """Empty when the long slots do not belong to the short name: a reader then takes the short one."""
    orders = [raw[0] & 0x3F for _, raw in long]
    whole = bool(long) and bool(long[0][1][0] & 0x40) and orders == list(range(len(long), 0, -1))
    if not whole or any(raw[13] != short_checksum(short) for _, raw in long):
        return "", ()
    text = b"".join(raw[1:11] + raw[14:26] + raw[28:32] for _, raw in reversed(long)).decode("utf-16-le", "replace")
    return text.split("\0", 1)[0], tuple(offset for offset, _ in long)


def _short_name(short: bytes) -> str:
    stem, extension = (part.decode("latin-1").rstrip() for part in (short[:8], short[8:]))
    return f"{stem}.{extension}" if extension else stem
