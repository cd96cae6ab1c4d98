"""stage: write a release's root into the inactive slot, fetching only what the device does not have.

Nothing is written that was not held against its leaf hash, and nothing is called staged that was not read back from
the disk and held against the signed root hash. There is no journal: a run begins by hashing what the slot holds, and
what is right already stays.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from appliance.core.errors import DecodeError, EdgesealError, VerificationError
from appliance.formats.delta_index import DIGEST, Frame, Group, Table
from appliance.formats.release import BLOCK, Release, Root
from appliance.update.area import CHUNK, Slot, chunk_buffer
from appliance.update.delta_content import DeltaContent
from appliance.update.leaves import claimed_leaves, cut_leaves, hash_data, read_superblock, same_bytes
from appliance.update.plan import Known, Run, copy_runs, missing_frames, plan_blocks, unknown_groups
from appliance.update.ranges import ContentSource
from appliance.update.verity import LEAF, Salted, Superblock, build_area, hash_size

Step = Literal["compare", "copy", "fetch", "read back"]
SYNC_EVERY = 8 << 20
"""Bytes that are fetched between two syncs: what a power cut can cost."""


@dataclass(frozen=True)
class Progress:
    """done, total: bytes of this step."""

    step: Step
    done: int
    total: int


class StoppedError(EdgesealError):
    """Staging was asked to stop. What was written stays, and the next run goes on from it."""


@dataclass(frozen=True)
class StagedSlot:
    """A slot that holds exactly the release's root: read back from the disk and held against the signed root hash.

    kept, copied, fetched: blocks that were right already, came from the running root, came from the source.
    bytes_fetched, ranges: what the source was asked for, index included. running_unusable: why nothing could be taken
    from the running root, or None.
    """

    release: Release
    kept: int
    copied: int
    fetched: int
    bytes_fetched: int
    ranges: int
    running_unusable: str | None


def stage(
    release: Release,
    inactive: Slot,
    running: Slot,
    source: ContentSource,
    *,
    progress: Callable[[Progress], None],
    should_stop: Callable[[], bool],
) -> StagedSlot:
    """Make `inactive` hold the release's root. Nothing else is written; run it again after any interruption.

    release: trusted. running: what the device runs from; its blocks are hashed before they are used.
    should_stop: asked at least once per MiB that is read, copied or fetched. Raises StoppedError when it says so;
    EdgesealError when the release does not fit, is the one that is running, or the disk or the source fails;
    VerificationError or DecodeError when content is not what the release says.
    """
    check_room(release.root, inactive)
    return _Staging(release, inactive, running, source, progress, should_stop).run()


def check_room(root: Root, slot: Slot) -> None:
    """Raises EdgesealError when the root does not fit, DecodeError when its hash area cannot have the size it names."""
    blocks = root.size // BLOCK
    if root.hash_size != hash_size(blocks):
        raise DecodeError(
            f"release manifest: root.hash_size is {root.hash_size}, {blocks} blocks have {hash_size(blocks)}"
        )
    for name, need, have in (("root", root.size, slot.data.size), ("hash tree", root.hash_size, slot.hashes.size)):
        if need > have:
            raise EdgesealError(
                f"the release's {name} has {need} bytes, the slot {have}",
                hint="a slot's size is fixed in the factory: publish a smaller image",
            )


class _Staging:
    def __init__(
        self,
        release: Release,
        inactive: Slot,
        running: Slot,
        source: ContentSource,
        progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._release, self._inactive, self._running = release, inactive, running
        self._progress, self._should_stop = progress, should_stop
        self._content = DeltaContent(release, source, self._checkpoint)
        self._salt = bytes.fromhex(release.root.salt)
        self._salted = Salted(self._salt)
        self._leaves = bytearray()  # of what the inactive slot holds
        self._tables: dict[int, Table] = {}  # by their group's first block
        self._unusable: set[int] = set()  # blocks of the running root that are others than it says

    def run(self) -> StagedSlot:
        claimed, why_not = self._claimed()
        groups = self._content.groups()
        self._leaves = self._hash_inactive("compare", self._inactive.data.read)
        origin, copied = self._copy(groups, cut_leaves(claimed))
        fetched = self._fetch(origin)
        self._write_hashes()
        return StagedSlot(
            release=self._release,
            kept=len(origin) - copied - fetched,
            copied=copied,
            fetched=fetched,
            bytes_fetched=self._content.bytes_read,
            ranges=self._content.ranges,
            running_unusable=why_not,
        )

    def _claimed(self) -> tuple[bytes, str | None]:
        """Leaf hashes of the running root; none, and why, when it cannot be read: then all is fetched."""
        try:
            superblock = read_superblock(self._running)
        except EdgesealError as error:
            return b"", str(error)
        if superblock.uuid == UUID(self._release.root.uuid):  # two slots must never answer to one name (ADR 0013)
            raise EdgesealError("the release is the one that is running: it is not staged a second time")
        try:
            return claimed_leaves(self._running, superblock, salt=self._salt, tick=self._tick), None
        except StoppedError:
            raise
        except EdgesealError as error:
            return b"", str(error)

    def _hash_inactive(self, step: Step, read: Callable[[int, memoryview], None]) -> bytearray:
        done, total = 0, self._release.root.size

        def tick(count: int) -> None:
            nonlocal done
            done += count
            self._progress(Progress(step, done, total))
            self._checkpoint()

        return hash_data(read, total, salt=self._salt, tick=tick)

    def _copy(self, groups: Sequence[Group], claimed: bytes) -> tuple[array[int], int]:
        """Plan, and take what the running root has. A block of it that is not what it says is planned for anew."""
        copied = 0
        while True:
            known, unusable = Known(claimed, unusable=self._unusable), len(self._unusable)
            present = cut_leaves(self._leaves)
            wanted = unknown_groups(groups, present, known)
            for table in self._content.tables(group for group in wanted if group.first not in self._tables):
                self._tables[table.group.first] = table
            origin = plan_blocks(groups, self._tables, present, known)
            copied += self._copy_planned(origin, known)
            if len(self._unusable) == unusable:
                return origin, copied

    def _copy_planned(self, origin: Sequence[int], known: Known) -> int:
        total, done, copied = sum(source >= 0 for source in origin) * BLOCK, 0, 0
        buffer = chunk_buffer()
        for run in copy_runs(origin, longest=CHUNK // BLOCK):
            self._checkpoint()
            copied += self._copy_run(run, buffer[: run.count * BLOCK], known)
            done += run.count * BLOCK
            self._progress(Progress("copy", done, total))
        return copied

    def _copy_run(self, run: Run, buffer: memoryview, known: Known) -> int:
        """The number of its blocks that were right, and are written."""
        try:
            self._running.data.read(run.source * BLOCK, buffer)
        except EdgesealError:  # a bad sector: others of its neighbourhood are fetched too
            self._unusable.update(range(run.source, run.source + run.count))
            return 0
        copied = 0
        for number, leaf in enumerate(self._salted.leaves(buffer)):
            if leaf[:DIGEST] == known.leaf(run.source + number):
                self._write(run.target + number, buffer[number * BLOCK : (number + 1) * BLOCK], leaf)
                copied += 1
            else:
                self._unusable.add(run.source + number)
        return copied

    def _fetch(self, origin: Sequence[int]) -> int:
        tables = (self._tables[first] for first in sorted(self._tables))
        frames, others = missing_frames(origin, tables)
        total, done, synced, fetched = sum(frame.size for frame in frames), 0, 0, 0
        for frame, block in self._content.blocks(frames):
            fetched += self._place(frame, block, others.get(frame.leaf, ()))
            done += frame.size
            self._progress(Progress("fetch", done, total))
            if done - synced >= SYNC_EVERY:
                self._inactive.data.sync()
                synced = done
        return fetched

    def _place(self, frame: Frame, block: bytes | memoryview, others: Sequence[int]) -> int:
        leaf = self._salted.leaf(block)
        if leaf[:DIGEST] != frame.leaf:
            raise VerificationError(f"delta frames: block {frame.block} does not have its leaf hash")
        for target in (frame.block, *others):
            self._write(target, block, leaf)
        return 1 + len(others)

    def _write(self, block: int, data: bytes | memoryview, leaf: bytes) -> None:
        self._inactive.data.write(block * BLOCK, data)
        self._leaves[block * LEAF : (block + 1) * LEAF] = leaf

    def _write_hashes(self) -> None:
        """Build the hash area, hold it against the signed root hash, write it, and read the whole slot back."""
        root = self._release.root
        superblock = Superblock(UUID(root.uuid), root.size // BLOCK, self._salt)
        built = build_area(self._leaves, superblock)
        if built.root_hash != root.root_hash:
            raise VerificationError(f"the blocks make up the root hash {built.root_hash}, signed is {root.root_hash}")
        hashes = self._inactive.hashes
        hashes.sync()
        if not same_bytes(hashes, built.area):
            for at in range(0, len(built.area), CHUNK):
                hashes.write(at, built.area[at : at + CHUNK])
            hashes.sync()
        self._inactive.data.sync()
        found = build_area(self._hash_inactive("read back", self._inactive.data.read_back), superblock)
        if found.root_hash != root.root_hash:
            raise VerificationError(_BAD_DISK.format("data"), hint=_BAD_DISK_HINT)
        if not same_bytes(hashes, built.area):
            raise VerificationError(_BAD_DISK.format("hash tree"), hint=_BAD_DISK_HINT)

    def _tick(self, _count: int) -> None:
        self._checkpoint()

    def _checkpoint(self) -> None:
        if self._should_stop():
            raise StoppedError("staging was asked to stop")


_BAD_DISK = "the slot's {} cannot be read back as it was written"
_BAD_DISK_HINT = "the disk is failing: replace it"
