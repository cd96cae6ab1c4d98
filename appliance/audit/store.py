"""The audit log's tree on the disk. Spec: docs/specs/audit-log.md (v2); why: docs/adr/0028-tiles-on-the-device.md.

append -> sync -> commit -> publish, each includes the one before it:
  append   in memory, nothing is promised;
  sync     durable: one fdatasync of the journal; whoever sent the event may be told now;
  commit   signed: the root over all entries, signed, and the note durable in the journal (one more fdatasync);
  publish  in the public directory: tiles, bundles, then `checkpoint`. Only a published checkpoint leaves the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from appliance.audit import journal as journals
from appliance.audit.disk import Disk, charge
from appliance.audit.pruning import Pruning
from appliance.audit.public import Signed
from appliance.audit.recovery import Recovered, recover
from appliance.audit.tail import Growth
from appliance.core.errors import InputError, VerificationError
from appliance.formats.audit_journal import JournalBegin
from appliance.formats.checkpoint import Checkpoint, encode_checkpoint
from appliance.formats.signed_note import decode_note
from appliance.formats.tlog_tiles import BUNDLE, MAX_ENTRY_BYTES, MAX_LEVEL, TILE_HEIGHT, TILE_WIDTH, node_reader

SignText = Callable[[str], bytes]
"""A checkpoint's text -> the signed note (signed_note.sign_note with the log's keys)."""

_NOTE_ROOM = 16 << 10
_LEVELS = (BUNDLE, *range(MAX_LEVEL + 1))


class TileLog:
    """One log; not for threads. After an OSError of sync or commit only a new open() can tell what is durable.

    signed: the newest signed checkpoint. published: the one in the public directory. Both None in a new log.
    torn_bytes: of an end that nobody was told of, cut off by open().
    """

    def __init__(self, disk: Disk, state: Path, recovered: Recovered) -> None:
        """For open()."""
        self._disk = disk
        self._state = state
        self._journal = recovered.journal
        self._tail = recovered.tail
        self._public = recovered.public
        self._pruning = Pruning(disk, state, recovered.public)
        self._base = recovered.begin.base
        self._bundles = recovered.begin.bundles
        self._partials = 0
        self.origin = recovered.begin.origin
        self.durable = recovered.tail.size
        self.signed = recovered.signed
        self.published = recovered.published
        self.torn_bytes = recovered.torn
        self.read_node = node_reader(self._public.read)
        """Nodes of the published tree (merkle.NodeReader)."""

    @classmethod
    def create(cls, directory: Path, state: Path, origin: str, *, disk: Disk | None = None) -> TileLog:
        """Begin a log. The parent of both exists, in one file system. Raises InputError when there is one already."""
        disk = disk or Disk()
        if disk.size(state / journals.NAME) is not None or disk.size(directory / "checkpoint") is not None:
            raise InputError(f"audit log: there is one in {directory} already")
        for path in (directory, state):
            disk.make_directory(path)
            disk.sync_directory(path.parent)
        journals.fresh(disk, state, JournalBegin(origin=origin, base=0, bundles=0), [], None, room=0)
        return cls.open(directory, state, disk=disk)

    @classmethod
    def open(cls, directory: Path, state: Path, *, floor: int = 0, disk: Disk | None = None) -> TileLog:
        """Open a log and publish what was signed. floor: what a counter outside has seen signed, in entries.

        Reads the right edge alone.
        Raises InputError when there is no log; LogDamagedError, LogRolledBackError, OSError.
        """
        disk = disk or Disk()
        log = cls(disk, state, recover(disk, directory, state, floor=floor))
        log._settle()
        return log

    @property
    def size(self) -> int:
        """Entries, what is not durable yet included."""
        return self._tail.size

    @property
    def minimum(self) -> int:
        """Entries below may be gone."""
        return self._pruning.now.minimum

    @property
    def disk_bytes(self) -> int:
        """On the disk, in whole blocks: public directory and journal, directories themselves left out."""
        published = self.published.size if self.published is not None else 0
        tiles = (
            sum(published >> (TILE_HEIGHT * level) >> TILE_HEIGHT for level in range(8)) - self._pruning.tiles_gone()
        )
        checkpoint = charge(len(self.published.note)) if self.published is not None else 0
        bundles = self._bundles - self._pruning.now.bundles
        return bundles + charge(TILE_WIDTH * 32) * tiles + self._partials + checkpoint + charge(self._journal.capacity)

    def append(self, entries: Sequence[bytes]) -> int:
        """Add entries at the end; nothing is promised. Returns the index of the first. Raises InputError."""
        for entry in entries:
            if len(entry) > MAX_ENTRY_BYTES:
                raise InputError(f"audit log: an entry of {len(entry)} bytes, at most {MAX_ENTRY_BYTES} are allowed")
        first = self._tail.size
        self._tail.append(entries)
        return first

    def sync(self) -> int:
        """All that was appended is durable when it returns: one fdatasync. Returns the size."""
        entries = self._tail.entries[self.durable - self._tail.start :]
        if entries:
            if not self._journal.has_room(entries, _NOTE_ROOM):
                self.publish()
            if not self._journal.has_room(entries, _NOTE_ROOM):
                self._rotate(room=sum(map(len, entries)) + 4 * len(entries) + _NOTE_ROOM)
            self._journal.add_entries(self.durable, entries)
            self.durable += len(entries)
        return self.durable

    def commit(self, sign: SignText) -> Signed:
        """All that was appended is durable, and signed; the note is durable too, though not published.

        Signs only what grew: without a new entry the newest checkpoint is returned as it is.
        """
        size = self.sync()
        if self.signed is None or size > self.signed.size:
            checkpoint = Checkpoint(self.origin, size, self._tail.root())
            text = encode_checkpoint(checkpoint)
            note = sign(text)
            if decode_note(note).text != text:
                raise VerificationError("audit log: the signer signed something else")
            if not self._journal.has_room([], len(note)):
                self._rotate()
            self._journal.add_note(size, note)
            self.signed = Signed(checkpoint, note)
        return self.signed

    def publish(self) -> Signed | None:
        """Bring the public directory up to the newest signed checkpoint. After an OSError it may be called again."""
        signed = self.signed
        if signed is None or (self.published is not None and self.published.size == signed.size):
            return self.published
        old = self._public.size
        growth = self._tail.growth(old, signed.size)
        self._partials += self._public.write(growth.files)
        self._public.replace_checkpoint(signed.note)
        self._advance(signed, growth)
        self._forget_partials(old, signed.size)
        if self._journal.is_half_full:
            self._rotate()
        return self.published

    def entry(self, index: int) -> bytes:
        """One entry. Raises InputError when it is pruned or not there, LogDamagedError."""
        return self.entries(index, index + 1)[0]

    def entries(self, start: int, end: int) -> list[bytes]:
        """Entries start up to, without, end. Raises InputError when one is pruned or not there, LogDamagedError."""
        if not self.minimum <= start <= end <= self.size:
            raise InputError(
                f"audit log: entries {start} to {end} are asked for, {self.minimum} to {self.size} are there"
            )
        found: list[bytes] = []
        while (at := start + len(found)) < end and at < self._tail.start:
            index, offset = divmod(at, TILE_WIDTH)
            found += self._public.read(BUNDLE, index, TILE_WIDTH)[offset : offset + end - at]
        at = start + len(found) - self._tail.start
        return found + self._tail.entries[max(0, at) : max(0, end - self._tail.start)]

    def prune(self, minimum: int) -> None:
        """Raise the minimum index; full tiles and bundles that end below it are removed. Durable when it returns.

        Raises InputError unless minimum is between the present one and the published size.
        """
        published = self.published.size if self.published is not None else 0
        if not self.minimum <= minimum <= published:
            raise InputError(f"audit log: a minimum index of {minimum}, {self.minimum} to {published} are allowed")
        if self._base < minimum // TILE_WIDTH * TILE_WIDTH:
            self._rotate()
        self._pruning.prune(minimum, self._base)

    def minimum_to_free(self, wanted: int) -> int:
        """A minimum index for prune() that frees at least `wanted` bytes, or as many as can be."""
        return self._pruning.minimum_to_free(wanted, self._public.size // TILE_WIDTH * TILE_WIDTH)

    def close(self) -> None:
        """Close files; nothing is written."""
        self._disk.close()

    def _settle(self) -> None:
        """After open: what a power cut has left undone."""
        if self.published is not None:
            self._advance(self.published, self._tail.growth(self._public.size, self._public.size))
        self.publish()
        for level in _LEVELS:
            for index in range(self._base >> _height(level), self._public.size >> _height(level)):
                self._public.remove_partial(level, index)
        self._public.remove_waiting()
        self._partials = self._edge_bytes()
        if self.torn_bytes:
            self._rotate()

    def _advance(self, signed: Signed, growth: Growth) -> None:
        self._bundles += sum(
            charge(len(data)) for tile, data in growth.files if tile.level == BUNDLE and tile.width == TILE_WIDTH
        )
        self._public.size = signed.size
        self._tail.advance(growth)
        self.published = signed

    def _forget_partials(self, old: int, new: int) -> None:
        """The partial tiles that the last checkpoint had, where a durable one covers their full ones now."""
        for level in _LEVELS:
            index = old >> _height(level)
            if index < new >> _height(level):
                self._partials -= self._public.remove_partial(level, index)

    def _edge_bytes(self) -> int:
        size = self._public.size
        return sum(self._public.partial_bytes(level, size >> _height(level)) for level in _LEVELS)

    def _rotate(self, room: int = 0) -> None:
        """A new journal from the last full bundle that is published."""
        begin = JournalBegin(origin=self.origin, base=self._tail.start, bundles=self._bundles)
        note = (self.signed.size, self.signed.note) if self.signed is not None else None
        entries = self._tail.entries[: self.durable - self._tail.start]
        self._journal = journals.fresh(self._disk, self._state, begin, entries, note, room=room)
        self._base = begin.base


def _height(level: int) -> int:
    """Of the subtree that a tile of this level spans."""
    return TILE_HEIGHT * (max(level, 0) + 1)
