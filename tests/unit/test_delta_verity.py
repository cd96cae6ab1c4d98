"""The hash area as the device builds and reads it, against vectors of veritysetup 2.7.5 and the builder's reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.release import BLOCK
from appliance.update.area import FileArea, Slot, chunk_buffer, open_slot
from appliance.update.leaves import claimed_leaves, read_superblock, same_bytes
from appliance.update.verity import (
    LEAF,
    Salted,
    Superblock,
    build_area,
    decode_superblock,
    encode_superblock,
    hash_size,
)
from builder.review.verity import compute_tree
from tests.support.delta import Disk

SALT = bytes.fromhex("ab" * 32)
UUID_TEXT = "0f7a1c9e-0000-4000-8000-000000000001"


def image(blocks: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") * (BLOCK // 4) for number in range(blocks))


# veritysetup format DATA TREE --salt=ab… --uuid=0f7a1c9e-… --hash=sha256 --data-block-size=4096 --hash-block-size=4096
@pytest.mark.parametrize(
    ("blocks", "root_hash", "size"),
    [
        (1, "dd2661f29736b994bb4d44940a72e328d0b56887df8761a1274e7d51cc525eed", 4096),
        (2, "1176fe8b1ab89deb9eeec39cb461642fd00f9bbbc1d5f3a9c2767c1622da3873", 8192),
        (128, "3ca31d15331b3a51836d339b72070d8e01c0e5fb01fe6ae50564d70789b70f38", 8192),
        (129, "ff51f3df015b8d137b65cd9c424aeba57d19bdf1c8fe059b2ab53bd907f18b1f", 16384),
        (16385, "33d0f628c9d01cfbc1bfd2356cacc892bbd76f907f750255f1ffdeca88f2a79a", 544768),
    ],
)
def test_the_area_is_the_one_that_veritysetup_writes(blocks: int, root_hash: str, size: int, tmp_path: Path) -> None:
    data = image(blocks)
    superblock = Superblock(UUID(UUID_TEXT), blocks, SALT)
    leaves = b"".join(Salted(SALT).leaves(data))
    built = build_area(leaves, superblock)
    assert (built.root_hash, len(built.area), hash_size(blocks)) == (root_hash, size, size)
    (tmp_path / "data").write_bytes(data)
    assert built.area == compute_tree(tmp_path / "data", salt=SALT, uuid=UUID_TEXT).area
    slot = Slot(Disk(data), Disk(built.area))
    assert read_superblock(slot) == superblock
    assert claimed_leaves(slot, superblock, salt=SALT, tick=lambda _: None) == leaves


def test_with_another_salt_the_data_is_hashed() -> None:
    data, other = image(300), bytes(4)
    superblock = Superblock(UUID(UUID_TEXT), 300, SALT)
    slot = Slot(Disk(data), Disk(build_area(b"".join(Salted(SALT).leaves(data)), superblock).area))
    seen: list[int] = []
    found = claimed_leaves(slot, superblock, salt=other, tick=seen.append)
    assert found == b"".join(Salted(other).leaves(data))
    assert seen == [1 << 20, 300 * BLOCK - (1 << 20)]
    assert len(found) == 300 * LEAF


GOOD = encode_superblock(Superblock(UUID(UUID_TEXT), 3, SALT))


def put(at: int, data: bytes) -> bytes:
    return GOOD[:at] + data + GOOD[at + len(data) :]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (bytes(BLOCK), "there is none"),
        (put(8, b"\2"), "version 2 and hash type 1, both must be 1"),
        (put(12, b"\0"), "version 1 and hash type 0, both must be 1"),
        (put(32, b"sha512"), "the hash is not sha256"),
        (put(65, b"\2"), "blocks of 512 and 4096 bytes, both must be 4096"),
        (put(69, b"\4"), "blocks of 4096 and 1024 bytes, both must be 4096"),
        (put(80, b"\1\1"), "a salt of 257 bytes, at most 256 are allowed"),
        (put(72, b"\0"), "not in canonical form"),
        (put(84, b"x"), "not in canonical form"),
        (put(88 + 40, b"x"), "not in canonical form"),
        (put(BLOCK - 1, b"x"), "not in canonical form"),
    ],
)
def test_superblocks_that_are_refused(data: bytes, said: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        decode_superblock(data)
    assert str(refusal.value) == f"verity superblock: {said}"


@pytest.mark.parametrize(
    ("data", "hashes", "said"),
    [
        (3 * BLOCK, 0, "there is none"),
        (3 * BLOCK - 1, 2 * BLOCK, "3 blocks are more than the slot has"),
        (3 * BLOCK, BLOCK, "3 blocks are more than the slot has"),
    ],
)
def test_a_superblock_of_more_than_there_is(data: int, hashes: int, said: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        read_superblock(Slot(Disk(bytes(data)), Disk((GOOD + bytes(BLOCK))[:hashes])))
    assert str(refusal.value) == f"verity superblock: {said}"


def test_a_file_is_a_partition(tmp_path: Path) -> None:
    data, hashes = tmp_path / "data", tmp_path / "hashes"
    data.write_bytes(image(300))
    hashes.write_bytes(bytes(BLOCK))
    buffer = chunk_buffer()
    with open_slot(data, hashes, writable=True) as slot:
        assert (slot.data.size, slot.hashes.size) == (300 * BLOCK, BLOCK)
        slot.data.write(2 * BLOCK, b"x" * BLOCK)
        slot.data.sync()
        slot.data.read_back(BLOCK, buffer[: 2 * BLOCK])
        assert bytes(buffer[: 2 * BLOCK]) == image(300)[BLOCK : 2 * BLOCK] + b"x" * BLOCK
        assert same_bytes(slot.hashes, bytes(BLOCK))
        assert not same_bytes(slot.hashes, bytes(BLOCK - 1) + b"x")
    assert data.read_bytes()[2 * BLOCK : 3 * BLOCK] == b"x" * BLOCK


ACTS: list[tuple[str, Callable[[Path], object], str]] = [
    ("no file", lambda path: FileArea(path / "no", writable=False), "cannot open {}/no: No such file or directory"),
    (
        "behind the end",
        lambda path: FileArea(path / "file", writable=True).write(BLOCK, bytes(BLOCK)),
        "cannot write {}/file: byte 8192 is behind its end",
    ),
    (
        "read behind the end",
        lambda path: FileArea(path / "file", writable=True).read(0, memoryview(bytearray(2 * BLOCK))),
        "cannot read {}/file: it ends at byte 4096",
    ),
    (
        "not writable",
        lambda path: FileArea(path / "file", writable=False).write(0, bytes(BLOCK)),
        "cannot write {}/file: Bad file descriptor",
    ),
]


@pytest.mark.parametrize(("act", "said"), [row[1:] for row in ACTS], ids=[row[0] for row in ACTS])
def test_what_a_disk_can_refuse(act: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(BLOCK))
    with pytest.raises(EdgesealError) as refusal:
        act(tmp_path)
    assert str(refusal.value) == said.format(tmp_path)
