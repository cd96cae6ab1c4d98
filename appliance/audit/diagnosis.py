"""Which file is wrong, when the tiles at the right edge do not lead to the root that was signed."""

from __future__ import annotations

from appliance.audit.damage import LogDamagedError
from appliance.audit.public import Public
from appliance.audit.tail import Tail
from appliance.core.errors import VerificationError
from appliance.formats.merkle import leaf_hashes, tree_hash
from appliance.formats.tlog_tiles import BUNDLE, TILE_HEIGHT, TILE_WIDTH, Tile, edge_tiles, verify_bundle


def find(public: Public, tail: Tail) -> None:
    """Raises LogDamagedError for the first file that others speak against; returns when they all agree."""
    for index in range(tail.start // TILE_WIDTH, -(-public.size // TILE_WIDTH)):
        _check_edge(public, tail, index)
    for tile in edge_tiles(public.size):
        if tile.level > 0:
            _check_upper(public, tile)


def _check_edge(public: Public, tail: Tail, index: int) -> None:
    """The journal has these entries as well."""
    width = min(TILE_WIDTH, public.size - index * TILE_WIDTH)
    kept = tail.leaves(index)[:width]
    tile = Tile(0, index, width)
    for offset, (one, other) in enumerate(zip(public.read(0, index, width), kept, strict=False)):
        if one != other:
            raise LogDamagedError(
                tile.path, f"hash {offset} is not of the journal's entry", index=index * TILE_WIDTH + offset
            )


def _check_upper(public: Public, tile: Tile) -> None:
    for offset, expected in enumerate(public.read(tile.level, tile.index, tile.width)):
        below = (tile.index << TILE_HEIGHT) + offset
        first = below << (TILE_HEIGHT * tile.level)
        try:
            hashes = public.read(tile.level - 1, below, TILE_WIDTH)
        except LogDamagedError:
            continue  # pruned, or gone: nothing there speaks against this hash
        if tree_hash(hashes) == expected:
            continue
        if tile.level == 1:
            _check_bundle(public, below, hashes)
        raise LogDamagedError(
            tile.path, f"hash {offset} is not the root of {Tile(tile.level - 1, below).path}", index=first
        )


def _check_bundle(public: Public, index: int, hashes: list[bytes]) -> None:
    """Entries that speak against their tile make the tile the wrong one."""
    try:
        verify_bundle(public.read(BUNDLE, index, TILE_WIDTH), hashes, index * TILE_WIDTH)
    except VerificationError as error:
        entries = public.read(BUNDLE, index, TILE_WIDTH)
        pairs = enumerate(zip(leaf_hashes(entries), hashes, strict=False))
        at = next((offset for offset, (one, other) in pairs if one != other), 0)
        raise LogDamagedError(Tile(0, index).path, error.message, index=index * TILE_WIDTH + at) from error
