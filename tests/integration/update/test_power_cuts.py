"""Every moment at which the power can go during an update, and again while the device recovers from that.

Real partition table, file systems and hash trees; the device's own code over a model of Linux's vfat that records
every write (tests/support/vfat.py), replayed in every order that the page cache and the disk may choose. What boots is
decided by tests/support/bootmodel.py. docs/explanation/power-cuts.md tells what is covered, and what is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.formats.update_state import Step
from appliance.update.entries import Confirmed, FellBack, Quiet, Running
from builder.host.toolstree import tools_tree
from tests.support.blocklog import Replay
from tests.support.bootmodel import BootModel
from tests.support.broken_updaters import EntryFirst, HeadFirst, InPlace, NoSync, SlotFirst, TableToo, Textbook
from tests.support.update_disk import LOADER_DIGEST, TinyRelease, make_disk, make_release
from tests.support.update_story import WORLDS, Device, World, metadata_key, step_at

SAMPLES = 64
SAMPLES_OF_SECOND = 6
SEED = 20
UKI_BYTES = 48 << 10
ROOT_BYTES = 120 << 10
SMALL_ROOT_BYTES = 5000


class Bench:
    """Four releases, and the disk that the first of them was shipped on. first: its version."""

    def __init__(self, directory: Path, *, first: int, root_bytes: int, uki_bytes: int) -> None:
        tools = tools_tree()
        made = [
            make_release(version, directory, tools, root_bytes=root_bytes, uki_bytes=uki_bytes)
            for version in range(first, first + 4)
        ]
        self.shipped, self.here, self.next, self.after = made
        self.model = BootModel([release.known for release in made], loader=LOADER_DIGEST)
        self._releases = {release.version: release for release in made}
        self._disk = make_disk(self.shipped, directory, tools)

    def device(self, world: World, kind: type[Device] = Device) -> Device:
        """After its first update: `here` runs, confirmed, from slot b; `shipped` is in slot a."""
        device = self.switch_on(bytearray(self._disk), world, kind)
        device.update(self.here)
        device.files.unmount()
        return self.switch_on(device.disk, world, kind)

    def switch_on(self, disk: bytearray, world: World, kind: type[Device] = Device) -> Device:
        return kind(disk, self.model, world, self._releases)

    def faults(self, replay: Replay, *allowed: TinyRelease) -> Counter[str]:
        """Of every cut: what is not a clean start of an allowed version."""
        versions = {release.version for release in allowed}
        found: Counter[str] = Counter()
        for _ in replay.cuts():
            outcome = self.model.boot(replay.disk)
            if outcome.version is None:
                found["unbootable"] += 1
            elif outcome.version not in versions or outcome.stumbled:
                found["stumbled"] += 1
        return found


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("update"), first=1, root_bytes=ROOT_BYTES, uki_bytes=UKI_BYTES)


@pytest.fixture(scope="module")
def small_bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """For what is squared: few writes, but names so long that they cross sectors and make the directory grow."""
    return Bench(tmp_path_factory.mktemp("small"), first=2_000_000_001, root_bytes=SMALL_ROOT_BYTES, uki_bytes=3000)


@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_one_cut_anywhere_in_an_update_boots_the_old_or_the_new_version(
    world: World, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    device = bench.device(world)
    medium = bytearray(device.disk)
    device.update(bench.next)
    replay = Replay(medium, device.log, seed=SEED, samples=SAMPLES)
    faults = bench.faults(replay, bench.here, bench.next)
    _say(capsys, f"one cut, {world}", replay.counts, faults)
    assert not faults
    assert device.files.faults == []
    assert bench.model.boot(replay.disk).version == bench.next.version
    assert sum(replay.counts.values()) > 500


@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_two_cuts_the_second_during_the_recovery(
    world: World, small_bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = small_bench
    counts: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for disk, step in _after_first_cut(bench, world):
        device = bench.switch_on(bytearray(disk), world)
        device.resume(bench.next, step)
        replay = Replay(disk, device.log, seed=SEED, samples=SAMPLES_OF_SECOND)
        faults += bench.faults(replay, bench.here, bench.next)
        counts += replay.counts
        counts["first cuts"] += 1
    _say(capsys, f"two cuts, {world}", counts, faults)
    assert not faults
    assert counts["first cuts"] > 20


@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_after_any_cut_this_update_and_the_next_are_confirmed(world: World, small_bench: Bench) -> None:
    """What a cut leaves behind (lost clusters, names without clusters, two names for one chain) hurts nobody later."""
    bench = small_bench
    for disk, step in _after_first_cut(bench, world):
        device = bench.switch_on(disk, world)
        _finish(device, bench.next, step)
        if device.running().version != bench.next.version:
            device.update(bench.next)
        _finish(device, bench.next, None)
        device.update(bench.after)
        device.files.unmount()
        outcome = bench.model.boot(device.disk)
        assert (outcome.version, outcome.stumbled) == (bench.after.version, 0)
        assert outcome.entries[0] == f"edgeseal_{bench.after.version}.efi"


@pytest.mark.parametrize("kind", [SlotFirst, NoSync, HeadFirst, EntryFirst, InPlace, TableToo])
def test_the_replay_finds_an_updater_that_is_wrong(
    kind: type[Device], small_bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = small_bench
    faults: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for world in WORLDS:
        device = bench.device(world)
        _leave_a_trial_behind(device, bench.next)
        device = bench.switch_on(device.disk, world, kind)
        medium = bytearray(device.disk)
        _write_without_reboot(device, bench.here.running("b"), bench.after)
        replay = Replay(medium, device.log, seed=SEED, samples=SAMPLES)
        faults += bench.faults(replay, bench.here, bench.next, bench.after)
        counts += replay.counts
    _say(capsys, f"broken: {kind.__name__}", counts, faults)
    assert faults
    assert bool(faults["unbootable"]) == (kind in (InPlace, TableToo))


def test_the_textbook_rename_becomes_unbootable_after_two_cuts(
    small_bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """Why nothing is renamed: a cut leaves two names on one chain, and removing one frees what the other boots."""
    bench = small_bench
    faults: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    world = World(reuse=True, eager=True)
    for disk, step in _after_first_cut(bench, world, Textbook):
        device = bench.switch_on(disk, world, Textbook)
        device.resume(bench.next, step)
        device.files.unmount()
        running = device.running()
        if running.version == bench.next.version:
            medium = bytearray(device.disk)
            device = bench.switch_on(device.disk, world, Textbook)
            _write_without_reboot(device, running, bench.after)
            replay = Replay(medium, device.log, seed=SEED, samples=0)
            faults += bench.faults(replay, bench.next, bench.after)
            counts += replay.counts
    _say(capsys, "broken: Textbook", counts, faults)
    assert faults["unbootable"]


def _after_first_cut(
    bench: Bench, world: World, kind: type[Device] = Device
) -> Iterator[tuple[bytearray, Step | None]]:
    """A disk for each different state of the ESP that a cut leaves, with each step that the journal may name."""
    device = bench.device(world, kind)
    start = device.partitions["esp"][0]
    medium = bytearray(device.disk)
    device.update(bench.next)
    replay = Replay(medium, device.log, seed=SEED, samples=SAMPLES)
    seen = set()
    for cut in replay.cuts():
        for step in step_at(device.steps, cut.event):
            key = (metadata_key(replay.disk, start), step)
            if key not in seen:
                seen.add(key)
                yield bytearray(replay.disk), step


def _finish(device: Device, target: TinyRelease, step: Step | None) -> None:
    """Boot until nothing is on its way."""
    for _ in range(4):
        situation = device.resume(target, step)
        device.files.unmount()
        if isinstance(situation, Quiet | FellBack):
            return
        step = None if isinstance(situation, Confirmed) else "activated"
    raise AssertionError(f"after four boots it is still {situation}")


def _write_without_reboot(device: Device, running: Running, target: TinyRelease) -> None:
    device.clear(running, target)
    device.write_slot(running, target)
    device.install(running, target)


def _leave_a_trial_behind(device: Device, target: TinyRelease) -> None:
    """It is in the other slot, its entry in place, and it was not booted yet."""
    _write_without_reboot(device, device.running(), target)
    device.files.unmount()


def _say(capsys: pytest.CaptureFixture[str], what: str, counts: Counter[str], faults: Counter[str]) -> None:
    """The number of points belongs to the result."""
    first = counts["first cuts"]
    points = {name: count for name, count in sorted(counts.items()) if name != "first cuts"}
    total = f"{sum(points.values())} points ({', '.join(f'{name} {count}' for name, count in points.items())})"
    after = f", after {first} first cuts" if first else ""
    with capsys.disabled():
        print(f"\n  {what}: {total}{after}; {sum(faults.values())} faults, {faults['unbootable']} unbootable")
    if not faults["unbootable"]:
        del faults["unbootable"]
