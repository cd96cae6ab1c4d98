"""dm-verity computed a second time, from the data alone, by code that shares nothing with the tool that wrote it.

Format: superblock version 1, hash type 1 (salt before the block), SHA-256, data and hash blocks of 4096 bytes; the
levels stand from the root block down to the leaves, right behind the superblock's block.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from appliance.core.errors import VerificationError

BLOCK = 4096
_PER_BLOCK = BLOCK // 32
_SUPERBLOCK = struct.Struct("<8sII16s32sIIQH6x256s168x")


@dataclass(frozen=True)
class VerityTree:
    """root_hash: hex; area: the whole hash area, superblock first, as it must stand in root.verity."""

    root_hash: str
    area: bytes


def compute_tree(data: Path, *, salt: bytes, uuid: str) -> VerityTree:
    """Hash `data`, whose size is a positive multiple of 4096. Raises VerificationError when it is not."""
    size = data.stat().st_size
    if size == 0 or size % BLOCK:
        raise VerificationError(f"{data.name}: {size} bytes are not whole blocks of {BLOCK}")
    salted = hashlib.sha256(salt)
    with data.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        try:
            level = b"".join(_digests(view, salted))
        finally:
            view.release()
    levels: list[bytes] = []
    while len(level) > 32:
        blocks = _padded(level)
        levels.insert(0, blocks)
        level = b"".join(_digests(memoryview(blocks), salted))
    head = _superblock(size // BLOCK, salt=salt, uuid=uuid)
    return VerityTree(level.hex(), head + b"".join(levels))


def check_tree(area: Path, tree: VerityTree) -> int:
    """Hold a hash area against the computed one. Returns its size; raises VerificationError at the first other byte."""
    found = area.read_bytes()
    if found == tree.area:
        return len(found)
    shorter = min(len(found), len(tree.area))
    at = next((index for index in range(shorter) if found[index] != tree.area[index]), shorter)
    if at == shorter:
        raise VerificationError(f"{area.name} has {len(found)} bytes, the tree over the data has {len(tree.area)}")
    where = "superblock" if at < BLOCK else f"hash block {at // BLOCK - 1}"
    raise VerificationError(
        f"{area.name} differs from the tree over the data at byte {at} ({where}): "
        f"{found[at]:02x}, computed {tree.area[at]:02x}"
    )


def _digests(view: memoryview, salted: hashlib._Hash) -> Iterator[bytes]:
    for at in range(0, len(view), BLOCK):
        state = salted.copy()
        state.update(view[at : at + BLOCK])
        yield state.digest()


def _padded(level: bytes) -> bytes:
    return level + b"\0" * (-len(level) % BLOCK)


def _superblock(data_blocks: int, *, salt: bytes, uuid: str) -> bytes:
    fields = (b"verity\0\0", 1, 1, UUID(uuid).bytes, b"sha256", BLOCK, BLOCK, data_blocks, len(salt), salt)
    return _SUPERBLOCK.pack(*fields).ljust(BLOCK, b"\0")
