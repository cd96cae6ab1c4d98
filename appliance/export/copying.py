"""Which files of a log go where on a medium, and in which order. Spec: docs/specs/audit-log.md (v2), On a medium.

The checkpoint goes last, when everything that it calls for is durable: whenever the medium is pulled out, what it has
is a log that verifies, as it was copied before or as it is now.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from appliance.core.errors import DecodeError, EdgesealError
from appliance.export.medium import Medium
from appliance.export.tree import Tree
from appliance.formats.checkpoint import Checkpoint, decode_checkpoint
from appliance.formats.signed_note import MAX_NOTE_BYTES, decode_note
from appliance.formats.tlog_tiles import (
    BUNDLE,
    CHECKPOINT_NAME,
    MAX_BUNDLE_BYTES,
    TILE_WIDTH,
    Tile,
    decode_bundle,
    decode_tile,
    encode_bundle,
    encode_tile,
    parse_path,
    tree_files,
)

TOP = "edgeseal-audit"
LOG = "tlog"
VKEY = "vkey"
MAX_VKEY_BYTES = 64 << 10
TRIES = 5
_ORIGIN = re.compile(r"edgeseal\.audit/([A-Za-z0-9][A-Za-z0-9._-]{0,63})/([0-9a-f]{8})")
_ASIDE = re.compile(re.escape(LOG) + r"(\.rejected-[0-9]{1,6})")


@dataclass(frozen=True)
class Copied:
    """entries: that the copies' checkpoints cover and whose bundles the device still has."""

    logs: int
    entries: int


class _GoneError(Exception):
    """A file that the checkpoint called for is no longer there: entries were given up meanwhile."""


def copy_logs(source: Tree, medium: Medium) -> Copied:
    """The log, then those that were put aside. Raises EdgesealError; each log on the medium is whole even then."""
    medium.begin()
    device, entries = _copy_log(source, medium)
    aside = [name for name in source.names() if _ASIDE.fullmatch(name)]
    for name in aside:
        entries += _copy_aside(source, name, medium, device)
    return Copied(1 + len(aside), entries)


def published(source: Tree, log: str = LOG) -> tuple[Checkpoint, bytes] | None:
    """The log's checkpoint, unverified, and its note; None when there is none. Raises EdgesealError, DecodeError."""
    return _checkpoint(source, f"{log}/{CHECKPOINT_NAME}")


def _copy_log(source: Tree, medium: Medium) -> tuple[str, int]:
    """(the device, entries)."""
    for _ in range(TRIES):
        found = published(source)
        if found is None:
            raise EdgesealError("the log has no checkpoint yet")
        checkpoint, note = found
        device, log = _names(checkpoint.origin)
        first = _first_bundle(source)
        if first * TILE_WIDTH > checkpoint.size:
            continue  # it was read before entries were given up
        target = _target(medium, f"{TOP}/{device}", log, checkpoint, first)
        try:
            for tile in tree_files(checkpoint.size, first * TILE_WIDTH):
                medium.put(f"{target}/{tile.path}", _content(source, tile))
        except _GoneError:
            continue
        _finish(source, LOG, medium, target, note)
        return device, checkpoint.size - first * TILE_WIDTH
    raise EdgesealError("the log gave up entries faster than they could be copied")


def _copy_aside(source: Tree, name: str, medium: Medium, device: str) -> int:
    """Everything that is left of it, as it is: it may be damaged. Returns its entries as far as that can be said."""
    log, entries, note = name, 0, None
    try:
        found = published(source, name)
        if found is not None:
            checkpoint, note = found
            device, log = _names(checkpoint.origin)
            log += name.removeprefix(LOG)
            entries = max(0, checkpoint.size - _first_bundle(source, name) * TILE_WIDTH)
    except DecodeError:
        note = source.read(f"{name}/{CHECKPOINT_NAME}", MAX_NOTE_BYTES)
    target = f"{TOP}/{device}/{log}"
    for tile in _tiles(source, name):
        data = source.read(f"{name}/{tile.path}", MAX_BUNDLE_BYTES)
        if data is not None:
            medium.put(f"{target}/{tile.path}", data)
    _finish(source, name, medium, target, note)
    return entries


def _finish(source: Tree, log: str, medium: Medium, target: str, note: bytes | None) -> None:
    vkey = source.read(f"{log}/{VKEY}", MAX_VKEY_BYTES)
    if vkey is not None:
        medium.put(f"{target}/{VKEY}", vkey)
    medium.sync()
    if note is not None:
        medium.put(f"{target}/{CHECKPOINT_NAME}", note)
        medium.sync()


def _target(medium: Medium, device: str, log: str, checkpoint: Checkpoint, first: int) -> str:
    """The directory for it: that of an earlier copy that it continues, or a new one.

    A copy that ends before the first entry that is still there cannot be continued, it would have a hole. One that the
    log here does not continue is evidence, and stays: raises EdgesealError.
    """
    start = first * TILE_WIDTH
    newest, place = -1, ""
    for name in medium.names(device):
        if name != log and not name.startswith(f"{log}-from-"):
            continue
        there = _readable(medium, f"{device}/{name}/{CHECKPOINT_NAME}", checkpoint.origin)
        if there is None or there.size <= newest:
            continue
        if there.size > checkpoint.size:
            raise EdgesealError(
                f"medium: {device}/{name} has {there.size} entries of this log, the device {checkpoint.size}: "
                "it is of a later time, or the device was rolled back"
            )
        if there.size == checkpoint.size and there.root != checkpoint.root:
            raise EdgesealError(f"medium: {device}/{name} has other entries in the name of this log")
        newest, place = there.size, name
    if newest >= start and place:
        return f"{device}/{place}"
    return f"{device}/{log}" if start == 0 else f"{device}/{log}-from-{start}"


def _readable(medium: Medium, path: str, origin: str) -> Checkpoint | None:
    """None for one that is damaged, missing, or of another log: it stands for nothing."""
    try:
        found = _checkpoint(medium, path)
    except DecodeError:
        return None
    return found[0] if found is not None and found[0].origin == origin else None


def _checkpoint(tree: Tree, path: str) -> tuple[Checkpoint, bytes] | None:
    note = tree.read(path, MAX_NOTE_BYTES)
    return None if note is None else (decode_checkpoint(decode_note(note).text), note)


def _content(source: Tree, tile: Tile) -> bytes:
    """Exactly what the tree has in this file; of a partial one that was full meanwhile, its beginning."""
    data = source.read(f"{LOG}/{tile.path}", MAX_BUNDLE_BYTES)
    if data is not None:
        return data
    data = source.read(f"{LOG}/{Tile(tile.level, tile.index).path}", MAX_BUNDLE_BYTES)
    if data is None:
        raise _GoneError
    if tile.level == BUNDLE:
        return encode_bundle(decode_bundle(data, TILE_WIDTH)[: tile.width])
    return encode_tile(decode_tile(data, TILE_WIDTH)[: tile.width])


def _first_bundle(source: Tree, log: str = LOG) -> int:
    """Number of the lowest bundle; 0 when there is none."""
    return min((tile.index for tile in _tiles(source, log) if tile.level == BUNDLE), default=0)


def _tiles(source: Tree, log: str) -> Iterator[Tile]:
    """The files of a log that have the name of one."""
    for path in source.files(f"{log}/tile"):
        try:
            yield parse_path(path.removeprefix(f"{log}/"))
        except DecodeError:
            continue


def _names(origin: str) -> tuple[str, str]:
    """(device, log) of an origin. Raises DecodeError."""
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        raise DecodeError(f"`{origin[:120]}` is not the origin of a device's log")
    return match[1], match[2]
