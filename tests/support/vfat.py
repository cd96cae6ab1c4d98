"""What Linux's vfat does to a disk, write by write, as an EntryFiles over a recorded disk.

Modelled on fs/fat of Linux 6.12, and only what an update does. The page cache is the point: a change marks sectors
dirty, and a dirty sector may reach the disk at any time and in any order, in any of its versions. fsync of a file
writes its content, its own directory slot and the whole allocation table; fsync of a directory its slots and the table;
both end with a flush. A rename adds a name without clusters, and the inode fills it in when it is written.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from tests.support.blocklog import Barrier, Event, Write
from tests.support.fat import ATTRIBUTE_DIRECTORY, DELETED, END, FREE, SLOT, FatError, FatVolume, Node, long_slots

SECTOR = 512
PAGE = 4096
_LAST = 0x0FFFFFFF


@dataclass
class _Inode:
    """slot: where its short name stands. names: all its slots, that one included."""

    slot: int
    names: tuple[int, ...]
    cluster: int
    size: int


class VfatDirectory:
    """One directory of a mounted volume. disk: as the page cache sees it. log: what may have reached the medium.

    reuse: take the lowest free cluster, which was used last, instead of the next one behind the last.
    eager: an inode's size and first cluster go to its slot at once; otherwise only when the file is synced. The kernel
    does either, as its write-back happens to run.
    """

    def __init__(self, disk: bytearray, start: int, path: str, *, reuse: bool, eager: bool) -> None:
        self.volume = FatVolume(disk, start)
        self.log: list[Event] = []
        self.faults: list[str] = []
        self._disk, self._start, self._layout = disk, start, self.volume.layout
        self._home = self.volume.find(path).cluster
        self._dirty: dict[int, str] = {}  # sector of the disk -> who must be synced for it
        self._issued: set[int] = set()
        self._inodes: dict[int, tuple[int, int]] = {}  # by slot: cluster and size that it does not have yet
        self._reuse, self._eager = reuse, eager
        self._last = 1

    # EntryFiles

    def names(self) -> list[str]:
        return [node.name for node in self._nodes() if not node.is_directory]

    def size(self, name: str) -> int:
        return self._inode(name).size

    def read(self, name: str, offset: int, length: int) -> bytes:
        inode = self._inode(name)
        node = Node(name, 0, inode.cluster, min(inode.size, offset + length), ())
        try:
            return self.volume.read(node)[offset:]
        except FatError as error:
            raise self._fault(str(error)) from error

    def create(self, name: str) -> None:
        if any(node.name.lower() == name.lower() for node in self._nodes()):
            raise FileExistsError(errno.EEXIST, "File exists")
        self._add(name, cluster=0, size=0)

    def write(self, name: str, offset: int, data: bytes) -> None:
        inode = self._inode(name)
        for begin, end in _pages(offset, len(data)):
            self._write_page(name, inode, begin, data[begin - offset : end - offset])

    def sync(self, name: str) -> None:
        self.sync_file(name)
        self.sync_names()

    def remove(self, name: str) -> None:
        inode = self._inode(name)
        self._inodes.pop(inode.slot, None)
        self._delete_slots(inode.names)
        self._free(inode.cluster)

    def rename(self, old: str, new: str) -> None:
        """As vfat_rename: a new name without clusters, the inode set down for its new place, the old name away."""
        inode = self._inode(old)
        if any(node.name.lower() == new.lower() for node in self._nodes()):
            raise FileExistsError(errno.EEXIST, "File exists")  # what RENAME_NOREPLACE and firmware do
        self._inodes.pop(inode.slot, None)
        self._add(new, cluster=0, size=0)
        self._write_inode(self._inode(new).slot, inode.cluster, inode.size)
        self._delete_slots(inode.names)

    def sync_names(self) -> None:
        self._flush({"directory", "table"}, set())

    def free(self) -> int:
        first = self._start + self._layout.tables[0]
        values = struct.unpack_from(f"<{self._layout.count + 2}I", self._disk, first)
        return values[2:].count(FREE) * self._layout.cluster

    # what only others do

    def sync_file(self, name: str) -> None:
        """fsync of a file, without the directory."""
        self._store_inode(self._inode(name).slot)
        self._flush({f"file {name}", "table"}, {self._sector(self._inode(name).slot)})

    def syncfs(self) -> None:
        """Everything is sent to the disk, whose cache is not flushed."""
        for slot in list(self._inodes):
            self._store_inode(slot)
        self._issued |= set(self._dirty)
        self._dirty.clear()

    def unmount(self) -> None:
        """Everything, and the count of free clusters, which the kernel writes only now."""
        self.syncfs()
        free = self.free() // self._layout.cluster
        self._change(self._layout.information + 488, struct.pack("<I", free))
        self._dirty_span(self._layout.information, SECTOR, "information")
        self.syncfs()
        self.log.append(Barrier())
        self._issued.clear()

    # the inside

    def _nodes(self) -> list[Node]:
        return self.volume.list(Node("", ATTRIBUTE_DIRECTORY, self._home, 0, ()))

    def _inode(self, name: str) -> _Inode:
        for node in self._nodes():
            if node.name == name:
                cluster, size = self._inodes.get(node.slots[-1], (node.cluster, node.size))
                return _Inode(node.slots[-1], node.slots, cluster, size)
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    def _fault(self, what: str) -> OSError:
        self.faults.append(what)
        return OSError(errno.EIO, "Input/output error")

    def _write_page(self, name: str, inode: _Inode, offset: int, data: bytes) -> None:
        cluster = self._layout.cluster
        clusters = self._clusters(inode, -(-(offset + len(data)) // cluster))
        for index in range(offset // cluster, -(-(offset + len(data)) // cluster)):
            begin = max(offset, index * cluster)
            end = min(offset + len(data), (index + 1) * cluster)
            self._change(self._layout.at(clusters[index]) + begin % cluster, data[begin - offset : end - offset])
        runs = _runs([clusters[index] for index in range(offset // cluster, -(-(offset + len(data)) // cluster))])
        for first, count in runs:
            place = self._layout.at(first)
            length = count * cluster
            if len(data) <= SECTOR:  # only the dirty block of a page is written
                place, length = place + offset % cluster // SECTOR * SECTOR, SECTOR
            self._dirty_span(place, length, f"file {name}")
        if offset + len(data) > inode.size:
            inode.size = offset + len(data)
            self._write_inode(inode.slot, inode.cluster, inode.size)

    def _clusters(self, inode: _Inode, need: int) -> list[int]:
        """The first `need` clusters of a file, allocated where they are missing."""
        found: list[int] = []
        value = inode.cluster
        touched: set[int] = set()
        while len(found) < need:
            if value == 0 or value >= END:
                value = self._take()
                touched |= self._link(found[-1] if found else None, value)
                inode.cluster = inode.cluster or value
            found.append(value)
            if len(found) < need:
                value = self._checked_next(value)
        self._dirty_table(touched)
        return found

    def _checked_next(self, cluster: int) -> int:
        try:
            value = self.volume.next_of(cluster)
        except FatError as error:
            raise self._fault(str(error)) from error
        if value == FREE:
            raise self._fault("invalid cluster chain")
        return value

    def _take(self) -> int:
        """The next free cluster behind the last one, or, to reuse, the first one there is."""
        count = self._layout.count
        for step in range(count):
            cluster = 2 + (self._last - 1 + step) % count
            if self.volume.next_of(cluster) == FREE:
                self._last = cluster
                return cluster
        raise OSError(errno.ENOSPC, "No space left on device")

    def _link(self, previous: int | None, cluster: int) -> set[int]:
        """Mark as taken and hang it behind `previous`. Returns sectors of the first table that changed."""
        touched = self._set(cluster, _LAST)
        return touched if previous is None else touched | self._set(previous, cluster)

    def _set(self, cluster: int, value: int) -> set[int]:
        for table in self._layout.tables:
            struct.pack_into("<I", self._disk, self._start + table + 4 * cluster, value)
        return {(4 * cluster) // SECTOR}

    def _free(self, cluster: int) -> None:
        """fat_free_clusters: stops at the first one that is free already, which is a fault of the file system."""
        touched: set[int] = set()
        while 2 <= cluster < self._layout.count + 2:
            following = self.volume.next_of(cluster)
            if following == FREE:
                self.faults.append("deleting FAT entry beyond EOF")
                break
            touched |= self._set(cluster, FREE)
            self._last = 1 if self._reuse else self._last
            cluster = following
        self._dirty_table(touched)

    def _dirty_table(self, sectors: Iterable[int]) -> None:
        for sector in sorted(sectors):
            for table in self._layout.tables:
                self._dirty_span(table + sector * SECTOR, SECTOR, "table")

    def _add(self, name: str, *, cluster: int, size: int) -> None:
        short = self._short_for(name)
        entry = short + bytes([0x20]) + bytes(8) + struct.pack("<H4xHI", cluster >> 16, cluster & 0xFFFF, size)
        raws = [*long_slots(name, short), entry]
        places = self._free_slots(len(raws))
        for place, raw in zip(places, raws, strict=True):
            self._change(place, raw)
        for sector in dict.fromkeys(place // SECTOR * SECTOR for place in places):
            self._dirty_span(sector, SECTOR, "directory")

    def _short_for(self, name: str) -> bytes:
        taken = {bytes(self.volume.bytes_at(node.slots[-1], 11)) for node in self._nodes()}
        stem = "".join(letter for letter in name.upper() if letter.isalnum())[:6]
        names = (f"{stem}~{number}".encode().ljust(8) + b"EFI" for number in range(1, 10))
        return next(short for short in names if short not in taken)

    def _free_slots(self, count: int) -> list[int]:
        run: list[int] = []
        for place in self.volume.slots(self._home):
            run = [*run, place] if self._disk[self._start + place] in (0, DELETED) else []
            if len(run) == count:
                return run
        return [*run, *self._grow()][:count]

    def _grow(self) -> list[int]:
        """A further cluster for the directory: cleared first, then hung on."""
        last, cluster = self.volume.chain(self._home)[-1], self._take()
        touched = self._set(cluster, _LAST)
        place = self._layout.at(cluster)
        self._change(place, bytes(self._layout.cluster))
        self._dirty_span(place, self._layout.cluster, "directory")
        self._dirty_table(touched | self._set(last, cluster))
        return list(range(place, place + self._layout.cluster, SLOT))

    def _delete_slots(self, slots: tuple[int, ...]) -> None:
        """The sector with the short name first, as fat_remove_entries does."""
        for sector in sorted({slot // SECTOR * SECTOR for slot in slots}, reverse=True):
            for slot in slots:
                if slot // SECTOR * SECTOR == sector:
                    self._change(slot, bytes([DELETED]))
            self._dirty_span(sector, SECTOR, "directory")

    def _write_inode(self, slot: int, cluster: int, size: int) -> None:
        self._inodes[slot] = (cluster, size)
        if self._eager:
            self._store_inode(slot)

    def _store_inode(self, slot: int) -> None:
        """fat_write_inode."""
        if slot not in self._inodes:
            return
        cluster, size = self._inodes.pop(slot)
        self._change(slot + 20, struct.pack("<H", cluster >> 16))
        self._change(slot + 26, struct.pack("<HI", cluster & 0xFFFF, size))
        self._dirty_span(slot // SECTOR * SECTOR, SECTOR, "inode")

    def _change(self, offset: int, data: bytes) -> None:
        self._disk[self._start + offset : self._start + offset + len(data)] = data

    def _sector(self, offset: int) -> int:
        return (self._start + offset) // SECTOR

    def _dirty_span(self, offset: int, length: int, owner: str) -> None:
        """The sectors, as they are now, may be written from now on."""
        begin = self._start + offset
        self.log.append(Write(begin, bytes(self._disk[begin : begin + length])))
        for sector in range(begin // SECTOR, (begin + length) // SECTOR):
            if owner != "inode" or sector not in self._dirty:  # a directory's own buffer stays its own
                self._dirty[sector] = owner

    def _flush(self, owners: set[str], sectors: set[int]) -> None:
        chosen = {sector for sector, owner in self._dirty.items() if owner in owners or sector in sectors}
        for sector in chosen:
            del self._dirty[sector]
        self.log.append(Barrier(frozenset(chosen | self._issued)))
        self._issued.clear()


def _pages(offset: int, length: int) -> list[tuple[int, int]]:
    edges = [offset, *range(offset - offset % PAGE + PAGE, offset + length, PAGE), offset + length]
    return list(pairwise(edges))


def _runs(clusters: list[int]) -> list[tuple[int, int]]:
    """Neighbours together: they are written together."""
    found: list[tuple[int, int]] = []
    for cluster in clusters:
        if found and cluster == sum(found[-1]):
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((cluster, 1))
    return found
