"""Compare stretches of a disk image with files and with zeros, telling the first byte that differs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from appliance.core.errors import VerificationError
from builder.review.gpt import SECTOR, Partition

_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)
_TABLE = 33 * SECTOR
"""A partition table: its header and 128 entries."""


def first_difference(one: bytes, other: bytes) -> int | None:
    """The first index at which the two differ, the shorter one's length if that is all; None when equal."""
    if one == other:
        return None
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while high - low > 1:  # bisect: comparing slices is far faster than comparing bytes
        middle = (low + high) // 2
        if one[low:middle] != other[low:middle]:
            high = middle
        else:
            low = middle
    return low


def compare_slot(disk: Path, slot: Partition, file: Path) -> None:
    """The slot starts with `file` and is zero behind it. Raises VerificationError naming the first other byte."""
    size = file.stat().st_size
    if size > slot.size:
        raise VerificationError(f"{file.name} is larger than partition {slot.label}")
    with disk.open("rb") as on_disk, file.open("rb") as stream:
        on_disk.seek(slot.offset)
        at = 0
        while chunk := stream.read(_CHUNK):
            found = on_disk.read(len(chunk))
            index = first_difference(found, chunk)
            if index is not None:
                raise VerificationError(
                    f"partition {slot.label} differs from {file.name} at byte {at + index}: "
                    f"{found[index : index + 1].hex()}, {file.name} has {chunk[index : index + 1].hex()}"
                )
            at += len(chunk)
    require_zero(disk, slot.offset + size, slot.offset + slot.size, f"in partition {slot.label} behind {file.name}")


def require_zero(disk: Path, start: int, end: int, where: str) -> None:
    """Bytes `start` to `end` of the disk are zero. Raises VerificationError naming the first that is not."""
    with disk.open("rb") as stream:
        stream.seek(start)
        at = start
        while at < end:
            chunk = stream.read(min(_CHUNK, end - at))
            if not chunk:
                raise VerificationError(f"disk.raw ends {where}")
            if chunk != _ZEROS[: len(chunk)]:
                index = len(chunk) - len(chunk.lstrip(b"\0"))
                raise VerificationError(f"disk.raw has {chunk[index]:02x} at byte {at + index}, {where}")
            at += len(chunk)


def unpartitioned(size: int, partitions: Sequence[Partition]) -> Iterator[tuple[int, int]]:
    """(start, end) of every stretch of a disk that belongs to no partition and to no partition table."""
    at = SECTOR + _TABLE
    for item in sorted(partitions, key=lambda item: item.offset):
        if item.offset > at:
            yield at, item.offset
        at = max(at, item.offset + item.size)
    if size - _TABLE > at:
        yield at, size - _TABLE
