"""What an erofs image says about its files: names, modes, owners, links, extended attributes.

Reads metadata only (the kernel's on-disk format, Documentation/filesystems/erofs.rst); it shares no code with the tool
that wrote the image and needs no privilege, so owners and file capabilities are seen as they are. Contents of
uncompressed files can be read as well; compressed ones need `fsck.erofs --extract`.
"""

from __future__ import annotations

import mmap
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from appliance.core.errors import DecodeError, InputError, Place

_MAGIC = 0xE0F5E1E2
_SUPERBLOCK = 1024
_SLOT = 32
_DIRENT = struct.Struct("<QHBB")
_PLAIN, _INLINE = 0, 2
_XATTR_PREFIXES = {
    1: "user.",
    2: "system.posix_acl_access",
    3: "system.posix_acl_default",
    4: "trusted.",
    6: "security.",
}
_TYPES = (stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK)
_MAXIMUM_PATHS = 1_000_000
_MAXIMUM_DEPTH = 100


@dataclass(frozen=True)
class Node:
    """One path. mode: type and permission bits as in stat(2); target: of a symlink; device: (major, minor) or None.

    nid: the inode; two paths with one nid are hard links. xattrs: sorted by name.
    """

    path: str
    nid: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    target: str | None
    device: tuple[int, int] | None
    xattrs: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class _Inode:
    layout: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    union: int
    xattr_at: int
    xattr_size: int

    @property
    def tail_at(self) -> int:
        return self.xattr_at + self.xattr_size


class ErofsImage:
    """An image opened for reading. Raises DecodeError, placed at the image, on what it cannot follow."""

    def __init__(self, path: Path) -> None:
        self.place = Place(path.name)
        try:
            with path.open("rb") as stream:
                self._data = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        except FileNotFoundError as error:
            raise InputError("no such file", place=Place(str(path))) from error
        except ValueError as error:
            raise DecodeError("empty file, not an erofs image", place=self.place) from error
        (magic,) = self._unpack("<I", _SUPERBLOCK)
        if magic != _MAGIC:
            raise DecodeError("not an erofs image", place=self.place)
        self._block = 1 << self._unpack("<B", _SUPERBLOCK + 12)[0]
        (self._root,) = self._unpack("<H", _SUPERBLOCK + 14)
        (self.build_time,) = self._unpack("<Q", _SUPERBLOCK + 24)
        self.uuid = UUID(bytes=bytes(self._data[_SUPERBLOCK + 48 : _SUPERBLOCK + 64]))
        self._meta, self._xattrs = self._unpack("<II", _SUPERBLOCK + 40)
        if not 512 <= self._block <= 65536:
            raise DecodeError("impossible block size", place=self.place)

    def walk(self) -> Iterator[Node]:
        """Every path once, sorted within its directory, parents before children, `/` first."""
        yield self._node("/", self._root)
        yield from self._walk("/", self._root, {self._root}, [0])

    def plain_data(self, nid: int) -> bytes | None:
        """The contents of an uncompressed file; None when it is compressed."""
        inode = self._inode(nid)
        return self._data_of(inode) if inode.layout in (_PLAIN, _INLINE) else None

    def _walk(self, path: str, nid: int, above: set[int], seen: list[int]) -> Iterator[Node]:
        for name, child in sorted(self._entries(nid)):
            seen[0] += 1
            if child in above:
                raise DecodeError("a directory contains itself", place=self.place)
            if seen[0] > _MAXIMUM_PATHS or len(above) > _MAXIMUM_DEPTH:
                raise DecodeError("too many paths, or too deep", place=self.place)
            node = self._node(f"{path.rstrip('/')}/{name}", child)
            yield node
            if stat.S_ISDIR(node.mode):
                yield from self._walk(node.path, child, above | {child}, seen)

    def _entries(self, nid: int) -> Iterator[tuple[str, int]]:
        data = self._data_of(self._inode(nid))
        for start in range(0, len(data), self._block):
            yield from self._block_entries(data[start : start + self._block])

    def _block_entries(self, block: bytes) -> Iterator[tuple[str, int]]:
        if len(block) < _DIRENT.size:
            raise DecodeError("cut directory block", place=self.place)
        first = _DIRENT.unpack_from(block, 0)[1]
        if first % _DIRENT.size or not 0 < first <= len(block):
            raise DecodeError("broken directory block", place=self.place)
        rows = [_DIRENT.unpack_from(block, at) for at in range(0, first, _DIRENT.size)]
        ends = [row[1] for row in rows[1:]] + [len(block)]
        for (nid, begin, _kind, _reserved), end in zip(rows, ends, strict=True):
            raw = block[begin:end].split(b"\0", 1)[0]
            if not raw or b"/" in raw:
                raise DecodeError("broken name in a directory", place=self.place)
            if raw not in (b".", b".."):
                yield raw.decode("utf-8", "surrogateescape"), nid

    def _node(self, path: str, nid: int) -> Node:
        inode = self._inode(nid)
        if stat.S_IFMT(inode.mode) not in _TYPES:
            raise DecodeError(f"{path} has no known file type", place=self.place)
        target = device = None
        if stat.S_ISLNK(inode.mode):
            target = self._data_of(inode).decode("utf-8", "surrogateescape")
        elif stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode):
            device = ((inode.union >> 8) & 0xFFF, (inode.union & 0xFF) | ((inode.union >> 12) & 0xFFF00))
        return Node(
            path=path,
            nid=nid,
            mode=inode.mode,
            uid=inode.uid,
            gid=inode.gid,
            size=inode.size,
            mtime=inode.mtime,
            target=target,
            device=device,
            xattrs=tuple(sorted(self._attributes(inode))),
        )

    def _inode(self, nid: int) -> _Inode:
        at = self._meta * self._block + nid * _SLOT
        form, icount, mode = self._unpack("<HHH", at)
        layout = (form >> 1) & 7
        xattr_size = 12 + 4 * (icount - 1) if icount else 0
        if form & 1:
            size, union, _ino, uid, gid, mtime = self._unpack("<QIIIIQ", at + 8)
            return _Inode(layout, mode, uid, gid, size, mtime, union, at + 64, xattr_size)
        size, _reserved, union, _ino, uid, gid = self._unpack("<IIIIHH", at + 8)
        return _Inode(layout, mode, uid, gid, size, self.build_time, union, at + 32, xattr_size)

    def _data_of(self, inode: _Inode) -> bytes:
        if inode.layout == _PLAIN:
            return self._bytes(inode.union * self._block, inode.size)
        if inode.layout != _INLINE:
            raise DecodeError("compressed where it must be plain", place=self.place)
        tail = inode.size % self._block
        whole = inode.size - tail
        return self._bytes(inode.union * self._block, whole) + self._bytes(inode.tail_at, tail)

    def _attributes(self, inode: _Inode) -> Iterator[tuple[str, bytes]]:
        if not inode.xattr_size:
            return
        (shared,) = self._unpack("<B", inode.xattr_at + 4)
        at = inode.xattr_at + 12
        for (number,) in struct.iter_unpack("<I", self._bytes(at, 4 * shared)):
            yield self._attribute(self._xattrs * self._block + 4 * number)[:2]
        at += 4 * shared
        while at < inode.tail_at:
            name, value, length = self._attribute(at)
            yield name, value
            at += length

    def _attribute(self, at: int) -> tuple[str, bytes, int]:
        name_size, prefix, value_size = self._unpack("<BBH", at)
        if prefix not in _XATTR_PREFIXES:
            raise DecodeError(f"unknown extended attribute prefix {prefix}", place=self.place)
        name = self._bytes(at + 4, name_size).decode("utf-8", "surrogateescape")
        value = self._bytes(at + 4 + name_size, value_size)
        return _XATTR_PREFIXES[prefix] + name, value, (4 + name_size + value_size + 3) & ~3

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        return struct.unpack(form, self._bytes(at, struct.calcsize(form)))

    def _bytes(self, at: int, size: int) -> bytes:
        if not size:
            return b""
        if at + size > len(self._data):
            raise DecodeError("a structure lies outside the image", place=self.place)
        return bytes(self._data[at : at + size])
