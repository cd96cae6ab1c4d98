"""The end of the log in memory: entries since the last full bundle that is published, and the tree over all. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.audit.frontier import UpperTiles
from appliance.formats.merkle import leaf_hashes
from appliance.formats.tlog_tiles import BUNDLE, TILE_WIDTH, Tile, encode_bundle, encode_tile


@dataclass(frozen=True)
class Growth:
    """What a tree of one size has that a smaller one has not. upper: at its last full tile of level 0."""

    size: int
    files: list[tuple[Tile, bytes]]
    upper: UpperTiles


class Tail:
    """start: index of the first entry here, a multiple of 256. entries, leaves: from there on."""

    def __init__(self, upper: UpperTiles) -> None:
        self._upper = upper
        self._frontier = upper.frontier()
        self.entries: list[bytes] = []
        self._leaves: list[bytes] = []

    @property
    def start(self) -> int:
        """Index of entries[0]."""
        return self._upper.full * TILE_WIDTH

    @property
    def size(self) -> int:
        """Of the log."""
        return self._frontier.size

    def root(self) -> bytes:
        """Over all entries."""
        return self._frontier.root()

    def append(self, entries: Sequence[bytes]) -> None:
        """Add entries."""
        leaves = leaf_hashes(entries)
        self.entries += entries
        self._leaves += leaves
        self._frontier.add(leaves)

    def growth(self, old: int, new: int) -> Growth:
        """start <= old <= new <= size, and old - start < 256."""
        upper, files = self._upper.copy(), list[tuple[Tile, bytes]]()
        whole = new // TILE_WIDTH
        for index in range(upper.full, whole):
            entries, leaves = self._piece(index, TILE_WIDTH)
            files += [(Tile(BUNDLE, index), encode_bundle(entries)), (Tile(0, index), encode_tile(leaves))]
            files += upper.add(leaves)
        before = {tile for tile, _ in self._upper.partial()}
        files += [(tile, data) for tile, data in upper.partial() if tile not in before]
        width = new % TILE_WIDTH
        if width and new > old:
            entries, leaves = self._piece(whole, width)
            files += [
                (Tile(BUNDLE, whole, width), encode_bundle(entries)),
                (Tile(0, whole, width), encode_tile(leaves)),
            ]
        return Growth(new, files, upper)

    def advance(self, growth: Growth) -> None:
        """The files are published: forget what is in full bundles."""
        done = (growth.upper.full - self._upper.full) * TILE_WIDTH
        del self.entries[:done], self._leaves[:done]
        self._upper = growth.upper

    def leaves(self, index: int) -> list[bytes]:
        """Hashes of what is here of a tile of level 0."""
        return self._piece(index, TILE_WIDTH)[1]

    def _piece(self, index: int, width: int) -> tuple[list[bytes], list[bytes]]:
        at = index * TILE_WIDTH - self.start
        return self.entries[at : at + width], self._leaves[at : at + width]
