"""Tiled transparency logs: which files there are, and what is in them. Spec: c2sp.org/tlog-tiles. Pure.

A tile of level L holds up to 256 hashes, each the root of a complete subtree of height 8 * L. An entry bundle holds the
entries under a tile of level 0. Both are numbered from the left, and partial at the right edge of the tree.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from appliance.core.errors import DecodeError, VerificationError
from appliance.formats.merkle import HASH_BYTES, NodeReader, leaf_hashes, tree_hash

TILE_HEIGHT = 8
TILE_WIDTH = 256
MAX_LEVEL = 7
"""Of a tree below 2^63 entries. (The specification allows level numbers up to 63.)"""
MAX_ENTRY_BYTES = 0xFFFF
MAX_BUNDLE_BYTES = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
CHECKPOINT_NAME = "checkpoint"
ENTRIES = "entries"

_PATH = re.compile(r"tile/(entries|[0-9]{1,2})/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
_LENGTH = struct.Struct(">H")


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """One file. level: of its hashes, or BUNDLE. index: from the left. width: 1 to 256 hashes or entries."""

    level: int
    index: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """Below the log's prefix."""
        level = ENTRIES if self.level < 0 else str(self.level)
        return f"tile/{level}/{number_path(self.index)}" + (f".p/{self.width}" if self.width < TILE_WIDTH else "")

    @property
    def end(self) -> int:
        """End index: entries below it are all that the full tile spans."""
        return (self.index + 1) << (TILE_HEIGHT * (max(self.level, 0) + 1))


BUNDLE = -1
"""Tile.level of an entry bundle."""

TileReader = Callable[[int, int, int], Sequence[bytes]]
"""(level, index, least width) -> hashes of a tile, at least so many. Raises what the storage raises."""


def number_path(index: int) -> str:
    """1234067 is x001/x234/067."""
    path = f"{index % 1000:03}"
    while index >= 1000:
        index //= 1000
        path = f"x{index % 1000:03}/{path}"
    return path


def parse_path(path: str) -> Tile:
    """Raises DecodeError on anything that is not the path of a tile or bundle."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise DecodeError(f"`{path[:120]}` is not the path of a tile")
    level = BUNDLE if match[1] == ENTRIES else int(match[1])
    tile = Tile(level, int(match[2].replace("/", "").replace("x", "")), int(match[3] or TILE_WIDTH))
    if tile.path != path or level > 63:
        raise DecodeError(f"`{path[:120]}` is not the path of a tile")
    return tile


def edge_tiles(size: int) -> tuple[Tile, ...]:
    """The partial tiles of a tree, from level 0 up."""
    levels = range(_levels(size))
    return tuple(tile for level in levels if (tile := _rightmost(level, size)) is not None)


def tree_files(size: int, minimum: int = 0) -> Iterator[Tile]:
    """Every tile and bundle that a log of `size` must serve when its minimum index is `minimum`, in order of level."""
    for level in (BUNDLE, *range(_levels(size))):
        height = TILE_HEIGHT * max(level, 0)
        count = size >> height
        for index in range(minimum >> (height + TILE_HEIGHT), count >> TILE_HEIGHT):
            yield Tile(level, index)
        if count % TILE_WIDTH:
            yield Tile(level, count >> TILE_HEIGHT, count % TILE_WIDTH)


def tile_of(height: int, index: int) -> tuple[int, int, int, int]:
    """(level, tile index, first, count): the node (height, index) is the root over these hashes of that tile."""
    level, rest = divmod(height, TILE_HEIGHT)
    first = index << rest
    return level, first >> TILE_HEIGHT, first % TILE_WIDTH, 1 << rest


def node_reader(tile: TileReader) -> NodeReader:
    """Nodes out of tiles."""

    def read(height: int, index: int) -> bytes:
        level, number, first, count = tile_of(height, index)
        return tree_hash(tile(level, number, first + count)[first : first + count])

    return read


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Raises DecodeError when an entry is too large, or there are none or too many."""
    if not 1 <= len(entries) <= TILE_WIDTH:
        raise DecodeError(f"entry bundle: {len(entries)} entries, 1 to {TILE_WIDTH} are allowed")
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise DecodeError(f"entry bundle: an entry of {len(entry)} bytes, at most {MAX_ENTRY_BYTES} are allowed")
    return b"".join([_LENGTH.pack(len(entry)) + entry for entry in entries])


def decode_bundle(data: bytes, width: int) -> list[bytes]:
    """Exactly `width` entries. Raises DecodeError."""
    entries: list[bytes] = []
    at, end = 0, len(data)
    while at < end:
        start = at + 2
        at = start + int.from_bytes(data[at:start], "big")
        if at > end or start > end:
            raise DecodeError(f"entry bundle: ends within entry {len(entries)}")
        entries.append(data[start:at])
        if len(entries) > width:
            break
    if len(entries) != width:
        raise DecodeError(f"entry bundle: {'more' if len(entries) > width else len(entries)} entries, not {width}")
    return entries


def encode_tile(hashes: Sequence[bytes]) -> bytes:
    """Hashes of 32 bytes, one after the other."""
    return b"".join(hashes)


def decode_tile(data: bytes, width: int) -> list[bytes]:
    """Exactly `width` hashes. Raises DecodeError."""
    if len(data) != width * HASH_BYTES:
        raise DecodeError(f"tile: {len(data)} bytes, {width} hashes have {width * HASH_BYTES}")
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def verify_bundle(entries: Sequence[bytes], hashes: Sequence[bytes], start: int) -> None:
    """Hold entries against the hashes of level 0 over them. start: index of the first. Raises VerificationError."""
    found = leaf_hashes(entries)
    if found == list(hashes):
        return
    for offset, (one, other) in enumerate(zip(found, hashes, strict=False)):
        if one != other:
            raise VerificationError(f"entry {start + offset} is not the one that the tree has")
    raise VerificationError(f"entries from {start}: {len(found)}, the tree has {len(hashes)}")


def _levels(size: int) -> int:
    return max(0, size.bit_length() - 1) // TILE_HEIGHT + 1 if size else 0


def _rightmost(level: int, size: int) -> Tile | None:
    count = size >> (TILE_HEIGHT * level)
    return Tile(level, count >> TILE_HEIGHT, count % TILE_WIDTH) if count % TILE_WIDTH else None
