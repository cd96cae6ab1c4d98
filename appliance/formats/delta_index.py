"""The delta index: what a root consists of, block by block, and where each block lies. Spec: docs/specs/delta-index.md.

Three content files of a release (v1): groups (first level), leaves (second level), frames (the blocks). Numbers are
unsigned and big-endian; every digest is the first 16 bytes of a SHA-256. Whoever decodes has verified the bytes before:
the groups against the release manifest, a table against its group, a frame against its table. These functions do both,
in that order.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.core.errors import DecodeError, VerificationError
from appliance.formats.release import BLOCK, Release

DIGEST = 16
MIN_GROUP = 16
MAX_GROUP = 512
"""Blocks in a group; the last group of an image may be smaller."""

_MAGIC = b"ESDELTA\0"
_VERSION = 1
_HEADER = struct.Struct(">8sHHII")
_GROUP = struct.Struct(f">HHI{DIGEST}s{DIGEST}s")
_CUT_BITS = 0x3F


@dataclass(frozen=True, slots=True)
class Group:
    """A stretch of blocks.

    first: its first block. count: of its blocks. deflated: of those whose frame is shorter than a block.
    table_at: where its table begins in the leaves file. frames_at, frames: offset and bytes in the frames file.
    leaves_digest: over the leaf hashes of its table; sizes_digest: over the rest of it.
    """

    first: int
    count: int
    deflated: int
    table_at: int
    frames_at: int
    frames: int
    leaves_digest: bytes
    sizes_digest: bytes

    @property
    def table(self) -> int:
        """Bytes of its table."""
        return self.count * (DIGEST + 2) + self.deflated * DIGEST


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a block lies. leaf: its leaf hash, cut. digest: of the deflated frame; None for a stored one."""

    block: int
    at: int
    size: int
    leaf: bytes
    digest: bytes | None


@dataclass(frozen=True, slots=True)
class Table:
    """The second level of one group. leaves: cut leaf hashes, one behind the other."""

    group: Group
    leaves: bytes
    sizes: bytes
    digests: bytes

    def frames(self) -> Iterator[Frame]:
        """Every block of the group, in order."""
        at, deflated = self.group.frames_at, 0
        for number, size in enumerate(_sizes(self.sizes)):
            digest = None
            if size < BLOCK:
                digest = self.digests[deflated * DIGEST : (deflated + 1) * DIGEST]
                deflated += 1
            leaf = self.leaves[number * DIGEST : (number + 1) * DIGEST]
            yield Frame(self.group.first + number, at, size, leaf, digest)
            at += size


def cut_digest(data: bytes | bytearray | memoryview) -> bytes:
    """The first 16 bytes of the SHA-256."""
    return hashlib.sha256(data).digest()[:DIGEST]


def cut_groups(leaves: bytes) -> Iterator[tuple[int, int]]:
    """(first block, count) of each group. leaves: cut leaf hashes. The rule looks at nothing but the leaves."""
    first, total = 0, len(leaves) // DIGEST
    for block in range(total):
        count = block + 1 - first
        if count == MAX_GROUP or block + 1 == total or (count >= MIN_GROUP and not leaves[block * DIGEST] & _CUT_BITS):
            yield first, count
            first = block + 1


def groups_limit(blocks: int) -> int:
    """The most bytes that a groups file for that many blocks can have."""
    return _HEADER.size + _GROUP.size * -(-blocks // MIN_GROUP)


def tables_limit(blocks: int) -> int:
    """The most bytes that a leaves file for that many blocks can have."""
    return blocks * (2 * DIGEST + 2)


def encode_groups(groups: Sequence[Group]) -> bytes:
    """The groups file."""
    blocks = sum(group.count for group in groups)
    return _HEADER.pack(_MAGIC, _VERSION, 0, len(groups), blocks) + b"".join(
        _GROUP.pack(group.count, group.deflated, group.frames, group.leaves_digest, group.sizes_digest)
        for group in groups
    )


def decode_groups(data: bytes, release: Release) -> tuple[Group, ...]:
    """Raises VerificationError when `data` is not the groups file that the release names, DecodeError when that one is
    malformed or does not cover exactly the release's root, leaves and frames.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != release.delta.groups.sha256:
        raise VerificationError(f"delta groups: sha256 is {found}, the release says {release.delta.groups.sha256}")
    if len(data) < _HEADER.size:
        raise DecodeError(f"delta groups: {len(data)} bytes are no header")
    magic, version, reserved, count, blocks = _HEADER.unpack_from(data)
    if (magic, version, reserved) != (_MAGIC, _VERSION, 0):
        raise DecodeError("delta groups: not a delta index of version 1")
    if len(data) != _HEADER.size + count * _GROUP.size:
        raise DecodeError(f"delta groups: {len(data)} bytes do not hold {count} groups")
    groups = tuple(_decode_each(data))
    _check_sum("blocks", sum(group.count for group in groups), blocks, "the header says")
    _check_sum("bytes of root", blocks * BLOCK, release.root.size, "the release says")
    _check_sum("bytes of leaves", sum(group.table for group in groups), release.delta.leaves.size, "the release says")
    _check_sum("bytes of frames", sum(group.frames for group in groups), release.delta.frames.size, "the release says")
    return groups


def _decode_each(data: bytes) -> Iterator[Group]:
    first = table_at = frames_at = 0
    for number, row in enumerate(_GROUP.iter_unpack(data[_HEADER.size :])):
        count, deflated, frames, leaves_digest, sizes_digest = row
        group = Group(first, count, deflated, table_at, frames_at, frames, leaves_digest, sizes_digest)
        if not 1 <= count <= MAX_GROUP:
            raise DecodeError(f"delta groups: group {number} has {count} blocks, 1 to {MAX_GROUP} are allowed")
        if deflated > count:
            raise DecodeError(f"delta groups: group {number} has {count} blocks, {deflated} of them deflated")
        stored = (count - deflated) * BLOCK
        if not stored + deflated <= frames <= stored + deflated * (BLOCK - 1):
            raise DecodeError(f"delta groups: group {number} cannot have {frames} bytes of frames")
        yield group
        first, table_at, frames_at = first + count, table_at + group.table, frames_at + frames


def encode_table(leaves: bytes, frames: Sequence[bytes]) -> tuple[bytes, bytes, bytes]:
    """(table, leaves digest, sizes digest) of a group. leaves: cut leaf hashes; frames: one per leaf."""
    sizes = struct.pack(f">{len(frames)}H", *map(len, frames))
    rest = sizes + b"".join(cut_digest(frame) for frame in frames if len(frame) < BLOCK)
    return leaves + rest, cut_digest(leaves), cut_digest(rest)


def decode_table(data: bytes, group: Group) -> Table:
    """Raises VerificationError when `data` is not the table of the group, DecodeError when that one is malformed."""
    where = f"delta leaves: the table of block {group.first}"
    leaves, rest = data[: group.count * DIGEST], data[group.count * DIGEST :]
    if cut_digest(leaves) != group.leaves_digest or cut_digest(rest) != group.sizes_digest:
        raise VerificationError(f"{where} is not the one that the groups name")
    table = Table(group, leaves, rest[: group.count * 2], rest[group.count * 2 :])
    sizes = _sizes(table.sizes)
    if len(data) != group.table or sum(sizes) != group.frames or not all(1 <= size <= BLOCK for size in sizes):
        raise DecodeError(f"{where} has other sizes than the groups say")
    if sum(size < BLOCK for size in sizes) != group.deflated:
        raise DecodeError(f"{where} has another number of deflated frames than the groups say")
    return table


def encode_frame(block: bytes | memoryview) -> bytes:
    """A block as raw deflate (RFC 1951), or as it is when that is not shorter."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(block) + packer.flush()
    return packed if len(packed) < BLOCK else bytes(block)


def decode_frame(data: bytes | memoryview, frame: Frame) -> bytes | memoryview:
    """The block. It is to be held against its leaf hash still: a stored one is not verified here.

    Raises VerificationError when `data` is not the deflated frame, DecodeError when that one is not one block.
    """
    if frame.digest is None:
        return data
    if cut_digest(data) != frame.digest:
        raise VerificationError(f"delta frames: the frame of block {frame.block} is not the one that the leaves name")
    unpacker = zlib.decompressobj(-15)
    try:
        block = unpacker.decompress(data, BLOCK + 1)
    except zlib.error as error:
        raise DecodeError(f"delta frames: the frame of block {frame.block} is not deflated: {error}") from error
    if len(block) != BLOCK or not unpacker.eof or unpacker.unused_data:
        raise DecodeError(f"delta frames: the frame of block {frame.block} is not one block")
    return block


def _sizes(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(data) // 2}H", data[: len(data) // 2 * 2])


def _check_sum(what: str, found: int, said: int, who: str) -> None:
    if found != said:
        raise DecodeError(f"delta groups: {found} {what}, {who} {said}")
