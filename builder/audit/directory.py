"""A log's directory as it lies on a disk: checkpoint, tiles, bundles. Reads and decodes; believes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from appliance.core.errors import DecodeError, InputError, Place
from appliance.formats.checkpoint import Checkpoint, decode_checkpoint
from appliance.formats.merkle import HASH_BYTES, NodeReader
from appliance.formats.signed_note import MAX_NOTE_BYTES, decode_note
from appliance.formats.tlog_tiles import (
    BUNDLE,
    CHECKPOINT_NAME,
    MAX_BUNDLE_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    Tile,
    decode_bundle,
    decode_tile,
    node_reader,
    parse_path,
)

_KEPT = 256


class LogDirectory:
    """Reading raises DecodeError with the file's path below the directory as place, also when there is no such file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tile = lru_cache(_KEPT)(self._tile)

    def note(self) -> bytes:
        """The signed checkpoint as it is. Raises InputError when this is no log."""
        if not (self.path / CHECKPOINT_NAME).is_file():
            hint = "give a directory with a checkpoint and tile/ (C2SP tlog-tiles)"
            raise InputError("there is no log", place=Place(str(self.path)), hint=hint)
        return self._read(CHECKPOINT_NAME, MAX_NOTE_BYTES + 1)

    def checkpoint(self) -> Checkpoint:
        """What the note says, its signatures unverified."""
        try:
            return decode_checkpoint(decode_note(self.note()).text)
        except DecodeError as error:
            raise DecodeError(error.message, place=Place(CHECKPOINT_NAME)) from error

    def content(self, tile: Tile) -> list[bytes]:
        """Hashes or entries of exactly this file."""
        limit = MAX_BUNDLE_BYTES if tile.level == BUNDLE else TILE_WIDTH * HASH_BYTES
        return self._decoded(tile, self._read(tile.path, limit + 1))

    def entries(self, number: int, width: int) -> list[bytes]:
        """Of a bundle, the first `width`: of the file of that width, or of the full one that came later."""
        return self.content(self._present(Tile(BUNDLE, number, width)))[:width]

    def nodes(self, size: int) -> NodeReader:
        """The nodes of a tree of `size`, out of tiles."""

        def read(level: int, index: int, width: int) -> list[bytes]:
            count = size >> (TILE_HEIGHT * level)
            whole = TILE_WIDTH if index < count >> TILE_HEIGHT else count % TILE_WIDTH
            return self.tile(level, index, max(width, whole))

        return node_reader(read)

    def first_bundle(self) -> int | None:
        """The lowest number of a bundle that is there; None when there is none."""
        return min((tile.index for tile in self.files() if tile.level == BUNDLE), default=None)

    def files(self) -> Iterator[Tile]:
        """Every tile and bundle, in order of path; not what an interrupted write left."""
        for name in self.names():
            if name.startswith("tile/") and not is_left_over(name):
                yield parse_path(name)

    def names(self) -> list[str]:
        """Every file below the directory, sorted."""
        found = []
        for directory, _, files in os.walk(self.path):
            below = Path(directory).relative_to(self.path).as_posix()
            found += [name if below == "." else f"{below}/{name}" for name in files]
        return sorted(found)

    def _tile(self, level: int, index: int, width: int) -> list[bytes]:
        return self.content(self._present(Tile(level, index, width)))[:width]

    def _present(self, tile: Tile) -> Tile:
        whole = Tile(tile.level, tile.index)
        there = (self.path / tile.path).is_file() or not (self.path / whole.path).is_file()
        return tile if there else whole

    def _decoded(self, tile: Tile, data: bytes) -> list[bytes]:
        try:
            return decode_bundle(data, tile.width) if tile.level == BUNDLE else decode_tile(data, tile.width)
        except DecodeError as error:
            raise DecodeError(error.message, place=Place(tile.path)) from error

    def _read(self, name: str, limit: int) -> bytes:
        try:
            with (self.path / name).open("rb") as stream:
                return stream.read(limit)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise DecodeError(f"cannot be read: {reason}", place=Place(name)) from error


def is_left_over(name: str) -> bool:
    """Whether it is a temporary file of a write that was killed (appliance.core.durable)."""
    return name.rpartition("/")[2].startswith(".")
