"""stage: what is kept, copied and fetched; every refusal; and a power cut at every write and at every stretch."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from appliance.core.errors import DecodeError, EdgesealError, VerificationError
from appliance.formats.release import BLOCK, Content
from appliance.update.area import Slot
from appliance.update.plan import FETCH, KEEP, copy_runs, spans
from appliance.update.ranges import ByteRange
from appliance.update.staging import Progress, StoppedError, stage
from tests.support.delta import (
    Directory,
    Disk,
    PowerCutError,
    Published,
    disks,
    empty_slot,
    filled_block,
    hashed_block,
    holds,
    publish,
    slot_of,
    stage_quietly,
)

OLD = [hashed_block(number) for number in range(60)]
# Shifted by two new blocks, three others new and apart, one of them twice, and two that deflate.
NEW = [hashed_block(900), filled_block(1), *OLD[:10], hashed_block(901), *OLD[11:30], hashed_block(902), *OLD[31:]]
NEW += [hashed_block(902), filled_block(2)]
MISSING = 5  # frames: 900 to 902 and the two that deflate


@pytest.fixture
def old(tmp_path: Path) -> Published:
    return publish(tmp_path, OLD, number=1)


@pytest.fixture
def new(tmp_path: Path) -> Published:
    return publish(tmp_path, NEW, number=2)


def frames_asked(source: Directory, published: Published) -> int:
    """Bytes of frames that a source gave."""
    return sum(item.length for sha256, item in source.asked if sha256 == published.release.delta.frames.sha256)


def test_only_what_is_missing_is_fetched(old: Published, new: Published) -> None:
    inactive, source = empty_slot(new), Directory(new.repository)
    staged = stage_quietly(new, inactive, slot_of(old), source)
    assert holds(inactive, new)
    assert (staged.kept, staged.copied, staged.fetched) == (0, len(NEW) - 6, 6)
    assert (staged.bytes_fetched, staged.ranges) == (sum(item.length for _, item in source.asked), len(source.asked))
    assert 3 * BLOCK < frames_asked(source, new) < 3 * BLOCK + 100
    assert staged.running_unusable is None
    assert staged.release == new.release


def test_nothing_behind_the_root_is_touched(old: Published, new: Published) -> None:
    inactive = empty_slot(new)
    stage_quietly(new, inactive, slot_of(old))
    assert disks(inactive)[0].durable[len(new.image) :] == filled_block(0x5A) * 3


def test_a_staged_slot_is_only_read(old: Published, new: Published) -> None:
    inactive, source = slot_of(new), Directory(new.repository)
    staged = stage_quietly(new, inactive, slot_of(old), source)
    assert (staged.kept, staged.copied, staged.fetched) == (len(NEW), 0, 0)
    assert [disk.writes for disk in disks(inactive)] == [0, 0]
    assert [sha256 for sha256, _ in source.asked] == [new.release.delta.groups.sha256]


def test_a_slot_with_another_salt_gives_its_blocks(new: Published, tmp_path: Path) -> None:
    running = publish(tmp_path, OLD, number=3, salt=b"another")
    staged = stage_quietly(new, empty_slot(new), slot_of(running))
    assert staged.copied == len(NEW) - 6


@pytest.mark.parametrize("blocks", [1, 2, 129])
def test_small_and_odd_roots(blocks: int, old: Published, tmp_path: Path) -> None:
    new = publish(tmp_path, [hashed_block(number) for number in range(50, 50 + blocks)], number=5)
    inactive = empty_slot(new)
    staged = stage_quietly(new, inactive, slot_of(old))
    assert holds(inactive, new)
    assert staged.copied == min(10, blocks)


def test_a_running_root_without_superblock_is_not_used(old: Published, new: Published) -> None:
    inactive = empty_slot(new)
    staged = stage_quietly(new, inactive, Slot(Disk(old.image), Disk(bytes(len(old.hashes)))))
    assert holds(inactive, new)
    assert (staged.copied, staged.running_unusable) == (0, "verity superblock: there is none")


@pytest.mark.parametrize("block", [0, 1], ids=["superblock", "leaves"])
def test_a_running_root_whose_hash_area_cannot_be_read_is_not_used(block: int, old: Published, new: Published) -> None:
    inactive, running = empty_slot(new), slot_of(old)
    disks(running)[1].unreadable = {block}
    staged = stage_quietly(new, inactive, running)
    assert holds(inactive, new)
    assert (staged.copied, staged.running_unusable) == (0, "a bad sector")


@pytest.mark.parametrize("bad", [[0], [59], [5, 6, 40], list(range(60))], ids=["first", "last", "three", "all"])
@pytest.mark.parametrize("kind", ["changed", "unreadable"])
def test_bad_blocks_of_the_running_root_are_fetched(bad: list[int], kind: str, old: Published, new: Published) -> None:
    running, inactive = slot_of(old), empty_slot(new)
    data, _ = disks(running)
    for block in bad:
        if kind == "changed":
            data.now[block * BLOCK] ^= 1
        else:
            data.unreadable.add(block)
    staged = stage_quietly(new, inactive, running)
    assert holds(inactive, new)
    assert staged.kept == 0
    expected = len(NEW) - 6 - sum(OLD[block] in NEW for block in bad)
    assert staged.copied == expected if kind == "changed" else staged.copied <= expected


def test_progress_ends_at_its_totals(old: Published, new: Published) -> None:
    seen: dict[str, Progress] = {}
    stage(
        new.release,
        empty_slot(new),
        slot_of(old),
        Directory(new.repository),
        progress=lambda progress: seen.update({progress.step: progress}),
        should_stop=lambda: False,
    )
    assert list(seen) == ["compare", "copy", "fetch", "read back"]
    assert all(progress.done == progress.total > 0 for progress in seen.values())


def test_it_stops_wherever_it_is_asked_to(old: Published, new: Published) -> None:
    inactive, asked = empty_slot(new), 0
    for limit in range(1000):
        asked = 0

        def should_stop(limit: int = limit) -> bool:
            nonlocal asked
            asked += 1
            return asked > limit

        try:
            stage(
                new.release,
                inactive,
                slot_of(old),
                Directory(new.repository),
                progress=lambda _progress: None,
                should_stop=should_stop,
            )
        except StoppedError as stopped:
            assert str(stopped) == "staging was asked to stop"
            continue
        break
    assert 5 < limit < 1000
    assert holds(inactive, new)


Spoil = Callable[[Published, Published], tuple[Published, Slot, Slot, Directory]]


def content_spoiled(which: str, change: Callable[[bytes], bytes]) -> Spoil:
    def spoil(old: Published, new: Published) -> tuple[Published, Slot, Slot, Directory]:
        wanted: Content = getattr(new.release.delta, which)
        source = Directory(new.repository, spoil=lambda content, data: change(data) if content == wanted else data)
        return new, empty_slot(new), slot_of(old), source

    return spoil


def flip(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def release_spoiled(part: str, **changes: object) -> Spoil:
    def spoil(old: Published, new: Published) -> tuple[Published, Slot, Slot, Directory]:
        changed = msgspec.structs.replace(getattr(new.release, part), **changes)
        release = msgspec.structs.replace(new.release, **{part: changed})
        other = Published(release, new.image, new.hashes, new.repository)
        return other, empty_slot(new), slot_of(old), Directory(new.repository)

    return spoil


def small_slot(data: int, hashes: int) -> Spoil:
    return lambda old, new: (new, Slot(Disk(bytes(data)), Disk(bytes(hashes))), slot_of(old), Directory(new.repository))


BIG = Content(sha256="0" * 64, size=1 << 40)
TOTAL = len(NEW)
REFUSALS: list[tuple[str, Spoil, type[EdgesealError], str]] = [
    (
        "groups of somebody else",
        content_spoiled("groups", flip(0)),
        VerificationError,
        "delta groups: sha256 is {spoiled}, the release says {groups}",
    ),
    (
        "leaves of somebody else",
        content_spoiled("leaves", flip(0)),
        VerificationError,
        "delta leaves: the table of block 0 is not the one that the groups name",
    ),
    (
        "a stored frame of somebody else",
        content_spoiled("frames", flip(0)),
        VerificationError,
        "delta frames: block 0 does not have its leaf hash",
    ),
    (
        "a deflated frame of somebody else",
        content_spoiled("frames", flip(BLOCK)),
        VerificationError,
        "delta frames: the frame of block 1 is not the one that the leaves name",
    ),
    (
        "a file that ends early",
        content_spoiled("groups", lambda data: data[:-1]),
        EdgesealError,
        "{groups_path}: {groups_size} bytes were asked for, {groups_short} came",
    ),
    (
        "endless groups",
        lambda old, new: release_spoiled("delta", groups=BIG)(old, new),
        DecodeError,
        f"release manifest: delta.groups has 1099511627776 bytes, {TOTAL} blocks need 180 at most",
    ),
    (
        "endless leaves",
        lambda old, new: release_spoiled("delta", leaves=BIG)(old, new),
        DecodeError,
        f"release manifest: delta.leaves has 1099511627776 bytes, {TOTAL} blocks need {TOTAL * 34} at most",
    ),
    (
        "endless frames",
        lambda old, new: release_spoiled("delta", frames=BIG)(old, new),
        DecodeError,
        f"release manifest: delta.frames has 1099511627776 bytes, {TOTAL} blocks need {TOTAL * BLOCK} at most",
    ),
    (
        "a hash area that cannot be",
        release_spoiled("root", hash_size=BLOCK),
        DecodeError,
        f"release manifest: root.hash_size is 4096, {TOTAL} blocks have 8192",
    ),
    (
        "a slot too small",
        small_slot(TOTAL * BLOCK - 1, 8192),
        EdgesealError,
        f"the release's root has {TOTAL * BLOCK} bytes, the slot {TOTAL * BLOCK - 1}",
    ),
    (
        "a slot too small for the tree",
        small_slot(TOTAL * BLOCK, 8191),
        EdgesealError,
        "the release's hash tree has 8192 bytes, the slot 8191",
    ),
    (
        "what is running",
        lambda _old, new: (new, empty_slot(new), slot_of(new), Directory(new.repository)),
        EdgesealError,
        "the release is the one that is running: it is not staged a second time",
    ),
    (
        "another root hash",
        release_spoiled("root", root_hash="ab" * 32),
        VerificationError,
        f"the blocks make up the root hash {{root_hash}}, signed is {'ab' * 32}",
    ),
    (
        "a disk that forgets data",
        lambda old, new: (
            new,
            Slot(Forgetful(empty_slot(new).data.size), Disk(bytes(8192))),
            slot_of(old),
            Directory(new.repository),
        ),
        VerificationError,
        "the slot's data cannot be read back as it was written",
    ),
    (
        "a disk that forgets hashes",
        lambda old, new: (new, Slot(empty_slot(new).data, Forgetful(8192)), slot_of(old), Directory(new.repository)),
        VerificationError,
        "the slot's hash tree cannot be read back as it was written",
    ),
]


class Forgetful(Disk):
    """Says that it wrote; what it really has comes to light when the cache is bypassed."""

    def __init__(self, size: int) -> None:
        super().__init__(bytes(size))

    def read_back(self, offset: int, target: memoryview) -> None:
        """As `Area.read_back`: the first block was lost."""
        self.read(offset, target)
        if offset == 0:
            target[:BLOCK] = bytes(BLOCK)


@pytest.mark.parametrize(("spoil", "kind", "said"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_what_is_refused(spoil: Spoil, kind: type[EdgesealError], said: str, old: Published, new: Published) -> None:
    groups = new.release.delta.groups
    spoiled = flip(0)((new.repository / groups.path).read_bytes())
    published, inactive, running, source = spoil(old, new)
    before = [bytes(disk.now) for disk in disks(inactive)]
    with pytest.raises(EdgesealError) as refusal:
        stage_quietly(published, inactive, running, source)
    assert type(refusal.value) is kind
    assert str(refusal.value) == said.format(
        spoiled=hashlib.sha256(spoiled).hexdigest(),
        groups=groups.sha256,
        groups_path=groups.path,
        groups_size=groups.size,
        groups_short=groups.size - 1,
        root_hash=new.release.root.root_hash,
    )
    for disk, was in zip(disks(inactive), before, strict=True):
        assert only_right_blocks(disk, was, new), "a block was written that the release does not have"


def only_right_blocks(disk: Disk, was: bytes, new: Published) -> bool:
    """Each block is the one from before, or the release's."""
    right = new.image + bytes(max(0, disk.size - len(new.image)))
    return all(
        disk.now[at : at + BLOCK] in (was[at : at + BLOCK], right[at : at + BLOCK], new.hashes[at : at + BLOCK])
        for at in range(0, disk.size, BLOCK)
    )


@pytest.mark.parametrize("lost", [True, False], ids=["LOST", "UNACKNOWLEDGED"])
@pytest.mark.parametrize("which", [0, 1], ids=["data", "hashes"])
def test_a_power_cut_at_every_write(which: int, lost: bool, old: Published, new: Published) -> None:
    """What was durable by then is not fetched again, and the next run ends right, whatever the cache lost."""
    whole = empty_slot(new)
    stage_quietly(new, whole, slot_of(old))
    total, dice = disks(whole)[which].writes, random.Random(which)
    assert total >= (len(NEW) if which == 0 else 1)
    for write in range(total):
        inactive = empty_slot(new)
        disks(inactive)[which].die_at, disks(inactive)[which].lost = write, lost
        with pytest.raises(PowerCutError):
            stage_quietly(new, inactive, slot_of(old))
        survived = Slot(*(Disk(disk.after_power_cut(dice)) for disk in disks(inactive)))
        right = missing_frames_in(survived, new)
        source = Directory(new.repository)
        staged = stage_quietly(new, survived, slot_of(old), source)
        assert holds(survived, new)
        assert (staged.fetched > 0) == (right > 0)
        assert frames_asked(source, new) <= right * BLOCK


def missing_frames_in(slot: Slot, new: Published) -> int:
    """Different blocks that only the source has, and that do not stand in the slot where they belong."""
    now = disks(slot)[0].now
    return len(
        {block for number, block in enumerate(NEW) if block not in OLD and now[number * BLOCK :][:BLOCK] != block}
    )


@pytest.mark.parametrize("again", [1, 2])
def test_a_source_that_fails_at_every_stretch(again: int, old: Published, new: Published) -> None:
    """The stretches that came are not asked for again."""
    whole = Directory(new.repository)
    stage_quietly(new, empty_slot(new), slot_of(old), whole)
    for cut_at in range(len(whole.asked)):
        inactive = empty_slot(new)
        for _ in range(again):
            first = Directory(new.repository, cut_at=cut_at)
            with pytest.raises(EdgesealError, match="the network is gone"):
                stage_quietly(new, inactive, slot_of(old), first)
            cut_at = min(cut_at, 1)
        source = Directory(new.repository)
        missing = missing_frames_in(inactive, new)
        stage_quietly(new, inactive, slot_of(old), source)
        assert holds(inactive, new)
        assert frames_asked(source, new) <= missing * BLOCK


def test_stretches_are_joined_over_small_gaps_and_not_over_large_ones() -> None:
    wanted = [(0, 10, "a"), (10, 10, "b"), (25, 5, "c"), (36, 4, "d"), (60, 100, "e")]
    found = [(item.range, item.items) for item in spans(wanted, gap=5, longest=30)]
    assert found == [
        (ByteRange(0, 30), ("a", "b", "c")),
        (ByteRange(36, 4), ("d",)),
        (ByteRange(60, 100), ("e",)),
    ]
    assert list(spans([], gap=5, longest=30)) == []


def test_runs_of_copies() -> None:
    origin = [KEEP, 5, 6, 7, 8, 10, FETCH, 11, 12]
    found = [(run.target, run.source, run.count) for run in copy_runs(origin, longest=3)]
    assert found == [(1, 5, 3), (4, 8, 1), (5, 10, 1), (7, 11, 2)]
