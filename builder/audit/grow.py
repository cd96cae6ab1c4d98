"""Adds entries to a log's directory: the tiles and bundles of the larger tree, durable before its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.core.durable import write_durable
from appliance.formats.merkle import leaf_hashes, root_hash, tree_hash
from appliance.formats.tlog_tiles import (
    BUNDLE,
    TILE_HEIGHT,
    TILE_WIDTH,
    Tile,
    encode_bundle,
    encode_tile,
    node_reader,
)
from builder.audit.directory import LogDirectory


class Growth:
    """The tree of `log`, whose checkpoint has `size` entries, with `entries` behind it; on the disk after write().

    Raises DecodeError when the edge of the present tree cannot be read.
    """

    def __init__(self, log: LogDirectory, size: int, entries: Sequence[bytes]) -> None:
        self._log = log
        self.size = size + len(entries)
        self._files: dict[Tile, bytes] = {}
        self._hashes: dict[tuple[int, int], list[bytes]] = {}
        self._bundles(size, entries)
        new, level, start = leaf_hashes(entries), 0, size
        while new:
            new, start = self._level(level, start, new)
            level += 1
        self.nodes = node_reader(self._read)
        self.root = root_hash(self.size, self.nodes)

    def write(self) -> None:
        """All files, each durable."""
        for tile, data in self._files.items():
            path = self._log.path / tile.path
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durable(path, data)

    def drop_old(self, size: int) -> None:
        """Remove the partial files of the tree of `size`, once a checkpoint needs them no more."""
        kept = set(self._files)
        for level in range(BUNDLE, 8):
            count = size >> (TILE_HEIGHT * max(level, 0))
            old = Tile(level, count // TILE_WIDTH, count % TILE_WIDTH) if count % TILE_WIDTH else None
            if old is not None and old not in kept and any(_covers(tile, old) for tile in kept):
                _remove(self._log.path / old.path)

    def _bundles(self, size: int, entries: Sequence[bytes]) -> None:
        if not entries:
            return
        number, have = divmod(size, TILE_WIDTH)
        waiting = [*(self._log.entries(number, have) if have else ()), *entries]
        for start in range(0, len(waiting), TILE_WIDTH):
            part = waiting[start : start + TILE_WIDTH]
            self._files[Tile(BUNDLE, number + start // TILE_WIDTH, len(part))] = encode_bundle(part)

    def _level(self, level: int, start: int, new: list[bytes]) -> tuple[list[bytes], int]:
        """Add hashes at a level; the hashes of the tiles that became full, and where they begin in the next level."""
        number, have = divmod(start, TILE_WIDTH)
        waiting = [*(self._log.tile(level, number, have) if have else ()), *new]
        above = []
        for at in range(0, len(waiting), TILE_WIDTH):
            part = waiting[at : at + TILE_WIDTH]
            index = number + at // TILE_WIDTH
            self._files[Tile(level, index, len(part))] = encode_tile(part)
            self._hashes[level, index] = part
            if len(part) == TILE_WIDTH:
                above.append(tree_hash(part))
        return above, number

    def _read(self, level: int, index: int, width: int) -> Sequence[bytes]:
        made = self._hashes.get((level, index))
        if made is not None:
            return made
        count = self.size >> (TILE_HEIGHT * level)
        whole = TILE_WIDTH if index < count >> TILE_HEIGHT else count % TILE_WIDTH
        return self._log.tile(level, index, max(width, whole))


def _covers(tile: Tile, old: Tile) -> bool:
    return (tile.level, tile.index) == (old.level, old.index) and tile.width > old.width


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    if path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()
