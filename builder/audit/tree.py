"""Whether a directory's files are one tree: entries against leaves, tiles against tiles, the rest against the root.

Every hash of a partial tile at the edge is part of the root, every full tile is hashed into its parent: so when the
root and the full tiles hold, every byte does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.core.errors import DecodeError, EdgesealError, VerificationError
from appliance.formats.merkle import leaf_hashes, root_hash, tree_hash
from appliance.formats.tlog_tiles import BUNDLE, TILE_HEIGHT, TILE_WIDTH, Tile, parse_path, tree_files
from builder.audit.directory import LogDirectory, is_left_over
from builder.audit.entries import Stretch, look
from builder.audit.finding import Finding


@dataclass(frozen=True)
class Task:
    """Bundles first to last, the last not included, of the log at `path` of `size` entries."""

    path: Path
    size: int
    first: int
    last: int


def check_bundles(task: Task) -> Stretch:
    """Each entry against its leaf, each leaf tile against its parent, and what holds from entry to entry."""
    log, stretch = LogDirectory(task.path), Stretch()
    for number in range(task.first, task.last):
        width = min(TILE_WIDTH, task.size - number * TILE_WIDTH)
        bundle = Tile(BUNDLE, number, width)
        start = number * TILE_WIDTH
        try:
            entries = log.entries(number, width)
            look(stretch, entries, start=start, file=bundle.path)
            hashes = log.tile(0, number, width)
        except DecodeError as error:
            stretch.findings.append(fault(error, bundle.path))
            continue
        found = leaf_hashes(entries)
        if found != hashes:
            stretch.findings += _different(found, hashes, start, bundle.path)
        if width == TILE_WIDTH:
            stretch.findings += check_parent(log, Tile(0, number), hashes, task.size)
    return stretch


def check_upper_tiles(log: LogDirectory, size: int, minimum: int) -> list[Finding]:
    """Every full tile above the leaves against its parent, and partial ones of their width."""
    findings = []
    for tile in tree_files(size, minimum):
        if tile.level < 1:
            continue
        try:
            hashes = log.tile(tile.level, tile.index, tile.width)
        except DecodeError as error:
            findings.append(fault(error, tile.path))
            continue
        if tile.width == TILE_WIDTH:
            findings += check_parent(log, tile, hashes, size)
    return findings


def check_root(log: LogDirectory, size: int, root: bytes) -> list[Finding]:
    """The edge of the tree against the signed root."""
    try:
        found = root_hash(size, log.nodes(size))
    except DecodeError as error:
        return [fault(error, "tile")]
    if found == root:
        return []
    return [Finding("checkpoint", "the tiles lead to another root than the signed one", None, root.hex(), found.hex())]


def check_other_files(log: LogDirectory, size: int, minimum: int) -> tuple[list[Finding], list[str]]:
    """Files that the tree does not need: partial tiles of smaller sizes must agree with it. Findings, and remarks."""
    needed = {tile.path for tile in tree_files(size, minimum)}
    findings, remarks = [], []
    for name in log.names():
        if name in needed or name in ("checkpoint", "vkey"):
            continue
        if is_left_over(name) or not name.startswith("tile/"):
            remarks.append(f"{name}: not part of a log, not looked at")
            continue
        try:
            findings += _left_over(log, name, size, remarks)
        except EdgesealError as error:
            findings.append(fault(error, name))
    return findings, remarks


def check_parent(log: LogDirectory, tile: Tile, hashes: Sequence[bytes], size: int) -> list[Finding]:
    """A full tile against the hash of it in the level above."""
    level, number, place = tile.level + 1, tile.index // TILE_WIDTH, tile.index % TILE_WIDTH
    width = min(TILE_WIDTH, (size >> (TILE_HEIGHT * level)) - number * TILE_WIDTH)
    try:
        expected = log.tile(level, number, width)[place]
    except DecodeError:
        return []  # told where that tile is looked at
    found = tree_hash(hashes)
    if found == expected:
        return []
    above = Tile(level, number, width).path
    return [Finding(tile.path, f"is not the tile that {above} has", None, expected.hex(), found.hex())]


def fault(error: EdgesealError, file: str) -> Finding:
    """An error of reading, where it was."""
    return Finding(error.place.file if error.place else file, error.message)


def _left_over(log: LogDirectory, name: str, size: int, remarks: list[str]) -> list[Finding]:
    tile = parse_path(name)
    start = tile.index * TILE_WIDTH
    height = TILE_HEIGHT * max(tile.level, 0)
    if start + tile.width > size >> height:
        remarks.append(f"{name}: beyond the checkpoint's size, signed by nobody yet, not looked at")
        return []
    if tile.width == TILE_WIDTH:
        remarks.append(f"{name}: below the minimum index, not looked at")
        return []
    width = min(TILE_WIDTH, (size >> height) - start)
    whole = log.entries(tile.index, width) if tile.level == BUNDLE else log.tile(tile.level, tile.index, width)
    part = log.content(tile)
    if part == whole[: tile.width]:
        return []
    raise VerificationError(f"an old partial tile that is not how {Tile(tile.level, tile.index, width).path} begins")


def _different(found: Sequence[bytes], hashes: Sequence[bytes], start: int, file: str) -> list[Finding]:
    pairs = enumerate(zip(found, hashes, strict=True), start)
    wrong = [(index, one, other) for index, (one, other) in pairs if one != other]
    message = "is not the entry that the tree has"
    return [Finding(file, message, index, other.hex(), one.hex()) for index, one, other in wrong]
