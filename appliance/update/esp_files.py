"""The directory of boot entries, as files of a mounted vfat; a test has another one over a recorded disk."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import Protocol

from appliance.core.durable import fsync_directory

_PAGE = 4096


class EntryFiles(Protocol):
    """Files of one directory, by name. Everything here raises OSError."""

    def names(self) -> list[str]:
        """Of regular files."""

    def size(self, name: str) -> int:
        """Bytes."""

    def read(self, name: str, offset: int, length: int) -> bytes:
        """From the medium where that is possible; less than `length` only at the end."""

    def create(self, name: str) -> None:
        """An empty file. Fails when the name is there."""

    def write(self, name: str, offset: int, data: bytes) -> None:
        """In place, or at the end; all of it."""

    def sync(self, name: str) -> None:
        """Content, allocation and name of one file, down to the medium."""

    def remove(self, name: str) -> None:
        """The name, and the clusters behind it."""

    def rename(self, old: str, new: str) -> None:
        """One name for another. Not atomic on the medium; no clusters are freed."""

    def sync_names(self) -> None:
        """Created and removed names, and the allocation, down to the medium."""

    def free(self) -> int:
        """Bytes that a file may still take."""


class MountedEntries:
    """The real one. directory: EFI/Linux below the mounted ESP.

    fsync and not syncfs: on vfat only fsync ends with a flush of the disk's own cache. It writes the whole allocation
    table; for a directory also its names; for a file its content, size and first cluster, which fsync of the directory
    would leave out. So `sync` needs both, the file first. Mount with errors=continue: a name whose clusters a power cut
    took would otherwise turn the file system read-only whenever it is read, and could never be removed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def names(self) -> list[str]:
        """Of regular files."""
        with os.scandir(self._directory) as entries:
            return [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]

    def size(self, name: str) -> int:
        """Bytes."""
        return (self._directory / name).stat().st_size

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Around the page cache; where a file system cannot do that, after the cached pages are dropped."""
        begin = offset - offset % _PAGE
        room = (offset + length - begin + _PAGE - 1) // _PAGE * _PAGE
        descriptor = self._open_direct(name)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            with mmap.mmap(-1, room) as pages:  # page-aligned, which O_DIRECT needs
                count = _fill(descriptor, pages, begin)
                return pages[:count][offset - begin : offset - begin + length]
        finally:
            os.close(descriptor)

    def create(self, name: str) -> None:
        """An empty file. Fails when the name is there."""
        os.close(self._open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL))

    def write(self, name: str, offset: int, data: bytes) -> None:
        """In place, or at the end; all of it."""
        descriptor = self._open(name, os.O_WRONLY)
        try:
            view = memoryview(data)
            while view:
                count = os.pwrite(descriptor, view, offset)
                view, offset = view[count:], offset + count
        finally:
            os.close(descriptor)

    def sync(self, name: str) -> None:
        """Content, allocation and name of one file, down to the medium."""
        descriptor = self._open(name, os.O_WRONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.sync_names()

    def remove(self, name: str) -> None:
        """The name, and the clusters behind it."""
        (self._directory / name).unlink()

    def rename(self, old: str, new: str) -> None:
        """One name for another. Not atomic on the medium; no clusters are freed."""
        (self._directory / old).rename(self._directory / new)

    def sync_names(self) -> None:
        """Created and removed names, and the allocation, down to the medium."""
        fsync_directory(self._directory)

    def free(self) -> int:
        """Bytes that a file may still take."""
        found = os.statvfs(self._directory)
        return found.f_bavail * found.f_frsize

    def _open(self, name: str, flags: int) -> int:
        return os.open(self._directory / name, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def _open_direct(self, name: str) -> int:
        try:
            return self._open(name, os.O_RDONLY | os.O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return self._open(name, os.O_RDONLY)


def _fill(descriptor: int, pages: mmap.mmap, offset: int) -> int:
    """Read until the pages are full or the file ends. Returns the bytes read."""
    with memoryview(pages) as view:
        count = 0
        while count < len(view):
            with view[count:] as rest:
                got = os.preadv(descriptor, [rest], offset + count)
            count += got
            if got == 0 or got % 512:  # a file's tail: a further direct read would not be aligned
                break
        return count
