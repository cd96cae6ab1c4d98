"""The replay over a log that QEMU's blklogwrites wrote, as a VM's disk has it; and our vfat against the real fsck."""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.host.toolstree import tools_tree, vm_tree
from tests.support.blocklog import Barrier, Event, Mark, Replay, Write, read_log
from tests.support.bootmodel import BootModel
from tests.support.broken_updaters import HeadFirst, InPlace
from tests.support.nbd import write_through_qemu
from tests.support.recorded_update import LoggedReplay, Survey
from tests.support.update_disk import LOADER_DIGEST, TinyRelease, make_disk, make_release
from tests.support.update_story import WORLDS, Device, World

SEED = 21
Made = tuple[dict[int, TinyRelease], bytes]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    directory, tools = tmp_path_factory.mktemp("qemu"), tools_tree()
    releases = {
        version: make_release(version, directory, tools, root_bytes=60_000, uki_bytes=20_000) for version in (1, 2)
    }
    return releases, make_disk(releases[1], directory, tools)


def _updated(made: Made, world: World) -> tuple[Device, BootModel]:
    releases, disk = made
    model = BootModel([release.known for release in releases.values()], loader=LOADER_DIGEST)
    device = Device(bytearray(disk), model, world, releases)
    device.update(releases[2])
    device.files.unmount()
    return device, model


def test_a_log_of_qemu_is_read_and_replayed(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device, model = _updated(made, WORLDS[0])
    disk, log = tmp_path / "disk.raw", tmp_path / "disk.log"
    disk.write_bytes(made[1])
    write_through_qemu(disk, log, device.log, vm_tree())
    events = read_log(log)
    assert disk.read_bytes() == bytes(device.disk)
    assert events == list(_as_qemu(device.log))
    replay = Replay(bytearray(made[1]), events, seed=SEED, samples=32)
    outcomes = [model.boot(replay.disk) for _ in replay.cuts()]
    with capsys.disabled():
        print(f"\n  one cut, QEMU's log: {len(outcomes)} points ({dict(replay.counts)})")
    assert {(outcome.version, outcome.stumbled) for outcome in outcomes} == {(1, 0), (2, 0)}
    assert replay.disk == device.disk


@pytest.mark.parametrize("kind", [Device, InPlace, HeadFirst])
def test_a_replay_that_applies_no_write_comes_to_the_same_end(made: Made, kind: type[Device], tmp_path: Path) -> None:
    """As the log of a real device is replayed: what it does not look at could not have changed the outcome."""
    releases, shipped = made
    model = BootModel([release.known for release in releases.values()], loader=LOADER_DIGEST)
    device = kind(bytearray(shipped), model, WORLDS[0], releases)
    running = device.running()
    device.clear(running, releases[2])
    device.write_slot(running, releases[2])
    device.install(running, releases[2])
    image = tmp_path / "disk.raw"
    image.write_bytes(shipped)
    plain = Replay(bytearray(shipped), device.log, seed=SEED, samples=8)
    logged = LoggedReplay(image, device.log, seed=SEED, samples=8)
    expected = _outcomes(plain, model)
    found = _outcomes(logged, model)
    for (what, event), outcomes in expected.items():
        if what == "torn" and (what, event) not in found:
            assert set(outcomes) == set(found["boundary", event])
        else:
            assert outcomes == found[what, event]
    assert logged.counts == plain.counts
    assert logged.unseen > 100
    assert bytes(logged.disk[0 : len(logged.disk)]) == bytes(plain.disk)


def _outcomes(replay: Replay, model: BootModel) -> dict[tuple[str, int], Counter[tuple[int | None, int]]]:
    found: dict[tuple[str, int], Counter[tuple[int | None, int]]] = defaultdict(Counter)
    for cut in replay.cuts():
        outcome = model.boot(replay.disk)
        found[cut.kind, cut.event][outcome.version, outcome.stumbled] += 1
    return found


def test_a_cut_can_be_made_again(made: Made, tmp_path: Path) -> None:
    device, model = _updated(made, WORLDS[0])
    image = tmp_path / "disk.raw"
    image.write_bytes(made[1])
    replay = LoggedReplay(image, device.log, seed=SEED, samples=8)
    survey = Survey(replay, model, seed=SEED)
    assert not survey.faults
    points = survey.sample(8)
    assert {point.outcome.version for point in points} == {1, 2}
    for number, point in enumerate(points):
        disk = point.make(image, replay, tmp_path / f"{number}.raw")
        assert model.boot(bytearray(disk.read_bytes())) == point.outcome


def _as_qemu(log: list[Event]) -> Iterator[Event]:
    """A flush is of everything, and not passed on when nothing was written since the last one."""
    written = False
    for event in log:
        if isinstance(event, Write):
            yield event
            written = True
        elif written:
            yield Barrier()
            written = False


@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_what_our_vfat_leaves_is_a_volume_without_faults(made: Made, world: World, tmp_path: Path) -> None:
    device, model = _updated(made, world)
    start, size = device.partitions["esp"]
    image = tmp_path / "esp.img"
    image.write_bytes(device.disk[start : start + size])
    tools_tree().run(["fsck.vfat", "-n", image], reason="check the ESP", writable=[tmp_path])
    listed = tools_tree().run(["mdir", "-b", "-i", image, "::/EFI/Linux"], reason="list the ESP", writable=[tmp_path])
    assert sorted(listed.decode().split()) == ["::/EFI/Linux/edgeseal_1.efi", "::/EFI/Linux/edgeseal_2.efi"]
    copy = tmp_path / "uki"
    words = ["mcopy", "-n", "-i", image, "::/EFI/Linux/edgeseal_2.efi", copy]
    tools_tree().run(words, reason="read the ESP", writable=[tmp_path])
    assert copy.read_bytes() == made[0][2].uki
    assert model.boot(device.disk).version == 2


_SUPER = struct.pack("<QQQI", 0x6A736677736872, 1, 1, 512).ljust(512, b"\0")
_ENTRY = struct.pack("<QQQQ", 8, 2, 0, 0).ljust(512, b"\0")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (bytes(512), "disk.log: no log of block writes"),
        (_SUPER[:16] + bytes(496), "disk.log: no log of block writes"),
        (_SUPER + bytes(100), "disk.log: the log ends inside an entry"),
        (_SUPER + _ENTRY + bytes(512), "disk.log: the log ends inside a write"),
    ],
)
def test_a_log_that_cannot_be_read(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "disk.log"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"^{said}$"):
        read_log(path)


@pytest.mark.parametrize("counted", [4, 2, 0])
def test_flags_of_a_log(counted: int, tmp_path: Path) -> None:
    """counted: by the log's head, which QEMU brings up to date only now and then."""
    entries = [(0, 0, 1, b""), (8, 1, 2, b"a" * 512), (9, 2, 4, b""), (0, 0, 8, b"staged")]
    data = struct.pack("<QQQI", 0x6A736677736872, 1, counted, 512).ljust(512, b"\0")
    for sector, count, flags, more in entries:
        head = struct.pack("<QQQQ", sector, count, flags, len(more) if flags == 8 else 0)
        data += (head + more).ljust(512, b"\0") if flags == 8 else head.ljust(512, b"\0") + more
    path = tmp_path / "disk.log"
    path.write_bytes(data)
    assert read_log(path) == [
        Barrier(),
        Write(4096, b"a" * 512),
        Barrier(frozenset({8})),
        Write(4608, bytes(1024)),
        Mark("staged"),
    ]
