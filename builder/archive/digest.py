"""The SHA-256 of a file, without reading what is not there: a disk image is mostly holes."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1 << 20
_ZEROS = memoryview(bytes(_CHUNK))


def file_sha256(path: Path) -> str:
    """Lower-case hex SHA-256 of a file."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as stream:
        for start, end, is_hole in _extents(stream):
            stream.seek(start)
            while start < end:
                count = min(_CHUNK, end - start)
                if not is_hole and (count := stream.readinto(buffer[:count]) or 0) == 0:
                    raise OSError(errno.EIO, "it became shorter while it was read", str(path))
                digest.update((_ZEROS if is_hole else buffer)[:count])
                start += count
    return digest.hexdigest()


def _extents(stream: BinaryIO) -> Iterator[tuple[int, int, bool]]:
    """(start, end, whether it is a hole), in order. Where the filesystem knows no holes, all of it is data."""
    size, at = os.fstat(stream.fileno()).st_size, 0
    while at < size:
        data = _seek(stream, at, os.SEEK_DATA, size)
        if data > at:
            yield at, data, True
        at = _seek(stream, data, os.SEEK_HOLE, size) if data < size else size
        if at > data:
            yield data, at, False


def _seek(stream: BinaryIO, at: int, kind: int, size: int) -> int:
    try:
        return os.lseek(stream.fileno(), at, kind)
    except OSError as error:
        if error.errno != errno.ENXIO:  # no data behind `at`
            raise
        return size
