"""The power goes at every write of the log's store, and the disk holds any part of what was not synced.

Every time: a static copy of the public directory verifies, the log opens, every acknowledged entry is there, no size is
below one that was signed, and the log goes on.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.audit import journal as journals
from appliance.audit.disk import charge
from appliance.audit.pruning import NAME as PRUNED
from appliance.audit.store import TileLog
from appliance.core.errors import InputError
from appliance.formats.audit_journal import decode_pruned
from tests.support.cut_log import WAYS, Directory, ModelDisk
from tests.support.log_verifier import fake_sign, verify_static

PUBLIC, STATE = Path("/tlog"), Path("/state")
ORIGIN = "edgeseal.audit/line-3/0badcafe"
OLD = 64_300


@pytest.fixture(autouse=True)
def _small_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it is replaced often."""
    monkeypatch.setattr(journals, "CAPACITY", 24 << 10)


@dataclass
class Told:
    """What the store has said so far. floor: entries there were before; minimum: asked of prune()."""

    durable: int = 0
    signed: int = 0
    published: int = 0
    minimum: int = 0


def entry(index: int) -> bytes:
    return b'{"index":%d,"text":"%s"}\n' % (index, b"x" * (index * 7 % 90))


Story = Callable[[ModelDisk, Told], None]


def grow(log: TileLog, count: int) -> None:
    log.append([entry(index) for index in range(log.size, log.size + count)])


def settle(log: TileLog, told: Told, *, publish: bool = True) -> None:
    told.durable = log.sync()
    told.signed = log.commit(fake_sign).size
    if publish:
        log.publish()
        told.published = told.signed


def from_the_start(disk: ModelDisk, told: Told) -> None:
    """A log is made, grows over its first full tile, is closed and opened, grows in one great leap."""
    log = TileLog.create(PUBLIC, STATE, ORIGIN, disk=disk)
    settle(log, told)
    for count in (1, 2, 40, 212, 1, 3):
        grow(log, count)
        settle(log, told, publish=count != 40)
    log = TileLog.open(PUBLIC, STATE, disk=disk)
    grow(log, 5)
    told.durable = log.sync()
    grow(log, 600)
    settle(log, told)
    for count in (30, 30, 30):
        grow(log, count)
        told.durable = log.sync()
    settle(log, told)


def pruned(disk: ModelDisk, told: Told) -> None:
    """A log is pruned in steps while it grows."""
    log = TileLog.open(PUBLIC, STATE, disk=disk)
    for minimum in (300, 1000, 2100):
        grow(log, 70)
        settle(log, told)
        told.minimum = minimum
        log.prune(minimum)


def over_level_one(disk: ModelDisk, told: Told) -> None:
    """The first tile of level 1 becomes full, and is pruned with all that is under it."""
    told.minimum = OLD
    log = TileLog.open(PUBLIC, STATE, disk=disk)
    for count in (20, 30, 40):
        grow(log, count)
        settle(log, told)
    told.minimum = 65_536
    log.prune(65_536)
    grow(log, 1)
    settle(log, told)


def built(size: int, minimum: int = 0) -> Callable[[], Directory]:
    """A disk with a log of `size` entries, all published, pruned to `minimum`."""

    def build() -> Directory:
        disk = ModelDisk()
        log = TileLog.create(PUBLIC, STATE, ORIGIN, disk=disk)
        while log.size < size:
            grow(log, min(256, size - log.size))
            log.commit(fake_sign)
        log.publish()
        log.prune(minimum)
        return disk.root

    return build


STORIES = {
    "from the start": (from_the_start, Directory, 0),
    "over level one": (over_level_one, built(65_480, OLD), 65_480),
    "pruned": (pruned, built(2000), 2000),
}


@pytest.mark.parametrize("name", STORIES)
def test_power_goes_at_every_write(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    points = _play(name, ModelDisk)
    with capsys.disabled():
        print(f"\n  {name}: power cut at {points} write boundaries, {points * len(WAYS)} disks afterwards")
    assert points > 60


@pytest.mark.parametrize("forgotten", ["sync_data", "sync_directory", "sync_file", "order"])
def test_a_store_that_forgets_to_sync_is_found(forgotten: str) -> None:
    """The harness can fail."""
    with pytest.raises(AssertionError, match=r"cut before operation \d+"):
        _play("from the start", FORGETFUL[forgotten])


class NoDataSync(ModelDisk):
    def sync_data(self, path: Path) -> None:
        pass


class NoDirectorySync(ModelDisk):
    def sync_directory(self, path: Path) -> None:
        pass


class NoFileSync(ModelDisk):
    def write_synced(self, path: Path, data: bytes) -> None:
        with contextlib.suppress(StopIteration):
            super().write_synced(path, data)

    def _step(self, what: str) -> None:
        super()._step(what)
        if what.startswith("sync new-"):
            raise StopIteration


class CheckpointFirst(ModelDisk):
    """Directories of tiles are synced after the checkpoint has been replaced."""

    def sync_directory(self, path: Path) -> None:
        self._late = getattr(self, "_late", [])
        if "tile" in path.parts:
            self._late.append(path)
            return
        super().sync_directory(path)
        while path == PUBLIC and self._late:
            super().sync_directory(self._late.pop())


FORGETFUL = {
    "sync_data": NoDataSync,
    "sync_directory": NoDirectorySync,
    "sync_file": NoFileSync,
    "order": CheckpointFirst,
}


def _play(name: str, kind: type[ModelDisk]) -> int:
    """Play the story, check what every cut leaves. Returns how many there were."""
    story, begin, size = STORIES[name]
    told, points = Told(durable=size, signed=size, published=size), 0

    def cut(number: int, what: str) -> None:
        nonlocal points
        points += 1
        for dice, way in enumerate(WAYS):
            left = disk.after_cut(way, random.Random(1000 * number + dice))
            try:
                _check(left, told, begun=size > 0)
            except Exception as error:
                raise AssertionError(f"cut before operation {number}, {what}; {way.name}: {error!r}") from error

    disk = kind(begin(), before=cut)
    story(disk, told)
    cut(disk.operations, "the end")
    return points


def _check(disk: ModelDisk, told: Told, *, begun: bool) -> None:
    minimum = _minimum(disk)
    assert minimum <= told.minimum
    static = verify_static(disk.files(PUBLIC), minimum=minimum)
    assert (static.size if static is not None else 0) >= told.published
    try:
        log = TileLog.open(PUBLIC, STATE, floor=told.signed, disk=disk)
    except InputError:
        assert not begun and told == Told()
        log = TileLog.create(PUBLIC, STATE, ORIGIN, disk=disk)
    assert log.size >= told.durable
    assert (log.signed.size if log.signed is not None else 0) >= told.signed
    assert log.entries(max(log.minimum, log.size - 700), log.size) == [
        entry(index) for index in range(max(log.minimum, log.size - 700), log.size)
    ]
    _goes_on(disk, log)


def _goes_on(disk: ModelDisk, log: TileLog) -> None:
    _check_bytes(disk, log)
    grow(log, 3)
    log.commit(fake_sign)
    log.publish()
    static = verify_static(disk.files(PUBLIC), minimum=log.minimum)
    assert static is not None and static.size == log.size
    _check_bytes(disk, log)


def _check_bytes(disk: ModelDisk, log: TileLog) -> None:
    real = sum(charge(len(data)) for data in disk.files(PUBLIC).values()) + charge(disk.size(STATE / "journal") or 0)
    assert log.disk_bytes == real


def _minimum(disk: ModelDisk) -> int:
    data = disk.read(STATE / PRUNED)
    return decode_pruned(data).minimum if data is not None else 0
