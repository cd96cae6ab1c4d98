"""An update from its first write to its confirmation, on a recorded disk: the device's code, and who else writes there.

The medium is what a power cut leaves; the cache is what the running system sees. A mount is a VfatDirectory over the
cache, and what it logs is replayed over the medium.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from appliance.formats.update_state import Step, Trial
from appliance.update.entries import (
    Confirmed,
    Entry,
    EntryLost,
    MustActivate,
    MustReboot,
    MustStage,
    Running,
    Situation,
    judge,
)
from appliance.update.esp import clear_entries, install_entry, list_entries, tidy
from tests.support.blocklog import Barrier, Event, Write
from tests.support.bootmodel import BootModel
from tests.support.fat import FatError, FatVolume
from tests.support.update_disk import Served, TinyRelease
from tests.support.vfat import VfatDirectory

ENTRIES = "EFI/Linux"
CHUNK = 16 << 10
TRIES = 3


@dataclass(frozen=True)
class World:
    """How the kernel behaves where it is free to. See VfatDirectory."""

    reuse: bool
    eager: bool

    def __str__(self) -> str:
        return f"{'reuse' if self.reuse else 'next'}-{'eager' if self.eager else 'lazy'}"


WORLDS = [World(reuse, eager) for reuse in (True, False) for eager in (True, False)]


class Device:
    """One device that is switched on. disk: what it sees; log: what it wrote since."""

    def __init__(self, disk: bytearray, model: BootModel, world: World, releases: dict[int, TinyRelease]) -> None:
        self.disk, self.model, self.world, self.releases = disk, model, world, releases
        self.log: list[Event] = []
        self.steps: list[tuple[int, Step | None]] = []  # from which event on the journal says what
        self.partitions = model.partitions(disk)
        self.files = self.mount()
        self.counted: str | None = None

    def mount(self) -> VfatDirectory:
        """A boot: what the page cache knew is gone, what it wrote is not."""
        files = VfatDirectory(
            self.disk, self.partitions["esp"][0], ENTRIES, reuse=self.world.reuse, eager=self.world.eager
        )
        files.log = self.log
        return files

    def running(self) -> Running:
        """What boots from the disk as it is."""
        version = self.model.boot(self.disk).version
        assert version is not None
        release = self.releases[version]
        at = self.partitions["root-a"][0]
        in_a = self.disk[at + 1024 + 48 : at + 1024 + 64] == release.known.data_uuid
        return release.running("a" if in_a else "b")

    def announce(self, step: Step | None) -> None:
        """The journal, which is on another partition and durable at once."""
        self.steps.append((len(self.log), step))

    def clear(self, running: Running, target: TinyRelease) -> None:
        clear_entries(self.files, running, content=target.content)

    def write_slot(self, running: Running, target: TinyRelease) -> None:
        """In chunks, as staging does; synced in between."""
        slot = "b" if running.slot == "a" else "a"
        for label, data in ((f"root-{slot}", target.data), (f"root-{slot}-verity", target.hashes)):
            start = self.partitions[label][0]
            for at in range(0, len(data), CHUNK):
                piece = data[at : at + CHUNK]
                self.disk[start + at : start + at + len(piece)] = piece
                self.log.append(Write(start + at, bytes(piece)))
        self.log.append(Barrier())

    def install(self, running: Running, target: TinyRelease) -> None:
        entry = Entry(target.version, TRIES, 0)
        install_entry(self.files, entry, target.content, Served(target), running, root_hash=target.root_hash)

    def reboot(self) -> None:
        """Unmount, then systemd-boot counts a try by renaming what it starts, if the new name is free."""
        self.files.unmount()
        self.files = self.mount()
        chosen = self.model.boot(self.disk)
        entry = next((item for item in self._entries() if item.name == chosen.entries[0]), None)
        self.counted = None  # the variable LoaderBootCountPath
        if entry is not None and entry.left:
            counted = Entry(entry.version, entry.left - 1, entry.done + 1).name
            if counted not in self.files.names():
                self.files.rename(entry.name, counted)
                self.counted = counted
            self.files.unmount()
            self.files = self.mount()

    def bless(self) -> None:
        """As systemd-bless-boot: rename, fsync of the directory, syncfs. Then the updater's own sync, with a flush."""
        good = Entry(self.running().version).name
        if self.counted is not None and good not in self.files.names():
            self.files.rename(self.counted, good)
            self.files.sync_names()
            self.files.syncfs()
        self.files.sync_names()

    def update(self, target: TinyRelease) -> None:
        """All of it."""
        running = self.running()
        self.announce("decided")
        self.clear(running, target)
        self.write_slot(running, target)
        self.announce("staged")
        self.install(running, target)
        self.announce("activated")
        self.reboot()
        self.bless()
        self.announce(None)

    def resume(self, target: TinyRelease, step: Step | None) -> Situation:
        """The boot after a power cut, and what the service does then. Returns what it found."""
        self.reboot()
        running = self.running()
        tidy(self.files, running)
        trial = None if step is None else _trial(target, "b" if running.slot == "a" else "a", step)
        if trial is not None and running.version == target.version:
            trial = _trial(target, running.slot, step or "decided")
        situation = judge(list_entries(self.files), running, trial)
        self._act(situation, running, target)
        return situation

    def _act(self, situation: Situation, running: Running, target: TinyRelease) -> None:
        if isinstance(situation, MustStage):
            self.clear(running, target)
            self.write_slot(running, target)
            self.install(running, target)
            self.reboot()
        elif isinstance(situation, MustActivate):
            self.install(running, target)
            self.reboot()
        elif isinstance(situation, MustReboot):
            self.reboot()
        elif isinstance(situation, EntryLost):
            own = self.releases[running.version]
            entry = Entry(running.version)
            install_entry(self.files, entry, own.content, Served(own), running, root_hash=own.root_hash)
        if not isinstance(situation, Confirmed):
            self.bless()

    def _entries(self) -> list[Entry]:
        return [item.entry for item in list_entries(self.files) if item.entry is not None]


def step_at(steps: list[tuple[int, Step | None]], event: int) -> list[Step | None]:
    """What the journal may say when the power goes at that event: a step is announced before what follows it."""
    return [[step for at, step in steps if at <= event][-1], *[step for at, step in steps if at == event][:-1]]


def metadata_key(disk: bytearray, start: int) -> bytes:
    """Equal for two disks whose ESP differs only in the middle of files: the tables, the directory, first sectors."""
    volume = FatVolume(disk, start)
    digest = hashlib.sha256()
    for table in volume.layout.tables:
        digest.update(volume.bytes_at(table, 16 * 512))
    home = volume.find(ENTRIES)
    for cluster in volume.chain(home.cluster):
        digest.update(volume.bytes_at(volume.layout.at(cluster), volume.layout.cluster))
    for node in volume.list(home):
        try:
            digest.update(volume.bytes_at(volume.layout.at(node.cluster), 512))
        except FatError:
            digest.update(struct.pack("<I", node.cluster))
    return digest.digest()


def _trial(target: TinyRelease, slot: str, step: Step) -> Trial:
    return Trial(
        transaction="0" * 16,
        release="0" * 64,
        version=target.version,
        security_epoch=0,
        slot=slot,  # type: ignore[arg-type]
        step=step,
        confirm="online",
    )
