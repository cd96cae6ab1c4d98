"""Leaf hashes of what a slot holds: read from its hash area, or computed from its data."""

from __future__ import annotations

from collections.abc import Callable

from appliance.core.errors import DecodeError
from appliance.formats.delta_index import DIGEST
from appliance.formats.release import BLOCK
from appliance.update.area import CHUNK, Area, Slot, chunk_buffer
from appliance.update.verity import LEAF, Salted, Superblock, decode_superblock, hash_size, level_sizes

Tick = Callable[[int], None]
"""Told the bytes that were read since the last call; it may raise to stop."""


def read_superblock(slot: Slot) -> Superblock:
    """Raises DecodeError when there is none, or one of more than the slot has; EdgesealError on a bad disk."""
    if slot.hashes.size < BLOCK:
        raise DecodeError("verity superblock: there is none")
    block = bytearray(BLOCK)
    slot.hashes.read(0, memoryview(block))
    superblock = decode_superblock(bytes(block))
    if superblock.blocks * BLOCK > slot.data.size or hash_size(superblock.blocks) > slot.hashes.size:
        raise DecodeError(f"verity superblock: {superblock.blocks} blocks are more than the slot has")
    return superblock


def claimed_leaves(slot: Slot, superblock: Superblock, *, salt: bytes, tick: Tick) -> bytes:
    """Leaf hashes, with `salt`, of the data that `superblock` speaks of, one behind the other.

    With the same salt they are what the hash area says, unverified: a block is to be hashed again before it is used.
    """
    if superblock.salt != salt or superblock.blocks == 1:
        return bytes(hash_data(slot.data.read, superblock.blocks * BLOCK, salt=salt, tick=tick))
    leaves = bytearray(superblock.blocks * LEAF)
    slot.hashes.read(BLOCK * (1 + sum(level_sizes(superblock.blocks)[:-1])), memoryview(leaves))
    return bytes(leaves)


def hash_data(read: Callable[[int, memoryview], None], size: int, *, salt: bytes, tick: Tick) -> bytearray:
    """Leaf hashes of the first `size` bytes. read: `Area.read` or `Area.read_back`."""
    salted, leaves, buffer = Salted(salt), bytearray(), chunk_buffer()
    for at in range(0, size, CHUNK):
        part = buffer[: min(CHUNK, size - at)]
        read(at, part)
        leaves += b"".join(salted.leaves(part))
        tick(len(part))
    return leaves


def cut_leaves(leaves: bytes | bytearray) -> bytes:
    """Leaf hashes as the delta index has them: 16 of each 32 bytes."""
    return b"".join(leaves[at : at + DIGEST] for at in range(0, len(leaves), LEAF))


def same_bytes(area: Area, data: bytes) -> bool:
    """Whether the disk itself begins with `data`."""
    buffer = chunk_buffer()
    for at in range(0, len(data), CHUNK):
        part = buffer[: min(CHUNK, len(data) - at)]
        area.read_back(at, part)
        if part != data[at : at + len(part)]:
            return False
    return True
