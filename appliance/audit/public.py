"""The log's public directory: tiles, bundles and the checkpoint, as c2sp.org/tlog-tiles has them.

Whatever it holds is whole, durable, and covered by the checkpoint or by the next one: files are written and synced
under the state directory, renamed, their directories synced, and only then is the checkpoint replaced the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from appliance.audit.damage import LogDamagedError
from appliance.audit.disk import Disk, charge
from appliance.core.errors import DecodeError
from appliance.formats.checkpoint import Checkpoint, decode_checkpoint
from appliance.formats.signed_note import decode_note
from appliance.formats.tlog_tiles import (
    BUNDLE,
    CHECKPOINT_NAME,
    TILE_HEIGHT,
    TILE_WIDTH,
    Tile,
    decode_bundle,
    decode_tile,
)

_KEPT_TILES = 16
NEW = "new"
"""Prefix of the names under which files wait in the state directory."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint and the note that signs it."""

    checkpoint: Checkpoint
    note: bytes

    @property
    def size(self) -> int:
        """Entries."""
        return self.checkpoint.size


class Public:
    """The directory. size: of the tree that its checkpoint signs; the caller keeps it up to date."""

    def __init__(self, disk: Disk, directory: Path, state: Path) -> None:
        self._disk = disk
        self._directory = directory
        self._state = state
        self._cache: dict[Tile, list[bytes]] = {}
        self.size = 0

    def checkpoint(self) -> Signed | None:
        """What stands there, its signatures unverified; None when there is none. Raises LogDamagedError."""
        note = self._disk.read(self._directory / CHECKPOINT_NAME)
        if note is None:
            return None
        try:
            return Signed(decode_checkpoint(decode_note(note).text), note)
        except DecodeError as error:
            raise LogDamagedError(CHECKPOINT_NAME, error.message) from error

    def read(self, level: int, index: int, width: int) -> list[bytes]:
        """Hashes of a tile, or entries of a bundle, of the tree of `size`; at least `width`. Raises LogDamagedError."""
        count = self.size >> (TILE_HEIGHT * max(level, 0))
        tile = Tile(level, index, TILE_WIDTH if index < count >> TILE_HEIGHT else count % TILE_WIDTH)
        if index > count >> TILE_HEIGHT or tile.width < width:
            raise LookupError(f"{tile.path} with {width} of a tree of {self.size}")
        found = self._cache.pop(tile, None) or self._load(tile)
        self._cache[tile] = found
        if len(self._cache) > _KEPT_TILES:
            del self._cache[next(iter(self._cache))]
        return found

    def write(self, files: Sequence[tuple[Tile, bytes]]) -> int:
        """Put whole files in their places, durably. Returns bytes on the disk that partial tiles took."""
        for number, (_, data) in enumerate(files):
            self._disk.write_synced(self._state / f"{NEW}-{number}", data)
        changed, taken = dict[Path, None](), 0
        for number, (tile, data) in enumerate(files):
            path = self._directory / tile.path
            self._make(PurePosixPath(tile.path).parent)
            if tile.width < TILE_WIDTH:
                taken += charge(len(data)) - charge(self._disk.size(path) or 0)
            self._disk.rename(self._state / f"{NEW}-{number}", path)
            changed[path.parent] = None
        for directory in changed:
            self._disk.sync_directory(directory)
        return taken

    def replace_checkpoint(self, note: bytes) -> None:
        """Durable when it returns. Everything that it signs has to be before."""
        self._disk.write_synced(self._state / f"{NEW}-checkpoint", note)
        self._disk.rename(self._state / f"{NEW}-checkpoint", self._directory / CHECKPOINT_NAME)
        self._disk.sync_directory(self._directory)

    def remove_waiting(self) -> None:
        """What an interrupted write has left under the state directory."""
        for name in sorted(self._disk.sizes(self._state)):
            if name.startswith(f"{NEW}-"):
                self._disk.remove(self._state / name)

    def remove_partial(self, level: int, index: int) -> int:
        """Partial tiles of one whose full one is there. Durable when it returns. Returns bytes freed on the disk."""
        directory = self._partials(level, index)
        sizes = self._disk.sizes(directory)
        for name in sorted(sizes):
            self._disk.remove(directory / name)
        if sizes:
            self._disk.remove_directory(directory)
            self._disk.sync_directory(directory.parent)
        return sum(map(charge, sizes.values()))

    def partial_bytes(self, level: int, index: int) -> int:
        """Bytes on the disk of a tile's partial ones."""
        return sum(map(charge, self._disk.sizes(self._partials(level, index)).values()))

    def bundle_bytes(self, index: int) -> int:
        """Bytes on the disk of a full bundle; 0 when it is gone."""
        return charge(self._disk.size(self._directory / Tile(BUNDLE, index).path) or 0)

    def remove(self, tiles: Sequence[Tile]) -> None:
        """Remove full tiles, and directories that are empty after that. Durable when it returns."""
        changed = dict[Path, None]()
        for tile in tiles:
            path = self._directory / tile.path
            self._disk.remove(path)
            self._cache.pop(tile, None)
            changed[path.parent] = None
        for directory in changed:
            if directory.name.startswith("x"):
                self._disk.remove_directory(directory)
            self._disk.sync_directory(directory if self._disk.is_directory(directory) else directory.parent)

    def _partials(self, level: int, index: int) -> Path:
        return (self._directory / Tile(level, index, 1).path).parent

    def _make(self, relative: PurePosixPath) -> None:
        path = self._directory / relative
        if self._disk.is_directory(path):
            return
        self._make(relative.parent)
        self._disk.make_directory(path)
        self._disk.sync_directory(path.parent)

    def _load(self, tile: Tile) -> list[bytes]:
        data = self._disk.read(self._directory / tile.path)
        first = None if tile.level > 0 else tile.index * TILE_WIDTH
        if data is None:
            raise LogDamagedError(tile.path, "is missing", index=first)
        try:
            return decode_bundle(data, tile.width) if tile.level == BUNDLE else decode_tile(data, tile.width)
        except DecodeError as error:
            raise LogDamagedError(tile.path, error.message, index=first) from error
