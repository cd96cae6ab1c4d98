"""The entries of a directory, one after the other, as they stand there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from appliance.core.errors import DecodeError, Place
from appliance.formats.audit_log import LogEntry, decode_entry
from appliance.formats.tlog_tiles import BUNDLE, TILE_WIDTH, Tile
from builder.audit.directory import LogDirectory


def read_entries(path: Path, *, start: int = 0) -> Iterator[LogEntry]:
    """From index `start`, or from the first one that was not pruned. Nothing is verified.

    Raises InputError when there is no log, DecodeError with the file of an entry that cannot be read.
    """
    log = LogDirectory(path)
    size = log.checkpoint().size
    first = max(start // TILE_WIDTH, log.first_bundle() or 0)
    for number in range(first, -(-size // TILE_WIDTH)):
        width = min(TILE_WIDTH, size - number * TILE_WIDTH)
        for index, data in enumerate(log.entries(number, width), number * TILE_WIDTH):
            if index >= start:
                try:
                    yield decode_entry(data, index=index)
                except DecodeError as error:
                    raise DecodeError(error.message, place=Place(Tile(BUNDLE, number, width).path)) from error
