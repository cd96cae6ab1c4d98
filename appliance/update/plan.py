"""Which blocks of a new root are there already, which the running root has, and which must be fetched. No I/O.

Leaf hashes are cut ones (16 bytes), one behind the other.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from appliance.formats.delta_index import DIGEST, Frame, Group, Table, cut_digest, cut_groups
from appliance.update.ranges import ByteRange

KEEP = -1
FETCH = -2

GAP = 512
"""Bytes between two wanted stretches that are fetched rather than asked around: about what a request costs."""
SPAN = 1 << 18
"""The longest stretch that is asked for at once: it is held in memory."""


class Known:
    """What the running root has. unusable: blocks that turned out to be others than the leaf hashes say."""

    def __init__(self, leaves: bytes, *, unusable: Collection[int] = ()) -> None:
        self._leaves = leaves
        total = len(leaves) // DIGEST
        self._blocks = {self.leaf(block): block for block in reversed(range(total)) if block not in unusable}
        self._groups = {
            cut_digest(leaves[first * DIGEST : (first + count) * DIGEST]): first
            for first, count in cut_groups(leaves)
            if not any(first <= block < first + count for block in unusable)
        }

    def leaf(self, block: int) -> bytes:
        """The leaf hash that a block is said to have."""
        return self._leaves[block * DIGEST : (block + 1) * DIGEST]

    def block(self, leaf: bytes) -> int | None:
        """A block with that leaf hash."""
        return self._blocks.get(leaf)

    def group(self, group: Group) -> int | None:
        """Where the same blocks stand in the same order."""
        return self._groups.get(group.leaves_digest)


def unknown_groups(groups: Sequence[Group], present: bytes, known: Known) -> list[Group]:
    """The groups whose tables are needed. present: leaf hashes of what the slot holds where the new root will stand."""
    return [group for group in groups if not _is_present(group, present) and known.group(group) is None]


def plan_blocks(groups: Sequence[Group], tables: Mapping[int, Table], present: bytes, known: Known) -> array[int]:
    """For each block of the new root KEEP, FETCH or the running root's block that is the same.

    tables: by first block, of all the groups that `unknown_groups` names.
    """
    origin = array("q")
    for group in groups:
        start = known.group(group)
        if _is_present(group, present):
            origin.extend([KEEP] * group.count)
        elif start is not None:
            origin.extend(range(start, start + group.count))
        else:
            leaves = tables[group.first].leaves
            origin.extend(_origins(leaves, known))
        _keep(origin, group, present, known, tables)
    return origin


def _origins(leaves: bytes, known: Known) -> Iterator[int]:
    for at in range(0, len(leaves), DIGEST):
        block = known.block(leaves[at : at + DIGEST])
        yield FETCH if block is None else block


def _keep(origin: array[int], group: Group, present: bytes, known: Known, tables: Mapping[int, Table]) -> None:
    """What is right already stays, wherever else it could come from."""
    for number in range(group.count):
        block = group.first + number
        if origin[block] == KEEP:
            continue
        if origin[block] == FETCH:
            wanted = tables[group.first].leaves[number * DIGEST : (number + 1) * DIGEST]
        else:
            wanted = known.leaf(origin[block])
        if present[block * DIGEST : (block + 1) * DIGEST] == wanted:
            origin[block] = KEEP


def _is_present(group: Group, present: bytes) -> bool:
    return cut_digest(present[group.first * DIGEST : (group.first + group.count) * DIGEST]) == group.leaves_digest


@dataclass(frozen=True, slots=True)
class Run:
    """`count` blocks from `source` on in the running root, for `target` and the ones behind it."""

    target: int
    source: int
    count: int


def copy_runs(origin: Sequence[int], *, longest: int) -> Iterator[Run]:
    """All that the running root gives, in stretches of at most `longest` blocks."""
    target, total = 0, len(origin)
    while target < total:
        source, count = origin[target], 1
        if source >= 0:
            while count < longest and target + count < total and origin[target + count] == source + count:
                count += 1
            yield Run(target, source, count)
        target += count


def missing_frames(origin: Sequence[int], tables: Iterable[Table]) -> tuple[list[Frame], dict[bytes, list[int]]]:
    """What must be fetched: a frame for each leaf hash, and, by leaf hash, the other blocks that it is for as well."""
    frames: dict[bytes, Frame] = {}
    others: dict[bytes, list[int]] = {}
    for table in tables:
        for frame in table.frames():
            if origin[frame.block] != FETCH:
                continue
            if frame.leaf in frames:
                others.setdefault(frame.leaf, []).append(frame.block)
            else:
                frames[frame.leaf] = frame
    return list(frames.values()), others


Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Span(Generic[Thing]):
    """One stretch of a file, and the things in it that are wanted."""

    range: ByteRange
    items: tuple[Thing, ...]


def spans(wanted: Iterable[tuple[int, int, Thing]], *, gap: int = GAP, longest: int = SPAN) -> Iterator[Span[Thing]]:
    """Coalesce. wanted: (offset, length, thing), ascending and apart. A span is longer than `longest` only when it is
    one thing that is.
    """
    begin = end = 0
    items: list[Thing] = []
    for offset, length, item in wanted:
        if items and (offset - end > gap or offset + length - begin > longest):
            yield Span(ByteRange(begin, end - begin), tuple(items))
            items = []
        if not items:
            begin = offset
        items.append(item)
        end = offset + length
    if items:
        yield Span(ByteRange(begin, end - begin), tuple(items))
