"""Small roots, published for the delta method; disks and sources for them that can fail."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.core.errors import EdgesealError
from appliance.formats.release import BLOCK, Content, Release, Root
from appliance.update.area import Slot
from appliance.update.ranges import ByteRange
from appliance.update.staging import StagedSlot, stage
from builder.publish.delta import make_delta
from builder.review.verity import compute_tree

SALT = hashlib.sha256(b"delta tests").digest()


def hashed_block(seed: int) -> bytes:
    """A block that deflate cannot shorten: SHA-256 of (seed, counter), both 4 bytes, big-endian, 128 times."""
    start = seed.to_bytes(4, "big")
    return b"".join(hashlib.sha256(start + number.to_bytes(4, "big")).digest() for number in range(BLOCK // 32))


def filled_block(value: int) -> bytes:
    """A block of one byte."""
    return bytes([value]) * BLOCK


@dataclass(frozen=True)
class Published:
    """A root and its release; the content is below `repository`."""

    release: Release
    image: bytes
    hashes: bytes
    repository: Path


def publish(directory: Path, blocks: Sequence[bytes], *, number: int, salt: bytes = SALT) -> Published:
    """As a release would be. number: another one for each image."""
    directory.mkdir(exist_ok=True)
    image = directory / f"{number}.erofs"
    image.write_bytes(b"".join(blocks))
    uuid = f"00000000-0000-4000-8000-{number:012d}"
    tree = compute_tree(image, salt=salt, uuid=uuid)
    root = Root(
        size=image.stat().st_size, hash_size=len(tree.area), root_hash=tree.root_hash, salt=salt.hex(), uuid=uuid
    )
    made = make_delta(image, root, directory)
    release = Release(
        product="press",
        profile="press",
        architecture="x86_64",
        version=number,
        security_epoch=0,
        built=1_700_000_000,
        development=True,
        root=root,
        delta=made.delta,
        uki=Content(sha256="0" * 64, size=1),
    )
    return Published(release, image.read_bytes(), tree.area, directory)


class PowerCutError(Exception):
    """The process is gone."""


@dataclass
class Directory:
    """Reads content files. Every stretch that was asked for is in `asked`; stretch `cut_at` is never given."""

    path: Path
    cut_at: int | None = None
    spoil: Callable[[Content, bytes], bytes] = lambda _content, data: data
    asked: list[tuple[str, ByteRange]] = field(default_factory=list)

    def read(self, content: Content, ranges: Sequence[ByteRange]) -> Iterator[bytes]:
        """As `ContentSource.read`."""
        data = self.spoil(content, (self.path / content.path).read_bytes())
        for item in ranges:
            if len(self.asked) == self.cut_at:
                raise EdgesealError("the network is gone")
            self.asked.append((content.sha256, item))
            yield data[item.offset : item.offset + item.length]


class Disk:
    """A partition in memory with a cache that a power cut can lose.

    writes: how many there were. die_at: the write that is the last; lost: whether that one is not done (otherwise it is
    done and not acknowledged).
    """

    def __init__(self, data: bytes, *, die_at: int | None = None, lost: bool = False) -> None:
        self.now = bytearray(data)
        self.durable = bytes(data)
        self.writes = 0
        self.die_at, self.lost = die_at, lost
        self.unreadable: set[int] = set()
        self._pending: list[tuple[int, bytes]] = []

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.now)

    def read(self, offset: int, target: memoryview) -> None:
        """As `Area.read`."""
        if any(offset <= block * BLOCK < offset + len(target) for block in self.unreadable):
            raise EdgesealError("a bad sector")
        assert offset + len(target) <= self.size
        target[:] = self.now[offset : offset + len(target)]

    read_back = read

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """As `Area.write`."""
        assert offset + len(data) <= self.size
        last = self.writes == self.die_at
        self.writes += 1
        if not (last and self.lost):
            self.now[offset : offset + len(data)] = data
            self._pending.append((offset, bytes(data)))
        if last:
            raise PowerCutError

    def sync(self) -> None:
        """As `Area.sync`."""
        self.durable, self._pending = bytes(self.now), []

    def after_power_cut(self, dice: random.Random) -> bytes:
        """What a disk may hold then: each 512 bytes written since the last sync are there or not, in any order."""
        found = bytearray(self.durable)
        for offset, data in self._pending:
            for at in range(0, len(data), 512):
                if dice.random() < 0.5:
                    found[offset + at : offset + at + 512] = data[at : at + 512]
        return bytes(found)


def slot_of(published: Published) -> Slot:
    """A slot that holds a root."""
    return Slot(Disk(published.image), Disk(published.hashes))


def empty_slot(published: Published, *, spare: int = 3 * BLOCK) -> Slot:
    """A slot with room for a root and a little more."""
    return Slot(Disk(filled_block(0x5A) * ((len(published.image) + spare) // BLOCK)), Disk(bytes(1 << 16)))


def disks(slot: Slot) -> tuple[Disk, Disk]:
    """Its two partitions as what they are here."""
    assert isinstance(slot.data, Disk)
    assert isinstance(slot.hashes, Disk)
    return slot.data, slot.hashes


def holds(slot: Slot, published: Published) -> bool:
    """Whether the slot durably holds exactly that root, tree included."""
    data, hashes = disks(slot)
    return data.durable.startswith(published.image) and hashes.durable.startswith(published.hashes)


def stage_quietly(published: Published, inactive: Slot, running: Slot, source: Directory | None = None) -> StagedSlot:
    """Stage without progress, never stopping."""
    return stage(
        published.release,
        inactive,
        running,
        source or Directory(published.repository),
        progress=lambda _progress: None,
        should_stop=lambda: False,
    )
