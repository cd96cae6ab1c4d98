"""What reached a disk and in which order, and every disk that a power cut could have left of it.

A log is a list of writes and barriers. It comes from a driver of ours, or from QEMU's blklogwrites, whose format is
that of Linux's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst).
"""

from __future__ import annotations

import mmap
import random
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512

_MAGIC, _VERSION = 0x6A736677736872, 1
_SUPER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")
_FLUSH, _FUA, _DISCARD, _MARK = 1, 2, 4, 8


@dataclass(frozen=True)
class Write:
    """Whole sectors. offset: bytes from the start of the disk."""

    offset: int
    data: bytes | memoryview

    def sectors(self) -> range:
        """Numbers of the sectors that it covers."""
        return range(self.offset // SECTOR, (self.offset + len(self.data)) // SECTOR)


@dataclass(frozen=True)
class Barrier:
    """What was written so far is durable: all of it (None), or of these sectors."""

    sectors: frozenset[int] | None = None


@dataclass(frozen=True)
class Mark:
    """Something that a person or a test said at this moment."""

    text: str


Event = Write | Barrier | Mark


@dataclass(frozen=True)
class Cut:
    """One power cut. kind: how the disk differs from a clean stop. event: how many events of the log had happened."""

    kind: str
    event: int


class Replay:
    """All the disks that a power cut during `log` could leave.

    base: the disk at the start; it is changed in place. While a Cut is in the caller's hands, `disk` is what it left.
    samples: subsets of each window between two barriers that are tried, beyond each write dropped and each alone.
    """

    def __init__(self, base: bytearray, log: Sequence[Event], *, seed: int, samples: int) -> None:
        self.disk = base
        self.counts: Counter[str] = Counter()
        self._log = log
        self._dice = random.Random(seed)
        self._samples = samples
        self._pending: list[Write] = []

    def cuts(self) -> Iterator[Cut]:
        """Every prefix, every torn write, and reordered subsets of every window. The disk is at its end afterwards."""
        yield from self._cut("boundary", 0, [])
        for number, event in enumerate(self._log, start=1):
            if isinstance(event, Write):
                yield from self._torn(number - 1, event)
                self._pending.append(event)
                yield from self._cut("boundary", number, self._pending)
            elif isinstance(event, Barrier):
                yield from self._reordered(number - 1)
                self._settle(event.sectors)
        yield from self._reordered(len(self._log))
        self._settle(None)

    def _torn(self, number: int, write: Write) -> Iterator[Cut]:
        size = len(write.data) // SECTOR
        for kept in range(1, size):
            yield from self._cut("torn", number, [*self._pending, part_of(write, 0, kept)])
            yield from self._cut("torn", number, [*self._pending, part_of(write, kept, size)])

    def _reordered(self, number: int) -> Iterator[Cut]:
        pending = self._pending
        if len(pending) < 2:
            return
        for index, write in enumerate(pending):
            yield from self._cut("dropped", number, [*pending[:index], *pending[index + 1 :]])
            yield from self._cut("alone", number, [write])
        for _ in range(self._samples):
            until = self._dice.randint(1, len(pending))
            share = self._dice.random()
            yield from self._cut("subset", number, [item for item in pending[:until] if self._dice.random() < share])

    def _cut(self, kind: str, number: int, writes: Sequence[Write]) -> Iterator[Cut]:
        self.counts[kind] += 1
        undo = []
        for write in writes:
            end = write.offset + len(write.data)
            undo.append((write.offset, bytes(self.disk[write.offset : end])))
            self.disk[write.offset : end] = write.data
        yield Cut(kind, number)
        for offset, data in reversed(undo):
            self.disk[offset : offset + len(data)] = data

    def _settle(self, sectors: frozenset[int] | None) -> None:
        rest = []
        for write in self._pending:
            if sectors is None or all(sector in sectors for sector in write.sectors()):
                self._settle_write(write)
            else:
                rest.append(write)
        self._pending = rest

    def _settle_write(self, write: Write) -> None:
        self.disk[write.offset : write.offset + len(write.data)] = write.data


def part_of(write: Write, first: int, last: int) -> Write:
    """Of its sectors, from `first` to before `last`."""
    return Write(write.offset + first * SECTOR, write.data[first * SECTOR : last * SECTOR])


def read_log(path: Path) -> list[Event]:
    """A dm-log-writes log; what was written stays in the file. Raises ValueError when it is none, or ends early.

    QEMU counts the entries in its head only now and then: a log ends where the file does.
    """
    with path.open("rb") as stream:
        log = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    magic, version, entries, sector = _SUPER.unpack_from(log)
    if (magic, version) != (_MAGIC, _VERSION) or sector % SECTOR or not sector:
        raise ValueError(f"{path.name}: no log of block writes")
    at, found = sector, []

    def read(length: int) -> memoryview:
        nonlocal at
        at += length
        return log[at - length : at]

    number = 0
    while number < entries or at < len(log):
        found += _read_entry(read, sector, path.name)
        number += 1
    return found


def _read_entry(read: Callable[[int], memoryview], sector: int, name: str) -> Iterator[Event]:
    raw = read(sector)
    if len(raw) != sector:
        raise ValueError(f"{name}: the log ends inside an entry")
    at, count, flags, length = _ENTRY.unpack_from(raw)
    if flags & _FLUSH:
        yield Barrier()
    if flags & _MARK:
        yield Mark(bytes(raw[_ENTRY.size : _ENTRY.size + length]).rstrip(b"\0").decode())
    elif flags & _DISCARD:
        yield Write(at * sector, bytes(count * sector))
    elif count:
        data = read(count * sector)
        if len(data) != count * sector:
            raise ValueError(f"{name}: the log ends inside a write")
        write = Write(at * sector, data)
        yield write
        if flags & _FUA:
            yield Barrier(frozenset(write.sectors()))
