"""Opening the log: the journal is replayed over the tiles, and held against every checkpoint on the way.

Only the right edge is read: the partial tiles of the published tree, and the journal, which is a few MiB at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.audit import diagnosis
from appliance.audit.damage import LogDamagedError, LogRolledBackError
from appliance.audit.disk import Disk
from appliance.audit.frontier import UpperTiles
from appliance.audit.journal import NAME as JOURNAL
from appliance.audit.journal import Journal, Replayed, replay
from appliance.audit.public import Public, Signed
from appliance.audit.tail import Tail
from appliance.core.errors import DecodeError, InputError
from appliance.formats.audit_journal import JournalBegin
from appliance.formats.checkpoint import decode_checkpoint
from appliance.formats.signed_note import decode_note
from appliance.formats.tlog_tiles import CHECKPOINT_NAME, TILE_HEIGHT, TILE_WIDTH


@dataclass
class Recovered:
    """An open log. signed: the newest signed checkpoint, published or not."""

    begin: JournalBegin
    journal: Journal
    tail: Tail
    public: Public
    published: Signed | None
    signed: Signed | None
    torn: int


def recover(disk: Disk, directory: Path, state: Path, *, floor: int) -> Recovered:
    """Changes nothing. floor: entries that the log has at least.

    Raises InputError when there is no log, LogDamagedError, LogRolledBackError, OSError.
    """
    found = replay(disk, state)
    public = Public(disk, directory, state)
    published = public.checkpoint()
    if found is None:
        if published is not None:
            raise LogDamagedError(JOURNAL, "is missing", index=published.size)
        raise InputError(f"audit log: there is none in {directory}")
    replayed, journal = found
    notes = [_signed(note, replayed.begin.origin) for _, note in replayed.notes]
    _compare(replayed, published, notes)
    public.size = published.size if published is not None else 0
    tail = Tail(_upper_tiles(public, replayed.begin.base))
    _rebuild(tail, replayed, published, notes, public)
    if tail.size < floor:
        raise LogRolledBackError(floor, tail.size)
    signed = notes[-1] if notes else published
    return Recovered(replayed.begin, journal, tail, public, published, signed, replayed.torn)


def _signed(note: bytes, origin: str) -> Signed:
    try:
        signed = Signed(decode_checkpoint(decode_note(note).text), note)
    except DecodeError as error:
        raise LogDamagedError(JOURNAL, error.message) from error
    if signed.checkpoint.origin != origin:
        raise LogDamagedError(JOURNAL, f"a note of {signed.checkpoint.origin} in the journal of {origin}")
    return signed


def _compare(replayed: Replayed, published: Signed | None, notes: list[Signed]) -> None:
    """The checkpoint has to be one that the journal may know."""
    begin, last = replayed.begin, notes[-1].size if notes else 0
    if published is None:
        if begin.base:
            raise LogDamagedError(CHECKPOINT_NAME, "is missing", index=begin.base)
        return
    if published.checkpoint.origin != begin.origin:
        raise LogDamagedError(CHECKPOINT_NAME, f"is of {published.checkpoint.origin}, the journal is of {begin.origin}")
    if published.size < begin.base:
        raise LogDamagedError(
            CHECKPOINT_NAME,
            f"signs {published.size} entries, the journal has them from {begin.base} on",
            index=begin.base,
        )
    if published.size > last:
        raise LogDamagedError(
            JOURNAL, f"knows of {last} signed entries, the checkpoint signs {published.size}", index=last
        )


def _upper_tiles(public: Public, base: int) -> UpperTiles:
    rows, count = [], base >> TILE_HEIGHT
    level = 1
    while count:
        width = count % TILE_WIDTH
        rows.append(public.read(level, count >> TILE_HEIGHT, width)[:width] if width else [])
        count, level = count >> TILE_HEIGHT, level + 1
    return UpperTiles(base // TILE_WIDTH, rows)


def _rebuild(tail: Tail, replayed: Replayed, published: Signed | None, notes: list[Signed], public: Public) -> None:
    base = replayed.begin.base
    heads = [(head, JOURNAL) for head in notes] + ([(published, CHECKPOINT_NAME)] if published is not None else [])
    for head, file in sorted(heads, key=lambda pair: (pair[0].size, pair[1])):
        if head.size < base:
            continue
        tail.append(replayed.entries[tail.size - base : head.size - base])
        if tail.root() == head.checkpoint.root:
            continue
        if published is not None:
            diagnosis.find(public, tail)
        raise LogDamagedError(file, f"signs another root over {head.size} entries than they have", index=None)
    tail.append(replayed.entries[tail.size - base :])
