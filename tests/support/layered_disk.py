"""A disk image with writes laid over it that are never applied: hundreds of MiB, looked at many thousand times.

Below is an image file, mapped privately, with what has become durable. Above are the writes of one power cut.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.blocklog import Write

_SHIFT = 16
_CHUNK = 1 << _SHIFT


class LayeredDisk:
    """Read by slices, as a bytearray is. reads: (offset, size) of all that was read since it was last cleared."""

    def __init__(self, image: Path) -> None:
        self.reads: list[tuple[int, int]] = []
        with image.open("rb") as stream:
            self._below = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        self._above: dict[int, list[Write]] = {}
        self._chunks: dict[int, bytes] = {}
        self._mixed: dict[tuple[int, ...], tuple[bytes, list[Write]]] = {}
        self._known: dict[tuple[tuple[tuple[int, int], ...], bytes], str] = {}

    def __len__(self) -> int:
        return len(self._below)

    def __getitem__(self, place: slice) -> bytes:
        self.reads.append((place.start, place.stop - place.start))
        return self._read(place.start, place.stop)

    def show(self, writes: Sequence[Write]) -> None:
        """From now on it has these over what is durable, the later ones over the earlier."""
        self._above = {}
        for write in writes:
            for number in _chunks_of(write.offset, len(write.data)):
                self._above.setdefault(number, []).append(write)

    def settle(self, write: Write) -> None:
        """It is durable."""
        end = write.offset + len(write.data)
        self._below[write.offset : end] = write.data
        for number in _chunks_of(write.offset, len(write.data)):
            self._chunks.pop(number, None)
        self._mixed = {}

    def digest(self, extents: Sequence[tuple[int, int]]) -> str:
        """SHA-256 of these pieces, one after the other. Computed once for each content of their chunks."""
        self.reads += extents
        key = (tuple(extents), b"".join(self._marks(extents)))
        if key not in self._known:
            digest = hashlib.sha256()
            for at, size in extents:
                digest.update(self._read(at, at + size))
            self._known[key] = digest.hexdigest()
        return self._known[key]

    def _marks(self, extents: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        for at, size in extents:
            for number in _chunks_of(at, size):
                yield self._mark(number)

    def _mark(self, number: int) -> bytes:
        writes = self._above.get(number)
        start = number << _SHIFT
        if writes is None:
            if number not in self._chunks:
                self._chunks[number] = hashlib.sha256(self._below[start : start + _CHUNK]).digest()
            return self._chunks[number]
        key = (number, *map(id, writes))
        if key not in self._mixed:  # the writes are kept, so that their ids stay theirs
            self._mixed[key] = hashlib.sha256(self._read(start, start + _CHUNK)).digest(), writes
        return self._mixed[key][0]

    def _read(self, start: int, stop: int) -> bytes:
        data = self._below[start:stop]
        numbers = [number for number in _chunks_of(start, stop - start) if number in self._above]
        if not numbers:
            return data
        mixed = bytearray(data)
        for number in numbers:
            first, last = max(start, number << _SHIFT), min(stop, number + 1 << _SHIFT)
            for write in self._above[number]:
                low, high = max(first, write.offset), min(last, write.offset + len(write.data))
                if low < high:
                    mixed[low - start : high - start] = write.data[low - write.offset : high - write.offset]
        return bytes(mixed)


def _chunks_of(at: int, size: int) -> range:
    return range(at >> _SHIFT, (at + size - 1 >> _SHIFT) + 1)
