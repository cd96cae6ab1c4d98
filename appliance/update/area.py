"""The parts of a disk that an update reads and writes: partitions, or files in a test."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from appliance.core.errors import EdgesealError

CHUNK = 1 << 20
"""Bytes that are read at once: a multiple of every block size."""


class Area(Protocol):
    """One partition. Offsets and lengths are multiples of 4096. Everything here raises EdgesealError on a bad disk."""

    @property
    def size(self) -> int:
        """Bytes."""

    def read(self, offset: int, target: memoryview) -> None:
        """Fill `target`."""

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """All of `data`; it is durable after the next sync."""

    def sync(self) -> None:
        """Down to the disk; what was read before is forgotten."""

    def read_back(self, offset: int, target: memoryview) -> None:
        """As `read`, from the disk itself where that is possible. `target` begins at a page (see `chunk_buffer`)."""


@dataclass(frozen=True)
class Slot:
    """The two partitions of a root: its data and its hash tree."""

    data: Area
    hashes: Area


class FileArea:
    """A block device or a file."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        self._path = path
        self._flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
        if writable and path.is_block_device():
            self._flags |= os.O_EXCL  # fails for a partition that the running root, or anything else, is using
        self._direct: int | None = None
        with self._explained("open"):
            self._file = os.open(path, self._flags)
            self._size = os.lseek(self._file, 0, os.SEEK_END)  # stat says 0 of a block device

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    def read(self, offset: int, target: memoryview) -> None:
        """Fill `target`."""
        self._read(self._file, offset, target)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """All of `data`; it is durable after the next sync."""
        view = memoryview(data)
        if offset + len(view) > self._size:
            raise EdgesealError(f"cannot write {self._path}: byte {offset + len(view)} is behind its end")
        with self._explained("write"):
            while view:
                written = os.pwrite(self._file, view, offset)
                view, offset = view[written:], offset + written

    def sync(self) -> None:
        """Down to the disk; what was read before is forgotten."""
        with self._explained("write"):
            os.fsync(self._file)
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)

    def read_back(self, offset: int, target: memoryview) -> None:
        """As `read`, from the disk itself where that is possible."""
        if self._direct is None:
            with self._explained("open"):
                self._direct = self._open_direct()
        self._read(self._direct, offset, target)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._file)
        if self._direct is not None:
            os.close(self._direct)

    def _open_direct(self) -> int:
        try:
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)  # a file system without it: no block device

    def _read(self, file: int, offset: int, target: memoryview) -> None:
        with self._explained("read"):
            while target:
                count = os.preadv(file, [target], offset)
                if count == 0:
                    raise EdgesealError(f"cannot read {self._path}: it ends at byte {offset}")
                target, offset = target[count:], offset + count

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EdgesealError(f"cannot {what} {self._path}: {error.strerror}") from error


@contextmanager
def open_slot(data: Path, hashes: Path, *, writable: bool) -> Iterator[Slot]:
    """Open both partitions of a slot. Raises EdgesealError."""
    first = FileArea(data, writable=writable)
    try:
        second = FileArea(hashes, writable=writable)
        try:
            yield Slot(first, second)
        finally:
            second.close()
    finally:
        first.close()


def chunk_buffer() -> memoryview:
    """CHUNK bytes that begin at a page, as reading from the disk itself needs."""
    return memoryview(mmap.mmap(-1, CHUNK))  # never closed by hand: a traceback may still look into it
