"""The right edge of a growing tree, in memory: enough for its root, and for the tiles that come next. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from appliance.formats.merkle import EMPTY_ROOT, node_hash, tree_hash
from appliance.formats.tlog_tiles import TILE_HEIGHT, TILE_WIDTH, Tile, encode_tile


class Frontier:
    """Roots of the complete subtrees that a tree of `size` is made of, widest first."""

    def __init__(self, size: int = 0, roots: Sequence[bytes] = ()) -> None:
        self.size = size
        self._roots = list(roots)

    def add(self, leaves: Iterable[bytes]) -> None:
        """Append leaf hashes."""
        roots, size, sha256 = self._roots, self.size, hashlib.sha256
        for leaf in leaves:
            value, carry = leaf, size
            while carry & 1:
                value = sha256(b"\1" + roots.pop() + value).digest()
                carry >>= 1
            roots.append(value)
            size += 1
        self.size = size

    def root(self) -> bytes:
        """RFC 6962 hash of the tree."""
        if not self._roots:
            return EMPTY_ROOT
        value = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            value = node_hash(left, value)
        return value


class UpperTiles:
    """The partial tiles of level 1 and above, for a tree whose size is a multiple of 256.

    rows: hashes of level 1, 2 and so on. full: tiles of level 0 that are under them.
    """

    def __init__(self, full: int = 0, rows: Sequence[Sequence[bytes]] = ()) -> None:
        self.full = full
        self._rows = [list(row) for row in rows]

    def copy(self) -> UpperTiles:
        """To work on."""
        return UpperTiles(self.full, self._rows)

    def add(self, hashes: Sequence[bytes]) -> list[tuple[Tile, bytes]]:
        """The 256 hashes of the next tile of level 0. Returns the tiles above that are full now, with their content."""
        self.full += 1
        done: list[tuple[Tile, bytes]] = []
        value, level, count = tree_hash(hashes), 1, self.full
        while True:
            if len(self._rows) < level:
                self._rows.append([])
            row = self._rows[level - 1]
            row.append(value)
            if len(row) < TILE_WIDTH:
                return done
            count >>= TILE_HEIGHT
            done.append((Tile(level, count - 1), encode_tile(row)))
            value, level = tree_hash(row), level + 1
            row.clear()

    def partial(self) -> list[tuple[Tile, bytes]]:
        """The partial tiles, with their content."""
        rows = enumerate(self._rows, 1)
        return [
            (Tile(level, self.full >> (TILE_HEIGHT * level), len(row)), encode_tile(row)) for level, row in rows if row
        ]

    def frontier(self) -> Frontier:
        """Of the tree under these tiles."""
        roots: list[bytes] = []
        for row in reversed(self._rows):
            at = 0
            for bit in reversed(range(TILE_HEIGHT)):
                if len(row) >> bit & 1:
                    roots.append(tree_hash(row[at : at + (1 << bit)]))
                    at += 1 << bit
        return Frontier(self.full * TILE_WIDTH, roots)
