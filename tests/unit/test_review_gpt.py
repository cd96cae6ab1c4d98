"""The partition table reader: what is right is read, every damage is refused and named."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.errors import VerificationError
from builder.review.blocks import compare_slot, require_zero, unpartitioned
from builder.review.gpt import SECTOR, Partition, read_partitions
from tests.support.effort import examples

SECTORS = 2048
KIND, OWN = UUID(int=1 << 100), UUID(int=2 << 100)


def entry(label: str, first: int, last: int) -> bytes:
    return struct.pack("<16s16sQQQ72s", KIND.bytes_le, OWN.bytes_le, first, last, 5, label.encode("utf-16-le"))


def header(own: int, other: int, at: int, table: bytes, last: int = SECTORS - 34) -> bytes:
    def pack(crc: int) -> bytes:
        crcs = zlib.crc32(table)
        return struct.pack(
            "<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, crc, 0, own, other, 34, last, bytes(16), at, 128, 128, crcs
        )

    return pack(zlib.crc32(pack(0)))


def disk(path: Path, *entries: bytes) -> Path:
    table = b"".join(entries).ljust(128 * 128, b"\0")
    data = bytearray(SECTORS * SECTOR)
    data[512 : 512 + 92] = header(1, SECTORS - 1, 2, table)
    data[1024 : 1024 + len(table)] = table
    data[-512 : -512 + 92] = header(SECTORS - 1, 1, SECTORS - 33, table)
    data[-512 - len(table) : -512] = table
    path.write_bytes(data)
    return path


def test_partitions_in_order_of_offset(tmp_path: Path) -> None:
    found = read_partitions(disk(tmp_path / "d", entry("b", 200, 299), entry("a", 100, 199)))
    assert found == (
        Partition("a", str(KIND), str(OWN), 100 * SECTOR, 100 * SECTOR, 5),
        Partition("b", str(KIND), str(OWN), 200 * SECTOR, 100 * SECTOR, 5),
    )


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (512, "there is no primary partition table"),
        (512 + 8, "there is no primary partition table"),
        (512 + 30, "the primary partition header is damaged"),
        (1024 + 50, "the primary partition table is damaged"),
        (SECTORS * 512 - 512, "there is no backup partition table"),
        (SECTORS * 512 - 512 + 40, "the backup partition header is damaged"),
        (SECTORS * 512 - 512 - 16384, "the backup partition table is damaged"),
    ],
)
def test_damage_is_named(tmp_path: Path, at: int, message: str) -> None:
    path = disk(tmp_path / "d", entry("a", 100, 199))
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(VerificationError) as caught:
        read_partitions(path)
    assert str(caught.value) == message


@pytest.mark.parametrize("bounds", [(33, 40), (100, SECTORS - 33), (200, 100)])
def test_outside_of_the_usable_area(tmp_path: Path, bounds: tuple[int, int]) -> None:
    with pytest.raises(VerificationError, match="partition a lies outside of the usable area"):
        read_partitions(disk(tmp_path / "d", entry("a", *bounds)))


def test_two_right_tables_that_differ(tmp_path: Path) -> None:
    one, other = disk(tmp_path / "1", entry("a", 100, 199)), disk(tmp_path / "2", entry("a", 100, 198))
    half = SECTORS * SECTOR // 2
    (tmp_path / "mixed").write_bytes(one.read_bytes()[:half] + other.read_bytes()[half:])
    with pytest.raises(VerificationError, match="primary and backup partition table differ"):
        read_partitions(tmp_path / "mixed")


@examples(50)
@given(st.binary(max_size=4096))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.raw"
    path.write_bytes(data)
    with pytest.raises(VerificationError):
        read_partitions(path)


def partition(label: str, offset: int, size: int) -> Partition:
    return Partition(label, str(KIND), str(OWN), offset, size, 0)


def test_stretches_that_belong_to_nobody() -> None:
    table = SECTOR + 33 * SECTOR
    found = list(unpartitioned(1 << 20, [partition("b", 300_000, 100), partition("a", 200_000, 50_000)]))
    assert found == [(table, 200_000), (250_000, 300_000), (300_100, (1 << 20) - 33 * SECTOR)]
    assert list(unpartitioned(1 << 20, [partition("a", table, (1 << 20) - table - 33 * SECTOR)])) == []


def test_slots(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    (tmp_path / "d").write_bytes(bytes(10) + b"abc" + bytes(7))
    compare_slot(tmp_path / "d", partition("root-a", 10, 10), tmp_path / "f")
    for data, message in (
        (bytes(10) + b"abX" + bytes(7), "partition root-a differs from f at byte 2: 58, f has 63"),
        (bytes(10) + b"abc" + b"\0\1" + bytes(5), "disk.raw has 01 at byte 14, in partition root-a behind f"),
        (bytes(10) + b"ab", "partition root-a differs from f at byte 2: , f has 63"),
        (bytes(10) + b"abc", "disk.raw ends in partition root-a behind f"),
    ):
        (tmp_path / "d").write_bytes(data)
        with pytest.raises(VerificationError) as caught:
            compare_slot(tmp_path / "d", partition("root-a", 10, 10), tmp_path / "f")
        assert str(caught.value) == message
    with pytest.raises(VerificationError, match="f is larger than partition root-a"):
        compare_slot(tmp_path / "d", partition("root-a", 10, 2), tmp_path / "f")


def test_zero_over_many_chunks(tmp_path: Path) -> None:
    size = (2 << 20) + 5
    (tmp_path / "d").write_bytes(bytes(size))
    require_zero(tmp_path / "d", 0, size, "there")
    (tmp_path / "d").write_bytes(bytes(size - 1) + b"\x07")
    with pytest.raises(VerificationError, match=f"disk.raw has 07 at byte {size - 1}, there"):
        require_zero(tmp_path / "d", 0, size, "there")
