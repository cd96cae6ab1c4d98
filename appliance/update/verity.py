"""The hash area of a dm-verity root, byte for byte as `veritysetup format` writes it.

Format: superblock version 1, hash type 1 (salt before the block), SHA-256, data and hash blocks of 4096 bytes; behind
the superblock's block the levels, from the root's block down to the leaves.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from appliance.core.errors import DecodeError
from appliance.formats.release import BLOCK

LEAF = 32
_PER_BLOCK = BLOCK // LEAF
_SUPERBLOCK = struct.Struct("<8sII16s32sIIQH6s256s168s")
_MAGIC = b"verity\0\0"


@dataclass(frozen=True)
class Superblock:
    """blocks: of data. salt: up to 256 bytes."""

    uuid: UUID
    blocks: int
    salt: bytes


@dataclass(frozen=True)
class HashArea:
    """root_hash: lower-case hex. area: the whole hash area, superblock first."""

    root_hash: str
    area: bytes


class Salted:
    """Hashes blocks. The salted state is made once and copied."""

    def __init__(self, salt: bytes) -> None:
        self._state = hashlib.sha256(salt)

    def leaf(self, block: bytes | memoryview) -> bytes:
        """The leaf hash of one block."""
        state = self._state.copy()
        state.update(block)
        return state.digest()

    def leaves(self, data: bytes | memoryview) -> Iterator[bytes]:
        """The leaf hash of each block."""
        view = memoryview(data)
        return (self.leaf(view[at : at + BLOCK]) for at in range(0, len(view), BLOCK))


def encode_superblock(superblock: Superblock) -> bytes:
    """One block."""
    return _SUPERBLOCK.pack(
        _MAGIC,
        1,
        1,
        superblock.uuid.bytes,
        b"sha256",
        BLOCK,
        BLOCK,
        superblock.blocks,
        len(superblock.salt),
        b"",
        superblock.salt,
        b"",
    ).ljust(BLOCK, b"\0")


def decode_superblock(data: bytes) -> Superblock:
    """data: the first block of a hash area. Raises DecodeError on any parameter other than ours."""
    if data[:8] != _MAGIC:
        raise DecodeError("verity superblock: there is none")
    _, version, kind, uuid, algorithm, data_block, hash_block, blocks, salt_size, _, salt, _ = _SUPERBLOCK.unpack_from(
        data
    )
    if (version, kind) != (1, 1):
        raise DecodeError(f"verity superblock: version {version} and hash type {kind}, both must be 1")
    if algorithm.rstrip(b"\0") != b"sha256":
        raise DecodeError("verity superblock: the hash is not sha256")
    if (data_block, hash_block) != (BLOCK, BLOCK):
        raise DecodeError(f"verity superblock: blocks of {data_block} and {hash_block} bytes, both must be {BLOCK}")
    if salt_size > len(salt):
        raise DecodeError(f"verity superblock: a salt of {salt_size} bytes, at most {len(salt)} are allowed")
    found = Superblock(UUID(bytes=uuid), blocks, salt[:salt_size])
    if blocks == 0 or encode_superblock(found) != data:
        raise DecodeError("verity superblock: not in canonical form")
    return found


def level_sizes(blocks: int) -> list[int]:
    """Hash blocks of each level, the root's first. One data block needs none: its leaf hash is the root hash."""
    sizes: list[int] = []
    while blocks > 1:
        blocks = -(-blocks // _PER_BLOCK)
        sizes.insert(0, blocks)
    return sizes


def hash_size(blocks: int) -> int:
    """Bytes of the whole hash area over that many data blocks."""
    return BLOCK * (1 + sum(level_sizes(blocks)))


def build_area(leaves: bytes | bytearray, superblock: Superblock) -> HashArea:
    """leaves: the leaf hashes of all blocks, 32 bytes each, one behind the other."""
    salted = Salted(superblock.salt)
    levels: list[bytes] = []
    level = bytes(leaves)
    while len(level) > LEAF:
        levels.insert(0, level + b"\0" * (-len(level) % BLOCK))
        level = b"".join(salted.leaves(levels[0]))
    return HashArea(level.hex(), b"".join((encode_superblock(superblock), *levels)))
