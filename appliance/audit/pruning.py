"""The log's minimum index: what is below may be gone. Spec: c2sp.org/tlog-tiles, section Pruning.

A full tile or bundle is removed when its end index is not above the minimum index. So every entry from there on, the
root of every size from there on, and every proof between them can still be made.
"""

from __future__ import annotations

from pathlib import Path

from appliance.audit.damage import LogDamagedError
from appliance.audit.disk import Disk
from appliance.audit.public import Public
from appliance.core.errors import DecodeError
from appliance.formats.audit_journal import PrunedState, decode_pruned, encode_state
from appliance.formats.tlog_tiles import BUNDLE, TILE_HEIGHT, TILE_WIDTH, Tile

NAME = "pruned"


class Pruning:
    """The minimum index and what it removed."""

    def __init__(self, disk: Disk, state: Path, public: Public) -> None:
        """Finishes what a power cut has interrupted. Raises LogDamagedError, OSError."""
        self._disk = disk
        self._state = state
        self._public = public
        self.now = self._read()
        self._sweep()

    def prune(self, minimum: int, base: int) -> None:
        """Raise the minimum index. base: nothing above it is removed. Durable when it returns."""
        removed = max(self.now.removed, min(minimum, base) // TILE_WIDTH * TILE_WIDTH)
        gone = range(self.now.removed // TILE_WIDTH, removed // TILE_WIDTH)
        bundles = self.now.bundles + sum(map(self._public.bundle_bytes, gone))
        self._write(PrunedState(minimum=minimum, removed=removed, swept=self.now.swept, bundles=bundles))
        self._sweep()

    def minimum_to_free(self, wanted: int, limit: int) -> int:
        """The least multiple of 256 that frees at least `wanted` bytes, `limit` where there is none up to it."""
        index, freed = self.now.removed // TILE_WIDTH, 0
        while freed < wanted and (index + 1) * TILE_WIDTH <= limit:
            freed += self._public.bundle_bytes(index) + TILE_WIDTH * 32
            index += 1
        return max(self.now.minimum, min(index * TILE_WIDTH, limit))

    def tiles_gone(self) -> int:
        """How many full tiles, bundles not counted, were removed."""
        return sum(tile.level != BUNDLE for tile in _ending_between(0, self.now.removed, first_level=1)) + (
            self.now.removed // TILE_WIDTH
        )

    def _sweep(self) -> None:
        now = self.now
        if now.swept < now.removed:
            self._public.remove(_ending_between(now.swept, now.removed))
            self._write(PrunedState(minimum=now.minimum, removed=now.removed, swept=now.removed, bundles=now.bundles))

    def _read(self) -> PrunedState:
        data = self._disk.read(self._state / NAME)
        if data is None:
            return PrunedState()
        try:
            return decode_pruned(data)
        except DecodeError as error:
            raise LogDamagedError(NAME, error.message) from error

    def _write(self, state: PrunedState) -> None:
        self._disk.write_synced(self._state / "new-pruned", encode_state(state))
        self._disk.rename(self._state / "new-pruned", self._state / NAME)
        self._disk.sync_directory(self._state)
        self.now = state


def _ending_between(low: int, high: int, *, first_level: int = BUNDLE) -> list[Tile]:
    """Full tiles and bundles whose end index is above `low` and not above `high`."""
    found = []
    level = first_level
    while high >> (TILE_HEIGHT * (max(level, 0) + 1)):
        height = TILE_HEIGHT * (max(level, 0) + 1)
        found += [Tile(level, index) for index in range(low >> height, high >> height)]
        level += 1
    return found
