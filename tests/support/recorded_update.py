"""Every disk that a power cut could have left of a real machine's update, judged by the boot model; some really booted.

The log is what the guest's own kernel and firmware wrote (QEMU's blklogwrites), the disk is as large as a real one. So
a cut is shown to the model without being applied, and a torn write that the model would not see is counted unseen.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.blocklog import SECTOR, Cut, Event, Replay, Write
from tests.support.bootmodel import BootModel, KnownImage, Outcome
from tests.support.disk import copy_sparse
from tests.support.images import Image
from tests.support.layered_disk import LayeredDisk

_UUID_AT = {"root.erofs": 1024 + 48, "root.verity": 16}


def known_image(image: Image) -> KnownImage:
    """What the model has to know of a build."""
    files = image.manifest.files
    uuids = {}
    for name, at in _UUID_AT.items():
        with (image.directory / name).open("rb") as stream:
            stream.seek(at)
            uuids[name] = stream.read(16)
    return KnownImage(
        version=image.manifest.version,
        uki=files["uki.efi"].sha256,
        data_uuid=uuids["root.erofs"],
        hash_uuid=uuids["root.verity"],
        data_size=files["root.erofs"].size,
        hash_size=files["root.verity"].size,
        data=files["root.erofs"].sha256,
        hashes=files["root.verity"].sha256,
    )


def overlap(read: tuple[int, int], write: Write) -> bool:
    """read: offset and size."""
    return read[0] < write.offset + len(write.data) and write.offset < read[0] + read[1]


class LoggedReplay(Replay):
    """A Replay over a large image.

    unseen: torn writes of which the last look at the disk without them read nothing: they change no outcome.
    """

    disk: LayeredDisk

    def __init__(self, image: Path, log: Sequence[Event], *, seed: int, samples: int) -> None:
        super().__init__(LayeredDisk(image), log, seed=seed, samples=samples)
        self.settled: list[Write] = []
        self.shown: tuple[Write, ...] = ()
        self.unseen = 0
        self._boundary_reads: list[tuple[int, int]] = []

    def _torn(self, number: int, write: Write) -> Iterator[Cut]:
        if any(overlap(read, write) for read in self._boundary_reads):
            yield from super()._torn(number, write)
            return
        points = 2 * (len(write.data) // SECTOR - 1)
        self.counts["torn"] += points
        self.unseen += points

    def _cut(self, kind: str, number: int, writes: Sequence[Write]) -> Iterator[Cut]:
        self.counts[kind] += 1
        self.shown = tuple(writes)
        self.disk.show(writes)
        self.disk.reads.clear()
        yield Cut(kind, number)
        if kind == "boundary":  # the disk as the next write finds it, whatever is settled in between
            self._boundary_reads = list(self.disk.reads)

    def _settle_write(self, write: Write) -> None:
        self.settled.append(write)
        self.disk.show(())
        self.disk.settle(write)


@dataclass(frozen=True)
class Point:
    """A cut that can be made again. settled: how many of the replay's settled writes; shown: those over them."""

    kind: str
    event: int
    settled: int
    shown: tuple[Write, ...]
    outcome: Outcome

    def make(self, image: Path, replay: LoggedReplay, target: Path) -> Path:
        """The disk that this cut left of `image`."""
        copy_sparse(image, target)
        with target.open("r+b") as disk:
            for write in (*replay.settled[: self.settled], *self.shown):
                disk.seek(write.offset)
                disk.write(write.data)
        return target


class Survey:
    """What the model says of every cut. outcomes: how often each (version, starts that failed before)."""

    def __init__(self, replay: LoggedReplay, model: BootModel, *, seed: int) -> None:
        self.outcomes: Counter[tuple[int | None, int]] = Counter()
        self.first_fault: tuple[Cut, Outcome] | None = None
        self._kept: dict[tuple[str, ...], dict[str, Point]] = defaultdict(dict)
        self._met: Counter[tuple[tuple[str, ...], str]] = Counter()
        self._dice = random.Random(seed)
        for cut in replay.cuts():
            outcome = model.boot(replay.disk)
            self.outcomes[outcome.version, outcome.stumbled] += 1
            if self.first_fault is None and (outcome.version is None or outcome.stumbled):
                self.first_fault = cut, outcome
            self._maybe_keep(cut, outcome, replay)

    @property
    def unbootable(self) -> int:
        """Points that do not boot."""
        return sum(count for (version, _), count in self.outcomes.items() if version is None)

    @property
    def faults(self) -> int:
        """Points that do not boot, or not at once."""
        return sum(count for (version, stumbled), count in self.outcomes.items() if version is None or stumbled)

    def sample(self, count: int) -> list[Point]:
        """Points to boot: of each state of the boot entries one, drawn; then another kind of cut in each; and so on."""
        drawn = []
        for number, kinds in enumerate(self._kept.values()):
            names = sorted(kinds)
            for turn in range(len(names)):  # each state begins with another kind
                drawn.append((turn, number, kinds[names[(number + turn) % len(names)]]))
        assert len(drawn) >= count, f"there are only {len(drawn)} points to boot, not {count}"
        return [point for _, _, point in sorted(drawn, key=lambda item: item[:2])[:count]]

    def _maybe_keep(self, cut: Cut, outcome: Outcome, replay: LoggedReplay) -> None:
        self._met[outcome.entries, cut.kind] += 1
        if self._dice.randrange(self._met[outcome.entries, cut.kind]) == 0:
            point = Point(cut.kind, cut.event, len(replay.settled), replay.shown, outcome)
            self._kept[outcome.entries][cut.kind] = point
