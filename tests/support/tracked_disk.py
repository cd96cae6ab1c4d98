"""A disk in memory that hashes only what changed: thousands of looks at a real disk, in seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

_SHIFT = 16
_CHUNK = 1 << _SHIFT


class TrackedDisk(bytearray):
    """Written to by slices of the same length only."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._chunks: list[bytes | None] = [None] * -(-len(data) // _CHUNK)
        self._known: dict[tuple[tuple[tuple[int, int], ...], bytes], str] = {}

    def __setitem__(self, key: slice, value: bytes) -> None:  # type: ignore[override]
        size = len(self)
        super().__setitem__(key, value)
        assert len(self) == size
        for number in range(key.start >> _SHIFT, (key.stop - 1 >> _SHIFT) + 1):
            self._chunks[number] = None

    def digest(self, extents: Sequence[tuple[int, int]]) -> str:
        """SHA-256 of these pieces."""
        key = (tuple(extents), b"".join(self._marks(extents)))
        if key not in self._known:
            self._known[key] = digest_of(self, extents)
        return self._known[key]

    def _marks(self, extents: Sequence[tuple[int, int]]) -> list[bytes]:
        found = []
        for at, size in extents:
            for number in range(at >> _SHIFT, (at + size - 1 >> _SHIFT) + 1):
                mark = self._chunks[number]
                if mark is None:
                    with memoryview(self) as view:
                        mark = hashlib.sha256(view[number << _SHIFT : number + 1 << _SHIFT]).digest()
                    self._chunks[number] = mark
                found.append(mark)
        return found


def digest_of(disk: bytearray, extents: Sequence[tuple[int, int]]) -> str:
    """SHA-256 of these pieces."""
    digest = hashlib.sha256()
    with memoryview(disk) as view:
        for at, size in extents:
            digest.update(view[at : at + size])
    return digest.hexdigest()
